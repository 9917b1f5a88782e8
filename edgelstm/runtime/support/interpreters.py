"""The Interpreter of ai-edge-litert and that of tflite-runtime, which differ in what operators they know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgelstm.runtime.support.base import RIGHT, Runtime, Verdict, listed, refused
from edgelstm.runtime.support.facts import Facts, OperatorUse
from edgelstm.runtime.support.versions import CUSTOM_OPERATORS, LITERT, OLDEST, TFLITE_RUNTIME

# Traps whose files the kernels answer wrongly on every call, by the code of the warning.
KERNEL_TRAPS = {
    "cell-scale-too-small": "its int8 LSTM answers the same whatever the input: the cell state's scale is too small",
    "cell-scale-too-large": "its int8 LSTM computes no tanh: the cell state's scale is too large",
    "lstm-scales-disagree": "its int8 LSTM has scales that do not agree",
    "int8-activation": "its int8 LSTM computes tanh, whatever activation the file asks for",
    "linear-activation": "its LSTM kernel computes no linear activation",
}


# What tflite-runtime does not compute of a version that it knows.
_MISSING_TYPES = {("DYNAMIC_UPDATE_SLICE", "int16")}


def missing_operators(facts: Facts, versions: Mapping[str, int]) -> str:
    """Returns which operators a runtime lacks, as a clause; empty if it has all."""
    missing = list(dict.fromkeys(_missing(facts.operators, versions)))
    return f"it does not know {listed(missing)}" if missing else ""


def _missing(operators: tuple[OperatorUse, ...], versions: Mapping[str, int]) -> Iterator[str]:
    for operator in operators:
        if operator.is_custom:
            if operator.name not in CUSTOM_OPERATORS:
                yield f"the custom operator {operator.name}"
        elif operator.name not in versions:
            yield operator.name
        elif not OLDEST.get(operator.name, 1) <= operator.version <= versions[operator.name]:
            yield f"{operator.name} of version {operator.version}"


def judge_state(facts: Facts, traps: Mapping[str, str]) -> Verdict:
    """Says how a file that loads answers on a runtime with variable tensors that an app can reset.

    Args:
        facts: About the file.
        traps: What the runtime computes wrongly, by the code of the warning about the file.
    """
    codes = [warning.code for warning in facts.inspection.warnings if warning.code in traps]
    if codes:
        return Verdict("yes", "no", traps[codes[0]], "interpreter")
    if facts.state == "unknown":
        return Verdict("yes", "unknown", "it has a memory that is no variable tensor, or random numbers")
    if facts.state == "leaking":
        why = "the state survives from call to call: reset the variable tensors before each"
        return Verdict("yes", "reset", why, "interpreter")
    if facts.state == "streaming":
        return Verdict("yes", "yes", "it streams: reset the variable tensors before each new sequence")
    return RIGHT


def litert_rule(facts: Facts) -> Verdict:
    """The rule of the Interpreter of ai-edge-litert."""
    missing = missing_operators(facts, LITERT)
    return refused(missing) if missing else judge_state(facts, KERNEL_TRAPS)


def tflite_runtime_rule(facts: Facts) -> Verdict:
    """The rule of the Interpreter of tflite-runtime."""
    missing = missing_operators(facts, TFLITE_RUNTIME)
    for operator in facts.operators:
        if (operator.name, *operator.inputs[:1]) in _MISSING_TYPES:
            missing = missing or f"its {operator.name} takes no {operator.inputs[0]}"
    return refused(missing) if missing else judge_state(facts, KERNEL_TRAPS)


LITERT_INTERPRETER = Runtime(
    "ai-edge-litert",
    "LiteRT Interpreter",
    litert_rule,
    "ai-edge-litert",
    ("https://github.com/google-ai-edge/LiteRT/blob/main/tflite/core/kernels/register.cc",),
    has_reset=True,
)
TFLITE_RUNTIME_INTERPRETER = Runtime(
    "tflite-runtime",
    "tflite-runtime 2.14",
    tflite_runtime_rule,
    "tflite-runtime",
    ("https://github.com/tensorflow/tensorflow/blob/v2.14.0/tensorflow/lite/kernels/register.cc",),
    has_reset=True,
)
