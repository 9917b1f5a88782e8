from __future__ import annotations

import json

import pytest

from edgelstm.artifact import CARD_FORMAT
from edgelstm.errors import ModelRunError, OutputError, TargetError
from edgelstm.targets.harness import measure_all
from edgelstm.targets.journal import Journal
from edgelstm.targets.subjects import Settings, Subject
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
    assert len(result.measurements) == 2
    complete = FakeTarget()
    measure_all([complete], subjects, PLAN, journal=Journal(path, PLAN))
    assert complete.log == []


def test_a_journal_knows_files_by_content_and_settings_by_value(subjects, tmp_path):
    path = tmp_path / "out.json.partial"
    measure_all([FakeTarget()], subjects, PLAN, journal=Journal(path, PLAN))
    subjects[0].path.write_bytes(b"another")
    changed = [Subject.read(subjects[0].path), Subject.read(subjects[1].path, Settings(threads=2))]
    target = FakeTarget()
    measure_all([target], changed, PLAN, journal=Journal(path, PLAN))
    assert len(target.log) == 2 + 6


def test_a_journal_of_another_plan_starts_anew(subjects, tmp_path):
    path = tmp_path / "out.json.partial"
    measure_all([FakeTarget()], subjects, PLAN, journal=Journal(path, PLAN))
    journal = Journal(path, PLAN.with_operators(True))
    assert journal.runs("fake", subjects[0]) == []
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1


def test_a_line_that_was_cut_off_is_dropped(subjects, tmp_path):
    path = tmp_path / "out.json.partial"
    measure_all([FakeTarget()], subjects, PLAN, journal=Journal(path, PLAN))
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:-20], encoding="utf-8")
    target = FakeTarget()
    measure_all([target], subjects, PLAN, journal=Journal(path, PLAN))
    assert target.log == ["open fake", "b.tflite 0", "close fake"]
    assert len([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]) == 1 + 6


def test_a_journal_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(OutputError, match=r"Cannot write .*out\.partial: no such file or directory\.$"):
        Journal(tmp_path / "none" / "out.partial", PLAN)


def test_measurements_are_compared_with_the_first_of_their_target(subjects):
    result = measure_all([FakeTarget("one"), FakeTarget("two")], subjects, PLAN)
    assert [(each.base, each.other, each.ratio.value) for each in result.comparisons] == [(0, 1, 1.0), (2, 3, 1.0)]


def test_what_is_being_done_is_reported(subjects):
    said: list[str] = []
    measure_all([FakeTarget()], subjects, PLAN, report=said.append)
    assert said[0] == "fake: a.tflite (1 thread), round 1 of 3 …"
    assert len(said) == 6


def test_the_score_in_the_card_comes_along(subjects):
    from hashlib import sha256

    card = {
        "format": CARD_FORMAT,
        "sha256": sha256(b"a.tflite").hexdigest(),
        "accuracy": {"metric": "accuracy", "value": 0.9},
    }
    subjects[0].path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    result = measure_all([FakeTarget()], subjects, PLAN)
    assert [each.accuracy for each in result.measurements] == [{"metric": "accuracy", "value": 0.9}, None]
