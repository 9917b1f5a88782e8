"""Delegates: they take parts of a model from the Interpreter, which computes the rest on the CPU.

None of them can be run here, so their rules are what their documentation or their source says.
"""

from __future__ import annotations

from functools import partial

from edgelstm.runtime.support.base import Runtime, Verdict
from edgelstm.runtime.support.facts import Facts, OperatorUse
from edgelstm.runtime.support.interpreters import litert_rule

_TENSORFLOW = "https://github.com/tensorflow/tensorflow/blob/v2.18.0/tensorflow/lite/delegates/"
_LSTM_WEIGHTS = 2  # position among the inputs
_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
_LSTMS = (_LSTM, "BIDIRECTIONAL_SEQUENCE_LSTM", "LSTM")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Operators that they have, by name; which of their forms is a question of shapes and types.
_GPU = _names(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED LOGISTIC MAXIMUM MAX_POOL_2D MINIMUM
    MUL PAD PRELU RELU RELU6 RESHAPE RESIZE_BILINEAR SOFTMAX STRIDED_SLICE SUB TRANSPOSE_CONV
    """
)
_CORE_ML = _names(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED HARD_SWISH LOGISTIC MAX_POOL_2D
    MIRROR_PAD MUL PAD PADV2 RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR SOFTMAX TANH TRANSPOSE_CONV
    """
)
_HEXAGON = _names(
    """
    ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTH_TO_SPACE DEPTHWISE_CONV_2D FULLY_CONNECTED
    HARD_SWISH L2_NORMALIZATION LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG PACK PAD QUANTIZE RELU
    RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SLICE SOFTMAX SPACE_TO_DEPTH SPLIT STRIDED_SLICE SUB TANH
    TRANSPOSE TRANSPOSE_CONV
    """
)


def _rule(takes: frozenset[str], only_integers: bool, facts: Facts) -> Verdict:
    """The rule of a delegate that has no LSTM operator and no loops."""
    verdict = litert_rule(facts)
    if verdict.loads != "yes":
        return verdict
    return Verdict("yes", verdict.right, _what_stays(facts, takes, only_integers))


def _what_stays(facts: Facts, takes: frozenset[str], only_integers: bool) -> str:
    if only_integers and not any("int8" in operator.inputs[:1] for operator in facts.operators):
        return "everything stays on the CPU: it computes int8 only"
    counts = facts.operator_counts
    if not counts.keys().isdisjoint(_LSTMS):
        return "the LSTM stays on the CPU"
    if "WHILE" in counts:
        return "the loop stays on the CPU"
    taken, total = sum(count for name, count in counts.items() if name in takes), sum(counts.values())
    return f"it can take {taken} of {total} operators at most"


def nnapi_rule(facts: Facts) -> Verdict:
    """The rule of the NNAPI delegate, which has the float LSTM: a driver of the phone then holds the state."""
    verdict = litert_rule(facts)
    if verdict.loads != "yes":
        return verdict
    counts = facts.operator_counts
    if any(operator.name == _LSTM and _is_float(operator) for operator in facts.operators):
        why = "from Android 10 on a driver may run the LSTM; whether the state in it is reset is not known"
        return Verdict("yes", "unknown", why)
    if not counts.keys().isdisjoint(_LSTMS):
        return Verdict("yes", verdict.right, "the LSTM stays on the CPU")
    if "WHILE" in counts:
        return Verdict("yes", verdict.right, "the loop stays on the CPU")
    return Verdict("yes", "unknown", "which operators a driver takes, and how exactly, depends on the phone")


def _is_float(operator: OperatorUse) -> bool:
    return operator.version <= 2 and operator.inputs[_LSTM_WEIGHTS : _LSTM_WEIGHTS + 1] == ("float32",)


GPU_DELEGATE = Runtime(
    "gpu-delegate",
    "GPU delegate",
    partial(_rule, _GPU, False),
    None,
    (_TENSORFLOW + "gpu/README.md",),
    is_delegate=True,
)
NNAPI_DELEGATE = Runtime(
    "nnapi-delegate",
    "NNAPI delegate",
    nnapi_rule,
    None,
    (
        _TENSORFLOW + "nnapi/nnapi_delegate.cc",
        "https://developer.android.com/ndk/guides/neuralnetworks/migration-guide",
    ),
    is_delegate=True,
)
CORE_ML_DELEGATE = Runtime(
    "core-ml-delegate",
    "Core ML delegate",
    partial(_rule, _CORE_ML, False),
    None,
    (_TENSORFLOW + "coreml/README.md",),
    is_delegate=True,
)
HEXAGON_DELEGATE = Runtime(
    "hexagon-delegate",
    "Hexagon delegate",
    partial(_rule, _HEXAGON, True),
    None,
    (_TENSORFLOW + "hexagon/README.md",),
    is_delegate=True,
)
