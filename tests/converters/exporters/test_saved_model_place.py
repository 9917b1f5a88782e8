"""Where SavedModel folders are put: what may be there before, and what is left when anything fails."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from edgelstm.converters.exporters.saved_model import check_folder, placed_folder
from edgelstm.errors import OutputError


def contents(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, hidden files included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def saved_model(folder: Path, content: bytes = b"graph") -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(content)
    (folder / "variables" / "variables.index").write_bytes(content)
    return folder


def place(source: Path, folder: Path, error: BaseException | None = None) -> None:
    """Puts a folder in its place, where what is done meanwhile may fail."""
    with placed_folder(source, folder):
        assert (folder / "saved_model.pb").read_bytes() == b"new"
        if error is not None:
            raise error


@pytest.fixture
def source(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("scratch") / "finished", b"new")


class TestPlaced:
    @pytest.mark.parametrize("before", ["nothing", "an empty folder", "a SavedModel"])
    def test_it_is_a_copy_of_the_finished_one_and_nothing_else(self, before, source, tmp_path):
        if before == "an empty folder":
            (tmp_path / "served").mkdir()
        elif before == "a SavedModel":
            (saved_model(tmp_path / "served") / "fingerprint.pb").write_bytes(b"old")
        place(source, tmp_path / "served")
        assert contents(tmp_path) == {f"served/{name}": content for name, content in contents(source).items()}

    def test_a_link_is_followed(self, source, tmp_path):
        (tmp_path / "store").mkdir()
        (tmp_path / "served").symlink_to(tmp_path / "store")
        place(source, tmp_path / "served")
        assert (tmp_path / "served").is_symlink()
        assert contents(tmp_path / "store") == contents(source)

    @pytest.mark.parametrize("error", [OutputError("the disk is full"), KeyboardInterrupt()])
    def test_what_was_there_comes_back_if_the_rest_fails(self, error, source, tmp_path):
        saved_model(tmp_path / "served", b"old")
        before = contents(tmp_path)
        with pytest.raises(type(error)):
            place(source, tmp_path / "served", error)
        assert contents(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["served"]

    def test_where_nothing_was_nothing_is_left(self, source, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            place(source, tmp_path / "served", KeyboardInterrupt())
        assert list(tmp_path.iterdir()) == []

    FULL = OSError(28, "No space left on device", "a", None, "b")

    @pytest.mark.parametrize("error", [FULL, shutil.Error([("a", "b", str(FULL))])])
    def test_a_failing_copy_leaves_what_was_there(self, error, source, tmp_path, monkeypatch):
        def half(origin: Path, target: Path) -> None:
            target.mkdir()
            (target / "saved_model.pb").write_bytes(b"ne")
            raise error

        saved_model(tmp_path / "served", b"old")
        before = contents(tmp_path)
        monkeypatch.setattr(shutil, "copytree", half)
        with pytest.raises(OutputError, match=r"Cannot write .*served: no space left on device\. Free space there"):
            place(source, tmp_path / "served")
        assert contents(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["served"]

    def test_a_failing_last_step_leaves_what_was_there(self, source, tmp_path, monkeypatch):
        rename = Path.rename

        def fails_for_the_new_one(path: Path, target: Path) -> Path:
            if (path / "saved_model.pb").read_bytes() == b"new":
                raise OSError(16, "Device or resource busy")
            return rename(path, target)

        saved_model(tmp_path / "served", b"old")
        before = contents(tmp_path)
        monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
        with pytest.raises(OutputError, match="device or resource busy"):
            place(source, tmp_path / "served")
        assert contents(tmp_path) == before
        assert [path.name for path in tmp_path.iterdir()] == ["served"]


@pytest.fixture(params=[check_folder, place], ids=["check", "place"])
def refused(request, source, tmp_path):
    """Asserts that a path is refused with some text, and that nothing changes."""

    def refuse(path: Path, text: str) -> None:
        before = contents(tmp_path)
        arguments = [path] if request.param is check_folder else [source, path]
        with pytest.raises(OutputError, match=text):
            request.param(*arguments)
        assert contents(tmp_path) == before

    return refuse


class TestRefused:
    def test_a_file(self, refused, tmp_path):
        (tmp_path / "served").write_text("text")
        refused(tmp_path / "served", r"served: a SavedModel is a folder, and this is a file\. Name another folder")

    def test_a_folder_of_other_things(self, refused, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.jpg").write_text("cat")
        refused(tmp_path / "photos", r"holds something else than a SavedModel \(cat\.jpg\)\. Name another one")

    @pytest.mark.parametrize("other", ["notes.txt", "keras_metadata.pb", ".git"])
    def test_a_savedmodel_with_other_things_beside_it(self, other, refused, tmp_path):
        (saved_model(tmp_path / "served") / other).write_text("mine")
        refused(tmp_path / "served", rf"besides a SavedModel that folder holds {other}, which would be lost")

    def test_a_missing_parent(self, refused, tmp_path):
        refused(tmp_path / "missing" / "served", r"the folder .*missing does not exist\. Create it first")

    def test_a_path_below_a_file(self, refused, tmp_path):
        (tmp_path / "file").write_text("text")
        refused(tmp_path / "file" / "served", r"file is not a folder")

    def test_a_name_longer_than_names_can_be(self, refused, tmp_path):
        refused(tmp_path / ("m" * 300), r"Cannot write .*: file name too long")

    @pytest.mark.parametrize("path", [".", "..", "/"])
    def test_a_path_without_a_name(self, path, refused, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        refused(Path(path), r"a SavedModel needs a folder of its own, with a name")


def test_a_folder_that_takes_no_files_is_named(run_python):
    """In a process that becomes nobody first, because nothing stops the superuser."""
    code = (
        "import os, sys, pathlib, edgelstm.converters.exporters.saved_model as room\n"
        "from edgelstm.errors import OutputError\n"
        "os.geteuid() or os.setuid(65534)\n"
        "try: room.check_folder(pathlib.Path(sys.argv[1]))\n"
        "except OutputError as error: print(error)\n"
    )
    with tempfile.TemporaryDirectory() as name:  # which every user can reach, unlike pytest's own
        Path(name).chmod(0o777)
        folder = Path(name) / "locked"
        folder.mkdir(mode=0o555)
        done = run_python(code, folder / "served")
        expected = f"Cannot write {folder}/served: permission denied in the folder {folder}.\n"
        assert done.stdout == expected, done.stderr
        assert list(folder.iterdir()) == []
