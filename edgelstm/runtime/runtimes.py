"""What a model can be made for: the families of runtimes, and what a file for each of them may hold.

One table that the command line (`--runtime`), the lowering and the support matrix read. A family is not a program:
the Interpreter of LiteRT, that of tflite-runtime and that of Android take the same files and are one family. What runs
a file on this machine is an engine; each family names the engines that it is verified on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from edgelstm.errors import LoweringError

Form = Literal["fused", "loop", "unrolled"]

# The precisions that the exporters know, in the order of the command line.
_ALL_PRECISIONS = ("float32", "float16", "dynamic", "int8")

# What the resolver of the Python package has, and thus what a file can be verified with; MicroMutableOpResolver in C++
# knows the same. Source: github.com/tensorflow/tflite-micro, python/tflite_micro/python_ops_resolver.cc.
_MICRO_NAMES = """
ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE DIV
DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED
GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOG
LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG
NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESHAPE
RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND
SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE
TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
"""
MICRO_OPERATORS = frozenset(_MICRO_NAMES.split())

# Which of its operators take which element types; those that are not listed take all. Others are refused, when the file
# is loaded or at the first call. Source: tensorflow/lite/micro/kernels there, and files with one operator each.
_MICRO_TYPES = {
    "bool": "LOGICAL_AND LOGICAL_NOT LOGICAL_OR REDUCE_ALL",
    "float32": "CEIL COS EXP FLOOR FLOOR_DIV FLOOR_MOD L2_POOL_2D LOG NEG ROUND SIN SQRT SQUARE",
    "float32 int8": "ADD_N ARG_MAX ARG_MIN BATCH_TO_SPACE_ND CUMSUM DEPTH_TO_SPACE ELU EMBEDDING_LOOKUP GATHER "
    "GATHER_ND HARD_SWISH L2_NORMALIZATION LOG_SOFTMAX MIRROR_PAD REDUCE_MAX REDUCE_MIN RESIZE_BILINEAR "
    "SPACE_TO_BATCH_ND SPACE_TO_DEPTH",
    "float32 int8 int16": "ABS AVERAGE_POOL_2D BATCH_MATMUL CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED "
    "LEAKY_RELU LOGISTIC MAX_POOL_2D MEAN PRELU RELU RELU6 RESIZE_NEAREST_NEIGHBOR RSQRT SELECT_V2 SOFTMAX SUM SVDF "
    "TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM",
    "float32 int8 int16 int32": "ADD DYNAMIC_UPDATE_SLICE MUL PAD PADV2 QUANTIZE SPLIT SPLIT_V SQUARED_DIFFERENCE SUB "
    "UNPACK",
    "float32 int8 int16 int32 bool": "CAST SLICE STRIDED_SLICE",
    "float32 int8 int16 int32 int64": "GREATER MAXIMUM MINIMUM PACK",
    "float32 int8 int16 int32 int64 bool": "CONCATENATION REVERSE_V2",
    "float32 int8 int32": "DIV FILL",
    "float32 int8 int32 int64": "GREATER_EQUAL LESS LESS_EQUAL ZEROS_LIKE",
    "float32 int8 int32 int64 bool": "EQUAL NOT_EQUAL",
    "int8 int16 uint8": "DEQUANTIZE",
}
MICRO_TYPES = {
    operator: frozenset(types.split()) for types, operators in _MICRO_TYPES.items() for operator in operators.split()
}

_MICRO_MAX_INPUTS = {"CONCATENATION": 10}
_MICRO_MAX_RANK = {"BROADCAST_TO": 5, "SLICE": 5, "STRIDED_SLICE": 4, "TRANSPOSE": 5}
_MICRO_ANY_RANK = 6

_VALUE_POSITION = {"EMBEDDING_LOOKUP": 1, "FILL": 1, "SELECT_V2": 1, "SPLIT": 1}


def value_position(operator: str) -> int:
    """Returns which input of an operator has the element type that it computes in: not an axis, an index, a shape."""
    return _VALUE_POSITION.get(operator, 0)


@dataclass(frozen=True)
class RuntimeFamily:
    """One choice of `--runtime`.

    Attributes:
        name: The choice.
        title: The runtimes of the family, for people.
        form: How an LSTM stands in a file for it: "fused" is the operator with its state in variable tensors, "loop" a
            WHILE, "unrolled" the operators of every step one after the other.
        variables: Whether a file may hold variable tensors.
        subgraphs: Whether a file may hold more than one subgraph, which a WHILE needs.
        engines: What verifies a file on this machine, by preference; the others where the first is not installed.
        precisions: Precisions that it computes.
        operators: Built-in operators that it has, None for all of them.
        types: Element types that an operator takes at its `value_position`, where they are fewer than those of the
            Interpreter.
        max_inputs: Most inputs of an operator, where that is limited.
        max_rank: Most axes of an operator's inputs, where an operator has a limit of its own.
        any_rank: Most axes of any tensor, None where that does not limit models.
        interface_types: Element types that inputs and outputs may have, None for all.
        lstm_activations: Activations that its LSTM operator computes, None for all that the operator has.
        why_form: Why not the fused operator, as a clause; empty where it is fused.
        why_precisions: Why not every precision, as a clause; empty where all are there.
    """

    name: str
    title: str
    form: Form
    variables: bool
    subgraphs: bool
    engines: tuple[str, ...]
    precisions: tuple[str, ...] = _ALL_PRECISIONS
    operators: frozenset[str] | None = None
    types: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    max_inputs: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    max_rank: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    any_rank: int | None = None
    interface_types: frozenset[str] | None = None
    lstm_activations: frozenset[str] | None = None
    why_form: str = ""
    why_precisions: str = ""

    def takes(self, operator: str, dtype: str | None = None) -> bool:
        """Returns whether it has a built-in operator, for values of an element type if one is given."""
        if self.operators is not None and operator not in self.operators:
            return False
        return dtype is None or operator not in self.types or dtype in self.types[operator]

    def takes_tensor(self, dtype: str) -> bool:
        """Returns whether inputs and outputs may be of an element type, and arithmetic takes it."""
        return (self.interface_types is None or dtype in self.interface_types) and self.takes("ADD", dtype)

    def takes_size(self, operator: str, num_inputs: int, rank: int) -> bool:
        """Returns whether a built-in operator may have so many inputs, of at most so many axes."""
        most = self.max_rank.get(operator, self.any_rank)
        return num_inputs <= self.max_inputs.get(operator, num_inputs) and (most is None or rank <= most)

    def check_precision(self, precision: str) -> None:
        """Refuses a precision that the family does not compute.

        Raises:
            LoweringError: If it is none of `precisions`.
        """
        if precision not in self.precisions:
            known = " or ".join([", ".join(self.precisions[:-1]), self.precisions[-1]])
            raise LoweringError(f"{self.title} cannot run {precision}: {self.why_precisions}. Use {known}.")


_NO_VARIABLES = "its loader refuses variable tensors, in which the LSTM operator keeps its state"

FAMILIES: dict[str, RuntimeFamily] = {
    family.name: family
    for family in (
        RuntimeFamily(
            name="interpreter",
            title="the TensorFlow Lite Interpreter",
            form="fused",
            variables=True,
            subgraphs=True,
            engines=("ai-edge-litert", "tflite-runtime"),
        ),
        RuntimeFamily(
            name="compiled",
            title="LiteRT CompiledModel",
            form="loop",
            variables=False,
            subgraphs=True,
            engines=("litert-compiled", "ai-edge-litert"),
            interface_types=frozenset({"bool", "float16", "float32", "int32", "int8", "uint8"}),
            why_form=_NO_VARIABLES,
        ),
        RuntimeFamily(
            name="web",
            title="LiteRT.js",
            form="loop",
            variables=False,
            subgraphs=True,
            engines=("litertjs", "litert-compiled", "ai-edge-litert"),
            interface_types=frozenset({"float32", "int32", "uint8"}),
            why_form=_NO_VARIABLES,
        ),
        RuntimeFamily(
            name="mediapipe",
            title="MediaPipe Tasks",
            form="unrolled",
            variables=False,
            subgraphs=False,
            engines=("mediapipe", "ai-edge-litert"),
            interface_types=frozenset({"bool", "float32", "int32", "uint8"}),
            why_form="it keeps the state of the fused operator from call to call, and takes no file with a loop",
        ),
        RuntimeFamily(
            name="micro",
            title="TensorFlow Lite Micro",
            form="fused",
            variables=True,
            subgraphs=True,
            engines=("tflite-micro", "ai-edge-litert"),
            precisions=("float32", "int8"),
            operators=MICRO_OPERATORS,
            types=MappingProxyType(MICRO_TYPES),
            max_inputs=MappingProxyType(_MICRO_MAX_INPUTS),
            max_rank=MappingProxyType(_MICRO_MAX_RANK),
            any_rank=_MICRO_ANY_RANK,
            lstm_activations=frozenset({"tanh"}),
            why_precisions="it has no kernels for float16, and none that mix int8 weights with float values",
        ),
    )
}
"""The choices of `--runtime`, the default first."""


def family(name: str) -> RuntimeFamily:
    """Returns the family of a name.

    Raises:
        ValueError: If there is none.
    """
    try:
        return FAMILIES[name]
    except KeyError:
        raise ValueError(f"Runtime {name!r} is not known. Known are {', '.join(FAMILIES)}.") from None
