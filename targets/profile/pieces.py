"""The operators of a .tflite file as amounts of work."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from edgelstm.runtime.inspection.lstm import INPUT
from edgelstm.runtime.inspection.macs import LSTM_WEIGHTS, operator_macs
from edgelstm.runtime.inspection.records import DamagedError, GraphRecord, OperatorRecord, TensorRecord

_BYTES = {
    "int4": 0.5, "uint4": 0.5, "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2,
    "int64": 8, "uint64": 8, "float64": 8, "complex64": 8, "complex128": 16,
}  # fmt: skip
_VIEWS = frozenset({"EXPAND_DIMS", "RESHAPE", "SQUEEZE"})
_NONLINEAR = frozenset({"EXP", "GELU", "HARD_SWISH", "LOGISTIC", "SOFTMAX", "TANH"})
_PARTS = frozenset({"EMBEDDING_LOOKUP", "GATHER", "GATHER_ND", "SLICE", "SPLIT", "SPLIT_V", "STRIDED_SLICE"})
_OF_EACH_ROW = (
    "macs",
    "activations",
    "integer_activations",
    "quantized",
    "elements",
    "moved_bytes",
    "steps",
    "dot_products",
)
_PRECISIONS = {
    ("float32", "float32"): "float32",
    ("float32", "int8"): "dynamic",
    ("int8", "int8"): "int8",
    ("int16", "int8"): "int16",
}


@dataclass(frozen=True)
class Piece:
    """An operator.

    Attributes:
        operator: Its name.
        kernel: Name in `edgelstm.targets.profile.cost.KERNELS`, without the runtime's; None if it multiplies nothing.
        macs: Multiply-accumulates of one run.
        weight_bytes: Size of what is multiplied with, as it lies in memory.
        weights: What tells it from other weights.
        passes: How often it is read from one end to the other in one run: a recurrent product reads it at each step.
        activations: Values of float sigmoid, tanh and their like.
        integer_activations: The same of integers.
        quantized: Values that are quantized on the way, at each call, because weights are int8 and activations float.
        elements: Values of all other arithmetic.
        moved_bytes: Size of inputs and outputs that are no constants.
        steps: Time steps of a fused LSTM, of all rows of the batch.
        dot_products: Rows of weights times a vector, in a fused LSTM: each begins a loop and ends with a sum.
        operators: How many operators of the file are exactly like this one, weights included.
        runs: How often they are run in one call, together: more often than there are of them in a loop.
    """

    operator: str
    kernel: str | None = None
    macs: int = 0
    weight_bytes: int = 0
    weights: tuple[int, ...] = ()
    passes: int = 1
    activations: int = 0
    integer_activations: int = 0
    quantized: int = 0
    elements: int = 0
    moved_bytes: int = 0
    steps: int = 0
    dot_products: int = 0
    operators: int = 1
    runs: int = 1

    def for_batch(self, factor: int) -> Piece:
        """Returns the same for a batch that is so many times as large: only the weights stay as they are."""
        values = {name: getattr(self, name) * factor for name in _OF_EACH_ROW}
        return dataclasses.replace(self, **values, passes=self.passes * factor if self.steps else self.passes)


def lstm_piece(graph: GraphRecord, operator: OperatorRecord, key: tuple[int, ...]) -> Piece:
    """Reads a fused LSTM: its kernel multiplies with all its weights at each step of each row."""
    positions = LSTM_WEIGHTS.get(operator.name, (2,))
    weights = [tensor for position in positions if (tensor := graph.tensor(operator.inputs, position)) is not None]
    source = graph.tensor(operator.inputs, INPUT)
    if source is None or not weights:
        raise DamagedError(f"an operator {operator.name} comes without its input or its weights")
    directions = 2 if operator.name == "BIDIRECTIONAL_SEQUENCE_LSTM" else 1
    rows = math.prod(source.shape[:-1])
    units = weights[-1].shape[0] // (1 if operator.name in LSTM_WEIGHTS else 4)
    gates = 4 * units * rows * directions
    is_float, precision = source.dtype == "float32", _PRECISIONS.get((source.dtype, weights[0].dtype), "float32")
    nonlinear = gates + units * rows * directions  # of the four gates, and of the cell state
    return Piece(
        operator.name,
        kernel=f"lstm_{precision}",
        macs=operator_macs(graph, operator) or 0,
        weight_bytes=sum(map(size_bytes, weights)),
        weights=key,
        passes=rows,
        activations=nonlinear if is_float else 0,
        integer_activations=0 if is_float else nonlinear,
        quantized=(source.shape[-1] + units) * rows * directions if precision == "dynamic" else 0,
        elements=2 * gates,  # the bias of each gate, and four operations for cell and hidden state
        steps=rows * directions,
        dot_products=2 * gates,  # of the input and of the state
    )


def product_piece(graph: GraphRecord, operator: OperatorRecord, macs: int, key: tuple[int, ...]) -> Piece:
    """Reads a matrix product or a convolution."""
    position = 2 if operator.name == "TRANSPOSE_CONV" else INPUT
    source, weights = graph.tensor(operator.inputs, position), graph.tensor(operator.inputs, 1)
    assert source is not None
    assert weights is not None
    precision = _PRECISIONS.get((source.dtype, weights.dtype), "float32")
    return Piece(
        operator.name,
        kernel=precision,
        macs=macs,
        weight_bytes=size_bytes(weights),
        weights=key,
        quantized=_size(source) if precision == "dynamic" else 0,
        elements=sum(_size(graph.tensors[index]) for index in operator.outputs),
    )


def plain_piece(graph: GraphRecord, operator: OperatorRecord, moved: int) -> Piece:
    """Reads an operator that multiplies nothing with weights."""
    outputs = [graph.tensors[index] for index in operator.outputs]
    num_values = sum(map(_size, outputs))
    if operator.name in _VIEWS:
        return Piece(operator.name)
    if operator.name in _PARTS:  # they read what they write, not the whole of their input
        return Piece(operator.name, moved_bytes=2 * sum(map(size_bytes, outputs)))
    if operator.name not in _NONLINEAR:
        return Piece(operator.name, elements=num_values, moved_bytes=moved)
    if outputs[0].dtype.startswith("float"):
        return Piece(operator.name, activations=num_values, moved_bytes=moved)
    return Piece(operator.name, integer_activations=num_values, moved_bytes=moved)


def _size(tensor: TensorRecord) -> int:
    return math.prod(tensor.shape)


def size_bytes(tensor: TensorRecord) -> int:
    """Returns what a tensor takes in memory."""
    return math.ceil(_size(tensor) * _BYTES.get(tensor.dtype, 4))
