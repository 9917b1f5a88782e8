from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgelstm.errors import LoadError, OutputError
from edgelstm.training.claims import check_claim, clear

RUN = {"task": "tiny", "variant": "dense", "source": "offline", "seed": 0, "settings": {"units": 3, "epochs": 2}}


@pytest.fixture
def folder(tmp_path):
    """Writes the folder of a training; returns the folder and what is in it."""

    def write(**changes):
        made = tmp_path / "run"
        made.mkdir()
        document = {**RUN, "finished": False, "files": ["words.txt", "../outside.txt", "..", 7], **changes}
        (made / "run.json").write_text(json.dumps(document))
        for name in ("model.keras", "checkpoint.npz", "words.txt", "thesis.tex", ".1234-model.keras", ".99-other"):
            (made / name).write_text(name)
        (tmp_path / "outside.txt").write_text("mine")
        return made

    return write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_is_made_and_an_empty_one_taken(tmp_path):
    for _ in range(2):
        check_claim(tmp_path / "a" / "b", RUN, restart=False)
        assert names(tmp_path / "a" / "b") == []


def test_what_a_killed_process_left_before_its_run_json_does_not_make_a_folder_foreign(tmp_path):
    (tmp_path / ".77-run.json").write_text("{")
    check_claim(tmp_path, RUN, restart=False)
    clear(tmp_path, everything=False)
    assert names(tmp_path) == []


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("content", [{"notes.txt": "x"}, {"run.json": '{"task": "mine"}'}, {".git-x": ""}])
def test_a_foreign_folder_is_refused_and_stays(tmp_path, content, restart):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(OutputError, match=rf"{re.escape(str(tmp_path))} holds other files\. Choose a new one for -o\."):
        check_claim(tmp_path, RUN, restart=restart)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == content


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_run_json_that_cannot_be_read_is_said(tmp_path, text):
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(LoadError, match=r"Cannot read .*run\.json"):
        check_claim(tmp_path, RUN, restart=True)
    assert names(tmp_path) == ["run.json"]


def test_a_file_in_the_folders_place_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"Cannot write to the folder .*file: File exists"):
        check_claim(tmp_path / "file", RUN, restart=True)


def test_a_folder_that_cannot_be_written_to_is_said():
    with pytest.raises(OutputError, match="Cannot write to the folder /proc"):
        check_claim(Path("/proc/edgelstm"), RUN, restart=False)


def test_an_unwritable_folder_that_is_there_is_said(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OutputError, match=rf"Cannot write to the folder {re.escape(str(tmp_path))}: Permission denied"):
        check_claim(tmp_path, RUN, restart=False)


def test_the_same_training_may_go_on_and_loses_only_leftovers(folder):
    made = folder()
    check_claim(made, RUN, restart=False)
    clear(made, everything=False)
    assert names(made) == [".99-other", "checkpoint.npz", "model.keras", "run.json", "thesis.tex", "words.txt"]


@pytest.mark.parametrize(
    "change, difference",
    [
        ({"task": "rows"}, "task rows, not tiny"),
        ({"seed": 4}, "seed 4, not 0"),
        ({"source": "/data/x.csv"}, "source /data/x.csv, not offline"),
        ({"settings": {"units": 8, "epochs": 2}}, "units 8, not 3"),
        ({"settings": {"epochs": 2}}, "units None, not 3"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_training_is_refused_and_stays(folder, change, difference, finished):
    made = folder(finished=finished, **change)
    before = names(made)
    message = f"holds a training with {re.escape(difference)}. Choose a new folder for -o, or train anew with --restart"
    with pytest.raises(OutputError, match=message):
        check_claim(made, RUN, restart=False)
    assert names(made) == before


def test_a_finished_training_is_not_trained_again(folder):
    with pytest.raises(OutputError, match=r"is finished\. Choose a new folder for -o, or train anew with --restart\."):
        check_claim(folder(finished=True), RUN, restart=False)


def test_a_restart_deletes_what_trainings_write_and_nothing_else(folder, tmp_path):
    made = folder(finished=True, seed=5)
    (made / "labels.txt").mkdir()
    check_claim(made, RUN, restart=True)
    assert "model.keras" in names(made), "the claim itself deletes nothing"
    clear(made, everything=True)
    assert names(made) == [".99-other", "labels.txt", "thesis.tex"]
    assert (tmp_path / "outside.txt").read_text() == "mine"


def test_a_restart_deletes_a_link_and_not_what_it_leads_to(folder, tmp_path):
    made = folder()
    (made / "model.keras").unlink()
    (made / "model.keras").symlink_to(tmp_path / "outside.txt")
    clear(made, everything=True)
    assert (tmp_path / "outside.txt").read_text() == "mine"


def test_what_cannot_be_deleted_is_said_and_the_folder_stays_known_as_ours(folder, monkeypatch):
    made, unlink = folder(), Path.unlink

    def refuse(self, missing_ok=False):
        if self.name == "model.keras":
            raise PermissionError(13, "Permission denied", str(self))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OutputError, match=r"Cannot delete .*model\.keras: Permission denied\."):
        clear(made, everything=True)
    assert "run.json" in names(made)
