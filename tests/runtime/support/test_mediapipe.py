"""What MediaPipe's text classifier takes, by changes of a file that it takes."""

from __future__ import annotations

import dataclasses

import pytest

from edgelstm.runtime.inspection import InspectionWarning, TensorSummary, inspect
from edgelstm.runtime.support.facts import OperatorUse, read_facts
from edgelstm.runtime.support.mediapipe_tasks import METADATA, mediapipe_rule
from tests.one_operator import accumulator

TOKENS = TensorSummary("tokens", (1, 9), "int32", None, None)
SCORES = TensorSummary("scores", (1, 3), "float32", None, None)


@pytest.fixture
def taken(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(accumulator())
    facts = read_facts(inspect(path), path)
    facts = dataclasses.replace(facts, last_operators=frozenset({"SOFTMAX"}), metadata=frozenset({METADATA}))
    return with_tensors(facts, [TOKENS], [SCORES])


def with_tensors(facts, inputs, outputs):
    (signature,) = facts.inspection.signatures
    signature = dataclasses.replace(signature, inputs=tuple(inputs), outputs=tuple(outputs))
    return dataclasses.replace(facts, inspection=dataclasses.replace(facts.inspection, signatures=(signature,)))


def test_a_classifier_with_metadata_is_taken(taken):
    assert (mediapipe_rule(taken).right, mediapipe_rule(taken).why) == ("yes", "")


@pytest.mark.parametrize(
    "inputs, why",
    [
        ([], "0 inputs"),
        ([TOKENS, TOKENS], "2 inputs"),
        ([dataclasses.replace(TOKENS, dtype="float32")], "float32 of 1 x 9"),
        ([dataclasses.replace(TOKENS, shape=(2, 9))], "int32 of 2 x 9"),
        ([dataclasses.replace(TOKENS, shape=(1, 9, 4))], "int32 of 1 x 9 x 4"),
        ([dataclasses.replace(TOKENS, shape=())], "int32 of no axis"),
    ],
)
def test_other_inputs_have_no_task(taken, inputs, why):
    verdict = mediapipe_rule(with_tensors(taken, inputs, [SCORES]))
    expected = f"it has no task for {why}: its text classifier takes int32 of 1 x length"
    assert (verdict.loads, verdict.why, verdict.cure) == ("no", expected, None)


@pytest.mark.parametrize(
    "outputs, why",
    [
        ([SCORES, SCORES], "one float32 output, not 2 outputs"),
        ([dataclasses.replace(SCORES, dtype="int8")], "one float32 output, not int8 of 1 x 3"),
        ([dataclasses.replace(SCORES, shape=(1, 9, 3))], "one row of scores, not float32 of 1 x 9 x 3"),
    ],
)
def test_other_outputs_are_no_scores(taken, outputs, why):
    verdict = mediapipe_rule(with_tensors(taken, [TOKENS], outputs))
    assert (verdict.loads, verdict.why) == ("no", f"its text classifier gives {why}")


@pytest.mark.parametrize("shape", [(3,), (1, 3, 1), (1, 1)])
def test_a_row_of_scores_may_have_more_axes(taken, shape):
    scores = dataclasses.replace(SCORES, shape=shape)
    assert mediapipe_rule(with_tensors(taken, [TOKENS], [scores])).right == "yes"


def test_loops_and_resets_are_refused_and_can_be_cured(taken):
    loop = mediapipe_rule(dataclasses.replace(taken, num_graphs=3))
    reset = mediapipe_rule(dataclasses.replace(taken, variable_writers=frozenset({"GATHER"})))
    assert (loop.loads, loop.cure, reset.loads, reset.cure) == ("no", "mediapipe", "no", "mediapipe")
    assert "subgraph" in loop.why
    assert "reset" in reset.why


@pytest.mark.parametrize("state", ["leaking", "streaming"])
def test_a_state_that_survives_is_wrong(taken, state):
    verdict = mediapipe_rule(dataclasses.replace(taken, state=state))
    assert (verdict.loads, verdict.right) == ("yes", "no")


def test_conditions_are_told(taken):
    bare = dataclasses.replace(taken, metadata=frozenset(), last_operators=frozenset({"FULLY_CONNECTED"}))
    assert mediapipe_rule(bare).right == "yes"
    assert mediapipe_rule(bare).why == (
        "after its metadata writer has added tokenizer, vocabulary and labels to the file; "
        "with a score_threshold below all scores, or it leaves out those below zero"
    )


def test_open_sizes_are_taken_as_one(taken):
    length = with_tensors(taken, [dataclasses.replace(TOKENS, shape=(1, -1))], [SCORES])
    assert mediapipe_rule(dataclasses.replace(length, has_open_sizes=True)).right == "no"
    batch = with_tensors(taken, [dataclasses.replace(TOKENS, shape=(-1, 9))], [SCORES])
    assert mediapipe_rule(dataclasses.replace(batch, has_open_sizes=True)).right == "unknown"


@pytest.mark.parametrize("use", [("ADD", 6, False), ("Sparkle", 1, True), ("Mfcc", 1, True)])
def test_newer_and_custom_operators_are_not_known(taken, use):
    name, version, is_custom = use
    operators = (OperatorUse(name, version, is_custom, ("float32",), ("float32",), 2),)
    verdict = mediapipe_rule(dataclasses.replace(taken, operators=operators))
    assert verdict.loads == ("no" if name == "Sparkle" else "unknown")
    assert name in verdict.why


def test_traps_and_other_memory_are_told(taken):
    trap = InspectionWarning("linear-activation", "warning", "", "")
    trapped = dataclasses.replace(taken, inspection=dataclasses.replace(taken.inspection, warnings=(trap,)))
    assert mediapipe_rule(trapped).right == "no"
    assert mediapipe_rule(dataclasses.replace(taken, state="unknown")).right == "unknown"
