from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgelstm.errors import OutputError
from edgelstm.targets.journal import Journal
from edgelstm.targets.subjects import Settings, Subject
from tests.targets.made import PLAN


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.json.partial"


@pytest.fixture
def subject(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"a")
    return Subject.read(tmp_path / "a.tflite")


def runs(journal, subject, target="cpu"):
    return [kept.run for kept in journal.kept(target, subject)]


def test_rounds_are_kept_in_order(path, subject):
    journal = Journal(path, PLAN)
    for number in range(3):
        journal.add("cpu", subject, {"ns": number})
    assert runs(Journal(path, PLAN), subject) == [{"ns": 0}, {"ns": 1}, {"ns": 2}]
    assert Journal(path, PLAN).kept("cpu", subject)[0].time.endswith(" UTC")
    assert runs(Journal(path, PLAN), subject, "ssh://board") == []


def test_nothing_is_kept_without_a_file(subject):
    journal = Journal(None, PLAN)
    journal.add("cpu", subject, {})
    assert runs(journal, subject) == []


def test_another_content_place_setting_or_delegate_is_another_subject(path, subject, tmp_path):
    delegate = tmp_path / "d.so"
    delegate.write_bytes(b"1")
    settings = Settings(delegate=str(delegate))
    journal = Journal(path, PLAN)
    journal.add("cpu", subject, {"ns": 1})
    journal.add("cpu", replace(subject, settings=settings), {"ns": 2})
    (tmp_path / "copy.tflite").write_bytes(b"a")
    assert runs(Journal(path, PLAN), Subject.read(tmp_path / "copy.tflite")) == []
    assert runs(Journal(path, PLAN), replace(subject, settings=Settings(threads=2))) == []
    assert runs(Journal(path, PLAN), replace(subject, settings=settings)) == [{"ns": 2}]
    delegate.write_bytes(b"2")
    assert runs(Journal(path, PLAN), replace(subject, settings=settings)) == []
    subject.path.write_bytes(b"b")
    assert runs(Journal(path, PLAN), Subject.read(subject.path)) == []


def test_another_plan_or_version_starts_anew(path, subject, monkeypatch):
    Journal(path, PLAN).add("cpu", subject, {})
    monkeypatch.setattr("edgelstm.targets.journal.version", lambda name: "99")
    assert runs(Journal(path, PLAN), subject) == []
    Journal(path, PLAN).add("cpu", subject, {})
    assert runs(Journal(path, PLAN.with_operators(True)), subject) == []
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1


@pytest.mark.parametrize(
    "tail", ['{"key": "cut o', "{}\n", "[1]\n", '{"format": "edgelstm-bench-journal-2"}\n', "\x00\n"]
)
def test_what_is_cut_off_or_no_entry_ends_the_journal_and_costs_nothing_before(path, subject, tail):
    Journal(path, PLAN).add("cpu", subject, {"ns": 1})
    whole = path.read_bytes()
    path.write_bytes(whole + tail.encode())
    assert runs(Journal(path, PLAN), subject) == [{"ns": 1}]
    assert path.read_bytes() == whole
    Journal(path, PLAN).add("cpu", subject, {"ns": 2})
    assert [json.loads(line).get("run") for line in path.read_text(encoding="utf-8").splitlines()[1:]] == [
        {"ns": 1},
        {"ns": 2},
    ]


def test_an_entry_without_its_end_is_dropped(path, subject):
    journal = Journal(path, PLAN)
    journal.add("cpu", subject, {"ns": 1})
    journal.add("cpu", subject, {"ns": 2})
    path.write_bytes(path.read_bytes()[:-1])
    assert runs(Journal(path, PLAN), subject) == [{"ns": 1}]


def test_a_folder_that_is_missing_is_one_sentence(tmp_path):
    with pytest.raises(OutputError, match=r"Cannot write .*out\.partial: no such file or directory\.$"):
        Journal(tmp_path / "none" / "out.partial", PLAN)
