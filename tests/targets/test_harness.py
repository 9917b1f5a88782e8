from __future__ import annotations

import hashlib
import json
import threading
import time

import pytest

from edgelstm.artifact import CARD_FORMAT
from edgelstm.errors import ModelRunError, TargetError
from edgelstm.targets.harness import measure_all
from edgelstm.targets.journal import Journal
from edgelstm.targets.subjects import Subject
from tests.targets.made import PLAN, FakeTarget


@pytest.fixture
def subjects(tmp_path):
    for name in ("a.tflite", "b.tflite"):
        (tmp_path / name).write_bytes(name.encode())
    return [Subject.read(tmp_path / name) for name in ("a.tflite", "b.tflite")]


def test_subjects_take_turns_and_the_target_is_closed(subjects):
    target = FakeTarget()
    result = measure_all([target], subjects, PLAN)
    assert target.log == [
        "open fake", "a.tflite 0", "b.tflite 0", "a.tflite 1", "b.tflite 1", "a.tflite 2", "b.tflite 2", "close fake",
    ]  # fmt: skip
    assert [measurement.artifact for measurement in result.measurements] == [subject.path for subject in subjects]
    assert [process.samples_ns[0] for process in result.measurements[0].processes] == [1000, 2000, 3000]
    assert result.failures == ()


def test_targets_here_never_run_at_the_same_time_and_before_those_elsewhere(subjects):
    log: list[str] = []
    targets = [
        FakeTarget("far", log=log, is_here=False),
        FakeTarget("near", log=log),
        FakeTarget("there", log=log, is_here=False),
        FakeTarget("here", log=log),
    ]
    result = measure_all(targets, subjects, PLAN)
    assert log[0] == "open near"
    assert log.index("close near") < log.index("open here")
    assert log.index("close here") < min(log.index("open far"), log.index("open there"))
    assert [each.target for each in result.measurements] == [
        "far",
        "far",
        "near",
        "near",
        "there",
        "there",
        "here",
        "here",
    ]


def test_a_model_that_fails_costs_itself_alone(subjects):
    target = FakeTarget()
    target.errors["a.tflite", 1] = ModelRunError("a.tflite: it crashed.")
    result = measure_all([target], subjects, PLAN)
    assert [each.artifact.name for each in result.measurements] == ["b.tflite"]
    (failure,) = result.failures
    assert (failure.target, failure.artifact.name, failure.message) == ("fake", "a.tflite", "a.tflite: it crashed.")
    assert "a.tflite 2" not in target.log


def test_a_target_that_is_lost_costs_what_is_not_finished(subjects):
    target = FakeTarget()
    target.errors["b.tflite", 2] = TargetError("fake: lost.")
    other = FakeTarget("other")
    result = measure_all([target, other], subjects, PLAN)
    assert [(each.target, each.artifact.name) for each in result.measurements] == [
        ("fake", "a.tflite"), ("other", "a.tflite"), ("other", "b.tflite"),
    ]  # fmt: skip
    assert [(failure.artifact.name, failure.message) for failure in result.failures] == [("b.tflite", "fake: lost.")]
    assert target.log[-1] == "close fake"


def test_a_target_that_cannot_be_opened_fails_for_every_model(subjects):
    target = FakeTarget()
    target.opening = TargetError("fake: no route.")
    result = measure_all([target], subjects, PLAN)
    assert result.measurements == ()
    assert [failure.message for failure in result.failures] == 2 * ["fake: no route."]


def test_an_interrupted_run_goes_on_where_it_ended(subjects, tmp_path):
    path = tmp_path / "out.json.partial"
    lost = FakeTarget()
    lost.errors["b.tflite", 1] = TargetError("fake: lost.")
    measure_all([lost], subjects, PLAN, journal=Journal(path, PLAN))
    again = FakeTarget()
    result = measure_all([again], subjects, PLAN, journal=Journal(path, PLAN))
    assert again.log == ["open fake", "b.tflite 0", "a.tflite 0", "b.tflite 1", "close fake"]
    assert [each.num_rounds_kept for each in result.measurements] == [2, 1]
    assert result.measurements[0].warnings[0].startswith("2 of 3 rounds are of an earlier run, the first 20")
    complete = FakeTarget()
    measure_all([complete], subjects, PLAN, journal=Journal(path, PLAN))
    assert complete.log == []


def test_an_interruption_ends_those_elsewhere_after_their_round(subjects):
    far, near = FakeTarget("far", is_here=False), FakeTarget("near", is_here=False)
    begun = threading.Event()
    near.errors["a.tflite", 0] = KeyboardInterrupt()
    near.during = begun.wait
    far.during = lambda: (begun.set(), time.sleep(0.2))
    with pytest.raises(KeyboardInterrupt):
        measure_all([far, near], subjects, PLAN)
    assert far.log[-1] == "close far"
    assert len(far.log) < 2 + 6


def test_what_was_changed_since_an_interruption_is_measured_anew(subjects, tmp_path):
    path = tmp_path / "out.json.partial"
    lost = FakeTarget()
    lost.errors["b.tflite", 2] = TargetError("fake: lost.")
    measure_all([lost], subjects, PLAN, journal=Journal(path, PLAN))
    again = FakeTarget(version="2")
    result = measure_all([again], subjects[1:], PLAN, journal=Journal(path, PLAN))
    assert again.log == ["open fake", "b.tflite 0", "b.tflite 1", "b.tflite 2", "close fake"]
    assert result.measurements[0].num_rounds_kept == 0


def test_the_score_in_the_card_comes_along(subjects):
    content = {"format": CARD_FORMAT, "accuracy": {"metric": "accuracy", "value": 0.9}}
    card = {**content, "sha256": hashlib.sha256(b"a.tflite").hexdigest()}
    subjects[0].path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    result = measure_all([FakeTarget()], subjects, PLAN)
    assert [each.accuracy for each in result.measurements] == [{"metric": "accuracy", "value": 0.9}, None]


def test_measurements_are_compared_with_the_first_of_their_target(subjects):
    result = measure_all([FakeTarget("one"), FakeTarget("two")], subjects, PLAN)
    assert [(each.base, each.other, each.ratio.value) for each in result.comparisons] == [(0, 1, 1.0), (2, 3, 1.0)]


def test_what_is_being_done_is_reported(subjects):
    said: list[str] = []
    measure_all([FakeTarget()], subjects, PLAN, report=said.append)
    assert said[0] == "fake: a.tflite (1 thread), round 1 of 3 …"
    assert len(said) == 6
