"""TensorFlow Lite Micro: fewer operators and types, no kernel for mixed types, nothing can be resized."""

from __future__ import annotations

from collections.abc import Iterator

from edgelstm.runtime.runtimes import FAMILIES, RuntimeFamily, value_position
from edgelstm.runtime.support.base import Runtime, Verdict, listed, refused
from edgelstm.runtime.support.facts import Facts, OperatorUse
from edgelstm.runtime.support.interpreters import KERNEL_TRAPS, judge_state

_WEIGHTS = 1  # position of the weights of a matrix product among its inputs
_LSTM_WEIGHTS = 2
_MIXED = frozenset({"BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SVDF", "TRANSPOSE_CONV"})
_INTEGERS = frozenset({"int4", "int8", "uint8"})
_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
_NUM_LSTM_INPUTS = 24

# Its LSTM kernel is another one: it takes any scale of the cell state, and has one activation.
_TRAPS = {
    **{code: why for code, why in KERNEL_TRAPS.items() if not code.startswith("cell-scale")},
    "linear-activation": "its LSTM kernel computes tanh and nothing else",
}


def micro_rule(facts: Facts) -> Verdict:
    """The rule of TensorFlow Lite Micro."""
    reasons = list(dict.fromkeys(_refusals(facts.operators)))
    if reasons:
        return refused(listed(reasons, most=2), "micro")
    if facts.has_computed_sizes:
        return Verdict("yes", "no", "it computes no sizes while it runs, as this file needs, and may hang", "micro")
    if any(_is_mixed(operator, _LSTM_WEIGHTS) for operator in facts.operators if operator.name == _LSTM):
        return Verdict(
            "yes", "no", "its LSTM answers NaN, without an error, for float values with int8 weights", "micro"
        )
    known = FAMILIES["micro"].lstm_activations
    if known is not None and any(lstm.activation not in known for lstm in facts.inspection.lstms):
        return Verdict("yes", "no", "its LSTM kernel computes tanh and nothing else", "micro")
    verdict = judge_state(facts, _TRAPS)
    if verdict.right == "yes" and facts.has_open_sizes:
        return Verdict("yes", "yes", "only in the sizes that stand in the file: nothing can be resized")
    return verdict


def _refusals(operators: tuple[OperatorUse, ...]) -> Iterator[str]:
    family = FAMILIES["micro"]
    for operator in operators:
        dtype = _dtype(operator, value_position(operator.name))
        if operator.is_custom or not family.takes(operator.name):
            yield f"it has no {operator.name}"
        elif not family.takes(operator.name, dtype):
            yield f"its {operator.name} takes no {dtype}"
        elif not family.takes_size(operator.name, len(operator.inputs), operator.rank):
            yield f"its {operator.name} takes fewer {_excess(operator, family)}"
        elif operator.name in _MIXED and _is_mixed(operator, _WEIGHTS):
            yield f"its {operator.name} takes no float values with {_dtype(operator, _WEIGHTS)} weights"
        elif operator.name == _LSTM and len(operator.inputs) != _NUM_LSTM_INPUTS:
            yield f"its LSTM takes {_NUM_LSTM_INPUTS} inputs, not {len(operator.inputs)}"


def _excess(operator: OperatorUse, family: RuntimeFamily) -> str:
    """Returns what an operator has too many of."""
    if family.takes_size(operator.name, len(operator.inputs), 0):
        return f"than {operator.rank} axes"
    return f"than {len(operator.inputs)} inputs"


def _dtype(operator: OperatorUse, position: int) -> str | None:
    return operator.inputs[position] if position < len(operator.inputs) else None


def _is_mixed(operator: OperatorUse, weights: int) -> bool:
    return _dtype(operator, 0) == "float32" and _dtype(operator, weights) in _INTEGERS


TFLITE_MICRO = Runtime(
    "tflite-micro",
    "TensorFlow Lite Micro",
    micro_rule,
    "tflite-micro",
    ("https://github.com/tensorflow/tflite-micro/blob/main/python/tflite_micro/python_ops_resolver.cc",),
    has_reset=True,
)
