"""Runs of a file and what they say, on engines that are made up; `test_rules` has the real ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgelstm.errors import MissingExtraError, ModelRunError
from edgelstm.runtime.engines import ENGINES
from edgelstm.runtime.inspection import InspectionWarning, TensorSummary, inspect
from edgelstm.runtime.support import read_facts, runs
from edgelstm.runtime.support.base import Verdict
from edgelstm.runtime.support.runs import NUM_CALLS, contradicts, random_calls, run_everywhere
from tests import tiny_models
from tests.one_operator import accumulator

GOOD = np.arange(NUM_CALLS * 6, dtype=np.float32).reshape(NUM_CALLS, 2, 3)
GOOD[-1] = GOOD[0]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(accumulator())
    return path


@pytest.fixture
def facts(path):
    return read_facts(inspect(path), path)


@pytest.fixture
def engines(monkeypatch):
    """Replaces what engines answer: `engines["tflite-micro"] = answer or exception`; others are not installed."""
    answers: dict[str, object] = {"ai-edge-litert": GOOD}
    after_resets: dict[str, object] = {}

    def answer(given):
        if isinstance(given, Exception):
            raise given
        return {"total": given}, {}

    monkeypatch.setattr(runs, "run_on", lambda name, *_, **__: answer(answers[name]))
    monkeypatch.setattr(
        runs, "run_sequences_on", lambda name, *_, **__: answer(after_resets.get(name, answers.get(name, GOOD)))
    )
    for name, engine in ENGINES.items():
        made = dataclasses.replace(engine, is_here=lambda name=name: name in answers)
        monkeypatch.setitem(runs.ENGINES, name, made)
    answers["after resets"] = after_resets
    return answers


def seen(facts, path, name="tflite-micro"):
    verdict = run_everywhere(facts, path).verdicts[name]
    return verdict.loads, verdict.right


def changed(by: float, at: tuple[int, ...] = (1, 0, 0)) -> np.ndarray:
    answer = GOOD.copy()
    answer[at] += by
    return answer


def test_answers_like_those_of_the_interpreter_are_right(engines, facts, path):
    engines["tflite-micro"] = changed(1e-6)
    found = run_everywhere(facts, path)
    assert found.verdicts == {"ai-edge-litert": Verdict("yes", "yes"), "tflite-micro": Verdict("yes", "yes")}
    assert found.contradictions == ()


@pytest.mark.parametrize("at", [(1, 0, 0), (2, 1, 2), (3, 1, 0)])
def test_one_wrong_element_of_one_call_is_seen(engines, facts, path, at):
    engines["tflite-micro"] = changed(0.1, at)
    assert seen(facts, path) == ("yes", "no")


def test_a_first_call_that_comes_out_otherwise_again_is_seen(engines, facts, path):
    engines["tflite-micro"] = changed(1e-7, (NUM_CALLS - 1, 0, 0))
    assert seen(facts, path) == ("yes", "no")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number_is_no_answer(engines, facts, path, value):
    engines["tflite-micro"] = np.full_like(GOOD, value)
    assert seen(facts, path) == ("yes", "no")


def test_another_shape_is_another_answer(engines, facts, path):
    engines["tflite-micro"] = GOOD[:, :1]
    assert seen(facts, path) == ("yes", "no")


def test_what_is_right_after_resets_only_needs_them(engines, facts, path):
    engines["tflite-micro"] = changed(0.1)
    engines["after resets"]["tflite-micro"] = GOOD
    assert seen(facts, path) == ("yes", "reset")


def test_resets_that_an_app_cannot_make_do_not_count(engines, facts, path):
    engines["litertjs"] = changed(0.1)
    engines["after resets"]["litertjs"] = GOOD
    assert seen(facts, path, "litertjs") == ("yes", "no")


def test_int8_may_round_otherwise(engines, facts, path):
    engines["tflite-micro"] = changed(0.5)
    assert seen(facts, path) == ("yes", "no")
    (use,) = facts.operators
    coarse = dataclasses.replace(facts, operators=(dataclasses.replace(use, inputs=("int8", "int8")),))
    assert seen(coarse, path) == ("yes", "yes")


def test_a_refusal_is_quoted_and_shortened(engines, facts, path):
    engines["tflite-micro"] = ModelRunError(f"{path}: tflite-micro failed: {'no ' * 100}.")
    found = run_everywhere(facts, path)
    verdict = found.verdicts["tflite-micro"]
    assert verdict.why.startswith("tflite-micro failed: no no")
    assert (verdict.loads, len(verdict.why)) == ("no", 160)
    (sentence,) = found.contradictions
    assert sentence.startswith(
        "TensorFlow Lite Micro: a run ended otherwise than the rule says. Run: does not load, tflite-micro failed: no"
    )
    assert sentence.endswith("Rule: loads, right on every call. The run is shown; please report the file.")


def test_an_engine_that_turns_out_to_be_missing_is_left_out(engines, facts, path):
    engines["tflite-micro"] = MissingExtraError("it is not installed")
    assert list(run_everywhere(facts, path).verdicts) == ["ai-edge-litert"]


def test_engines_can_be_chosen(engines, facts, path):
    engines["tflite-micro"] = GOOD
    assert list(run_everywhere(facts, path, engines=["tflite-micro"]).verdicts) == ["tflite-micro"]


def test_without_the_interpreter_nothing_is_known_to_be_right(engines, facts, path):
    engines["ai-edge-litert"] = ModelRunError("it crashed")
    engines["tflite-micro"] = GOOD
    found = run_everywhere(facts, path).verdicts
    assert (found["ai-edge-litert"].loads, found["tflite-micro"].right) == ("no", "yes")
    refused = dataclasses.replace(facts, shares_outputs=True)
    engines["litert-compiled"] = GOOD
    assert run_everywhere(refused, path).verdicts["litert-compiled"].right == "no", "as the rule says"


def test_an_interpreter_that_answers_wrongly_is_no_reference(engines, facts, path):
    trap = InspectionWarning("cell-scale-too-small", "warning", "", "")
    trapped = dataclasses.replace(facts, inspection=dataclasses.replace(facts.inspection, warnings=(trap,)))
    engines["tflite-micro"] = changed(100.0)
    found = run_everywhere(trapped, path)
    assert {name: verdict.right for name, verdict in found.verdicts.items()} == {
        "ai-edge-litert": "no",
        "tflite-micro": "yes",
    }
    assert found.contradictions == ()


def test_a_stream_need_not_repeat_itself(engines, path):
    facts = dataclasses.replace(read_facts(inspect(path), path), state="streaming")
    engines["ai-edge-litert"] = engines["tflite-micro"] = changed(5.0, (NUM_CALLS - 1, 0, 0))
    assert seen(facts, path) == ("yes", "yes")


@pytest.mark.parametrize(
    "run, rule, expected",
    [
        (("yes", "yes"), ("yes", "yes"), False),
        (("yes", "no"), ("yes", "yes"), True),
        (("yes", "reset"), ("yes", "yes"), True),
        (("yes", "yes"), ("yes", "reset"), True),
        (("no", "no"), ("yes", "yes"), True),
        (("yes", "yes"), ("no", "no"), True),
        (("no", "no"), ("yes", "no"), False),
        (("yes", "no"), ("no", "no"), False),
        (("yes", "no"), ("yes", "unknown"), False),
        (("no", "no"), ("unknown", "unknown"), False),
        (("yes", "yes"), ("unknown", "unknown"), False),
        (("yes", "unknown"), ("yes", "yes"), False),
    ],
)
def test_a_rule_is_contradicted_when_it_claimed_something_else(run, rule, expected):
    assert contradicts(Verdict(*run), Verdict(*rule)) == expected


def test_inputs_are_random_small_and_the_same_every_time():
    inputs = (
        TensorSummary("x", (-1, 3), "float32", None, None),
        TensorSummary("tokens", (1, 50), "int32", None, None),
        TensorSummary("q", (1, 500), "int8", 0.1, -3),
        TensorSummary("flag", (20,), "bool", None, None),
        TensorSummary("half", (2,), "float16", None, None),
    )
    calls = random_calls(inputs)
    assert {name: (array.shape, array.dtype.name) for name, array in calls.items()} == {
        "x": ((NUM_CALLS, 1, 3), "float32"),
        "tokens": ((NUM_CALLS, 1, 50), "int32"),
        "q": ((NUM_CALLS, 1, 500), "int8"),
        "flag": ((NUM_CALLS, 20), "bool"),
        "half": ((NUM_CALLS, 2), "float16"),
    }
    assert set(np.unique(calls["tokens"])) == {0, 1}
    assert calls["q"].min() < -100
    assert calls["q"].max() > 100
    for name, array in random_calls(inputs).items():
        np.testing.assert_array_equal(array, calls[name])
        np.testing.assert_array_equal(array[0], array[-1])
        assert not np.array_equal(array[0], array[1])


def test_a_type_without_numbers_is_an_error():
    with pytest.raises(ModelRunError, match="Input 'text' is string"):
        random_calls([TensorSummary("text", (1,), "string", None, None)])


def test_an_input_that_fills_the_memory_is_an_error():
    with pytest.raises(ModelRunError, match="Input 'x' has 1000000000 values, too many"):
        random_calls([TensorSummary("x", (10**5, 10**4), "float32", None, None)])


def test_a_file_with_several_signatures_is_not_run(facts, path):
    (signature,) = facts.inspection.signatures
    twice = dataclasses.replace(facts, inspection=dataclasses.replace(facts.inspection, signatures=(signature,) * 2))
    with pytest.raises(ModelRunError, match=r"m\.tflite has 2 signatures, and only files with one are run"):
        run_everywhere(twice, path)


def test_the_tolerance_of_floats_does_not_pass_a_leak(tmp_path):
    path = tmp_path / "leaking.tflite"
    path.write_bytes(tiny_models.fused_lstm())
    found = run_everywhere(read_facts(inspect(path), path), path, engines=["ai-edge-litert"])
    assert found.verdicts["ai-edge-litert"].right == "reset"
