"""MediaPipe Tasks: the only task for models that read sequences is the text classifier."""

from __future__ import annotations

from edgelstm.runtime.inspection import TensorSummary
from edgelstm.runtime.support.base import Runtime, Verdict, listed, not_known, refused
from edgelstm.runtime.support.facts import Facts
from edgelstm.runtime.support.interpreters import KERNEL_TRAPS, missing_operators
from edgelstm.runtime.support.versions import LITERT, TFLITE_RUNTIME

METADATA = "TFLITE_METADATA"
_PROBABILITIES = frozenset({"LOGISTIC", "SOFTMAX"})
_OUTPUT_TYPES = frozenset({"bool", "float32", "uint8"})


def mediapipe_rule(facts: Facts) -> Verdict:
    """The rule of the text classifier: it verifies the file, and resets nothing between sentences."""
    return (
        _wrong_interface(facts)
        or _wrong_graph(facts)
        or _operators(facts)
        or _wrong_answers(facts)
        or _conditions(facts)
    )


def _wrong_interface(facts: Facts) -> Verdict | None:
    inputs, outputs = facts.inspection.inputs, facts.inspection.outputs
    if (
        [tensor.dtype for tensor in inputs] != ["int32"]
        or len(inputs[0].shape) != 2
        or inputs[0].shape[0] not in (-1, 1)
    ):
        return refused(f"it has no task for {_said(inputs, 'input')}: its text classifier takes int32 of 1 x length")
    if len(outputs) != 1 or outputs[0].dtype not in _OUTPUT_TYPES:
        return refused(f"its text classifier gives one float32 output, not {_said(outputs, 'output')}")
    if sum(size not in (-1, 1) for size in outputs[0].shape) > 1:
        return refused(f"its text classifier gives one row of scores, not {_said(outputs, 'output')}")
    return None


def _said(tensors: tuple[TensorSummary, ...], kind: str) -> str:
    if len(tensors) != 1:
        return f"{len(tensors)} {kind}s"
    sizes = " x ".join("?" if size < 0 else str(size) for size in tensors[0].shape)
    return f"{tensors[0].dtype} of {sizes or 'no axis'}"


def _wrong_graph(facts: Facts) -> Verdict | None:
    if facts.num_graphs > 1:
        return refused("it takes no file with more than one subgraph, as loops need", "mediapipe")
    if facts.variable_writers:
        return refused("it refuses operators that write a variable tensor, as the reset of a state does", "mediapipe")
    return None


def _operators(facts: Facts) -> Verdict | None:
    missing = missing_operators(facts, LITERT)
    if missing:
        return refused(missing)
    new = missing_operators(facts, TFLITE_RUNTIME).removeprefix("it does not know ")
    custom = [operator.name for operator in facts.operators if operator.is_custom]
    if new or custom:
        return not_known(f"whether it knows {listed(custom) or new} was not tried")
    return None


def _wrong_answers(facts: Facts) -> Verdict | None:
    codes = [warning.code for warning in facts.inspection.warnings if warning.code in KERNEL_TRAPS]
    if codes:
        return Verdict("yes", "no", KERNEL_TRAPS[codes[0]])
    if facts.state in ("leaking", "streaming"):
        return Verdict("yes", "no", "the state survives from sentence to sentence, and nothing resets it", "mediapipe")
    if facts.inspection.inputs[0].shape[1] < 0:
        return Verdict("yes", "no", "it feeds one token only, because the file leaves the length open")
    return None


def _conditions(facts: Facts) -> Verdict:
    if facts.state == "unknown":
        return Verdict("yes", "unknown", "it has a memory that is no variable tensor, or random numbers")
    if facts.has_open_sizes:
        return Verdict("yes", "unknown", "it takes the batch size, which the file leaves open, as one")
    conditions = []
    if METADATA not in facts.metadata:
        conditions.append("after its metadata writer has added tokenizer, vocabulary and labels to the file")
    if facts.last_operators.isdisjoint(_PROBABILITIES):
        conditions.append("with a score_threshold below all scores, or it leaves out those below zero")
    return Verdict("yes", "yes", "; ".join(conditions))


MEDIAPIPE_TASKS = Runtime(
    "mediapipe",
    "MediaPipe Tasks",
    mediapipe_rule,
    "mediapipe",
    ("https://ai.google.dev/edge/mediapipe/solutions/text/text_classifier",),
)
