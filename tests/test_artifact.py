from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from edgelstm.artifact import Artifact, check_card, check_output, has_card, write_artifact, write_card
from edgelstm.errors import LoadError, OutputError

MODEL = b"model bytes"
CARD = {"precision": "float32", "operators": {"FULLY_CONNECTED": 1}, "warnings": ["größer"]}

# Writes argv[2] bytes to argv[1] and prints the error; imports come first, because tests then give up rights.
WRITE = """
import os, sys
import edgelstm.artifact
from edgelstm.errors import OutputError
{before}
try:
    edgelstm.artifact.write_artifact(sys.argv[1], b"x" * int(sys.argv[2]), {{}})
except OutputError as error:
    print(error)
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def in_mount(folder: Path, options: str, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs Python code where `folder` is a small file system of its own, which disappears with the process."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    wrap = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    mount = f'mount -t tmpfs -o {options} tmpfs "$0"'
    if subprocess.run([*wrap, mount, str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system, not even in a namespace")
    command = [*wrap, f'{mount} && exec "$@"', str(folder), sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class TestWriting:
    def test_model_and_card_stand_side_by_side(self, tmp_path):
        artifact = write_artifact(tmp_path / "digits.tflite", MODEL, CARD)
        assert names(tmp_path) == ["digits.json", "digits.tflite"]
        assert artifact.path.read_bytes() == MODEL
        assert artifact.card_path == tmp_path / "digits.json"
        assert json.loads(artifact.card_path.read_bytes()) == artifact.card
        assert artifact.card.items() >= CARD.items()

    def test_what_was_written_can_be_opened(self, tmp_path):
        artifact = write_artifact(tmp_path / "digits.tflite", MODEL, CARD)
        assert Artifact.open(str(artifact.path)) == artifact

    def test_writing_twice_gives_the_same_bytes(self, tmp_path):
        def write(folder: str, card: dict) -> bytes:
            (tmp_path / folder).mkdir()
            artifact = write_artifact(tmp_path / folder / "m.tflite", MODEL, card)
            return artifact.path.read_bytes() + artifact.card_path.read_bytes()

        assert write("a", CARD) == write("b", dict(reversed(CARD.items())))

    def test_an_earlier_pair_is_replaced(self, tmp_path):
        write_artifact(tmp_path / "m.tflite", b"old", {"precision": "int8"})
        artifact = write_artifact(tmp_path / "m.tflite", MODEL, CARD)
        assert Artifact.open(tmp_path / "m.tflite") == artifact
        assert artifact.card["precision"] == "float32"

    def test_files_have_the_permissions_that_new_files_have(self, tmp_path):
        artifact = write_artifact(tmp_path / "m.tflite", MODEL, CARD)
        (tmp_path / "other").touch()
        expected = (tmp_path / "other").stat().st_mode
        assert {artifact.path.stat().st_mode, artifact.card_path.stat().st_mode} == {expected}

    def test_a_link_is_followed(self, tmp_path):
        (tmp_path / "store").mkdir()
        (tmp_path / "m.tflite").symlink_to(tmp_path / "store" / "real.tflite")
        write_artifact(tmp_path / "m.tflite", MODEL, CARD)
        assert (tmp_path / "m.tflite").is_symlink()
        assert (tmp_path / "store" / "real.tflite").read_bytes() == MODEL

    def test_a_name_as_long_as_the_file_system_allows_is_written(self, tmp_path):
        path = tmp_path / ("m" * 248 + ".tflite")
        assert write_artifact(path, MODEL, CARD).path.read_bytes() == MODEL

    def test_a_card_that_json_cannot_hold_leaves_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_artifact(tmp_path / "m.tflite", MODEL, {"difference": float("nan")})
        assert names(tmp_path) == []


class TestRefusals:
    @pytest.fixture(params=[check_output, lambda path: write_artifact(path, MODEL, CARD)], ids=["check", "write"])
    def write(self, request):
        return request.param

    def test_a_missing_folder(self, write, tmp_path):
        with pytest.raises(OutputError, match=r"m\.tflite: the folder .*missing does not exist\. Create it first"):
            write(tmp_path / "missing" / "m.tflite")
        assert names(tmp_path) == []

    def test_a_path_below_a_file(self, write, tmp_path):
        (tmp_path / "file").write_text("text")
        with pytest.raises(OutputError, match="file is not a folder"):
            write(tmp_path / "file" / "m.tflite")

    def test_an_existing_folder(self, write, tmp_path):
        (tmp_path / "m.tflite").mkdir()
        with pytest.raises(OutputError, match=r"m\.tflite: it is a folder\. Name a file in it"):
            write(tmp_path / "m.tflite")

    def test_a_folder_in_place_of_the_card(self, write, tmp_path):
        (tmp_path / "m.json").mkdir()
        (tmp_path / "m.tflite").write_bytes(b"old")
        with pytest.raises(OutputError, match=r"m\.json: it is a folder"):
            write(tmp_path / "m.tflite")
        assert (tmp_path / "m.tflite").read_bytes() == b"old"

    def test_something_that_is_no_regular_file(self, write, tmp_path):
        os.mkfifo(tmp_path / "m.tflite")
        with pytest.raises(OutputError, match="it is not a regular file"):
            write(tmp_path / "m.tflite")

    @pytest.mark.parametrize("name", ["model.json", "model.keras", "model", "model.tflite.gz"])
    def test_a_name_of_another_kind(self, write, tmp_path, name):
        with pytest.raises(OutputError, match=r"the name of an exported model ends in \.tflite"):
            write(tmp_path / name)

    @pytest.mark.parametrize("content", ['{"class_name": "Sequential", "config": []}', "[1, 2]", "not even JSON"])
    def test_a_json_file_of_somebody_else_is_not_replaced(self, write, tmp_path, content):
        (tmp_path / "m.json").write_text(content)
        with pytest.raises(OutputError, match=r"would replace .*m\.json, which is no card of edgelstm"):
            write(tmp_path / "m.tflite")
        assert (tmp_path / "m.json").read_text() == content

    def test_a_name_longer_than_the_file_system_allows(self, write, tmp_path):
        with pytest.raises(OutputError, match="file name too long"):
            write(tmp_path / ("m" * 300 + ".tflite"))
        assert names(tmp_path) == []

    def test_checking_writes_nothing(self, tmp_path):
        (tmp_path / "m.tflite").write_bytes(b"old")
        check_output(tmp_path / "m.tflite")
        assert names(tmp_path) == ["m.tflite"]
        assert (tmp_path / "m.tflite").read_bytes() == b"old"


class TestTroubleOfTheMachine:
    def test_a_full_disk_keeps_what_was_there(self, tmp_path):
        before = (
            "folder = os.path.dirname(sys.argv[1])\n"
            "edgelstm.artifact.write_artifact(sys.argv[1], b'old', {'precision': 'int8'})"
        )
        after = "print(sorted(os.listdir(folder)), open(sys.argv[1], 'rb').read())\n"
        code = WRITE.format(before=before) + after
        done = in_mount(tmp_path, "size=64k", code, tmp_path / "m.tflite", 1_000_000)
        assert done.stdout.splitlines() == [
            f"Cannot write {tmp_path}/m.tflite: the disk is full.",
            "['m.json', 'm.tflite'] b'old'",
        ], done.stderr

    def test_a_read_only_file_system(self, tmp_path):
        done = in_mount(tmp_path, "ro", WRITE.format(before=""), tmp_path / "m.tflite", 10)
        expected = f"Cannot write {tmp_path}/m.tflite: read-only file system in the folder {tmp_path}.\n"
        assert done.stdout == expected, done.stderr

    @pytest.fixture
    def public_folder(self):
        """A folder that every user can reach, unlike pytest's own."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o777)
            yield Path(folder)

    # The super-user may write anywhere, so the process becomes nobody first.
    AS_NOBODY = WRITE.format(before="os.geteuid() or os.setuid(65534)")

    def test_a_folder_without_permission(self, run_python, public_folder):
        folder = public_folder / "locked"
        folder.mkdir(mode=0o555)
        done = run_python(self.AS_NOBODY, folder / "m.tflite", 10)
        expected = f"Cannot write {folder}/m.tflite: permission denied in the folder {folder}.\n"
        assert done.stdout == expected, done.stderr
        assert names(folder) == []

    def test_a_write_protected_file_is_kept(self, run_python, public_folder):
        path = public_folder / "m.tflite"
        path.write_bytes(b"old")
        path.chmod(0o444)
        done = run_python(self.AS_NOBODY, path, 10)
        assert done.stdout == f"Cannot write {path}: it exists and is write-protected.\n", done.stderr
        assert path.read_bytes() == b"old"

    def test_a_write_that_stops_half_way_leaves_no_temporary(self, run_python, tmp_path):
        path = tmp_path / "m.tflite"
        old = write_artifact(path, b"old", {})
        before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
        done = run_python(WRITE.format(before=before), path, 1_000_000)
        assert done.stdout == f"Cannot write {path}: file too large.\n", done.stderr
        assert names(tmp_path) == ["m.json", "m.tflite"]
        assert Artifact.open(path) == old


class TestForms:
    """One model in every form in one folder: no card takes the place of another one."""

    CARDS = (("m.tflite", "m.json"), ("m.onnx", "m.onnx.json"), ("folder", "folder.json"), ("v1.2", "v1.2.json"))

    @pytest.mark.parametrize("name, card", CARDS)
    def test_every_form_has_a_card_of_its_own(self, name, card):
        assert Artifact(Path("x") / name).card_path == Path("x") / card

    def test_a_second_form_leaves_the_first_one_usable(self, tmp_path):
        one = write_artifact(tmp_path / "m.tflite", MODEL, {"model": {"file": "m.tflite"}})
        other = write_artifact(tmp_path / "m.onnx", b"other", {"model": {"file": "m.onnx"}})
        assert names(tmp_path) == ["m.json", "m.onnx", "m.onnx.json", "m.tflite"]
        assert [Artifact.open(each.path) for each in (one, other)] == [one, other]

    def test_the_card_of_another_model_is_kept(self, tmp_path):
        (tmp_path / "m").mkdir()
        one = write_artifact(tmp_path / "m.tflite", MODEL, {"model": {"file": "m.tflite"}})
        text = r"The card would replace .*m\.json, which is the card of .*m\.tflite\. Give the output another name"
        for write in (check_card, lambda path: write_card(path, {})):
            with pytest.raises(OutputError, match=text):
                write(tmp_path / "m")
        assert Artifact.open(one.path) == one

    def test_the_card_of_a_model_that_is_gone_is_replaced(self, tmp_path):
        write_artifact(tmp_path / "m.tflite", MODEL, {"model": {"file": "m.tflite"}}).path.unlink()
        assert write_card(tmp_path / "m", CARD).card_path.read_bytes()

    def test_a_card_is_known_by_the_name_in_it(self, tmp_path):
        assert not has_card(tmp_path / "m")
        write_card(tmp_path / "m", {"model": {"file": "m"}})
        assert has_card(tmp_path / "m")
        assert not has_card(tmp_path / "m.tflite")
        (tmp_path / "m.json").write_text("no JSON")
        assert not has_card(tmp_path / "m")


class TestOpening:
    def test_a_missing_model(self, tmp_path):
        with pytest.raises(LoadError, match=r"Cannot read .*m\.tflite: no such file or directory"):
            Artifact.open(tmp_path / "m.tflite")

    def test_a_folder(self, tmp_path):
        with pytest.raises(LoadError, match=r"is a folder: name a \.tflite or \.onnx file\. A SavedModel is compared"):
            Artifact.open(tmp_path)

    def test_a_model_without_a_card_has_an_empty_one(self, tmp_path):
        (tmp_path / "m.tflite").write_bytes(MODEL)
        assert Artifact.open(tmp_path / "m.tflite") == Artifact(tmp_path / "m.tflite", {})

    def test_a_json_file_of_somebody_else_is_no_card(self, tmp_path):
        (tmp_path / "m.tflite").write_bytes(MODEL)
        (tmp_path / "m.json").write_text('{"class_name": "Sequential"}')
        assert Artifact.open(tmp_path / "m.tflite").card == {}

    def test_a_damaged_card(self, tmp_path):
        artifact = write_artifact(tmp_path / "m.tflite", MODEL, CARD)
        artifact.card_path.write_bytes(artifact.card_path.read_bytes()[:50])
        with pytest.raises(LoadError, match=r"The card .*m\.json cannot be read: .*Export the model again"):
            Artifact.open(artifact.path)

    def test_a_card_of_another_model(self, tmp_path):
        artifact = write_artifact(tmp_path / "m.tflite", MODEL, CARD)
        artifact.path.write_bytes(b"another model")
        with pytest.raises(LoadError, match=r"m\.json was written for another model than .*m\.tflite"):
            Artifact.open(artifact.path)
