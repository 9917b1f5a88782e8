"""Setting up a board: real virtual environments and pip, with wheels of runtimes that are hollow."""

from __future__ import annotations

import hashlib
import sys
import threading
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from edgelstm.errors import SettingError, TargetError
from edgelstm.targets.base import SetupOptions
from edgelstm.targets.ssh import KIND, SshTarget
from tests.targets.ssh.helpers import give_python, left_behind, wait_until, write_program

VENV = ".local/share/edgelstm/venv"


def write_wheel(folder: Path, name: str, version: str, **files: str) -> None:
    """Writes a wheel of these modules, dots for slashes."""
    info = f"{name}-{version}.dist-info"
    contents = {f"{module.replace('__', '/')}.py": text for module, text in files.items()}
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [
        f"{path},sha256={urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}"
        for path, text in contents.items()
    ]
    contents[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, "ai_edge_litert", "9.8", ai_edge_litert__interpreter="", ai_edge_litert____init__="")
    write_wheel(folder, "numpy", "8.7", numpy="")
    (folder / "other-1-cp311-cp311-manylinux_2_27_riscv64.whl").write_bytes(b"not sent")
    return folder


@pytest.fixture
def board(board):
    """A board whose Python has nothing but its standard library."""
    python = Path(sys.executable).resolve()
    give_python(board, f'case "$*" in *import*) set -- -S "$@";; esac; exec {python} "$@"')
    return board


def test_a_runtime_is_installed_once_and_found_afterwards(board, wheels):
    said = []
    done = KIND.setup(board.target, SetupOptions(wheels=wheels), said.append)
    assert done.startswith(f"{board.target}: installed ai-edge-litert 9.8, numpy 8.7 for Python 3.")
    assert any("sending ai_edge_litert-9.8-py3-none-any.whl" in text for text in said)
    assert not any("riscv64" in text for text in said)
    with SshTarget(board.target).connect() as place:
        assert place.python.command == str(board.home / VENV / "bin/python")
        assert place.python.numpy == "8.7"
    stamp = (board.home / VENV / "pyvenv.cfg").stat().st_mtime_ns
    done = KIND.setup(board.target, SetupOptions(wheels=wheels), None)
    assert done == f"{board.target}: it is set up already: ai-edge-litert 9.8, numpy 8.7."
    assert (board.home / VENV / "pyvenv.cfg").stat().st_mtime_ns == stamp
    KIND.setup(board.target, SetupOptions(wheels=wheels, again=True), None)
    assert (board.home / VENV / "pyvenv.cfg").stat().st_mtime_ns != stamp
    assert left_behind(board) == [str(board.home / ".local")]


def test_a_setup_that_fails_leaves_nothing(board, wheels):
    (wheels / "numpy-8.7-py3-none-any.whl").unlink()
    with pytest.raises(
        TargetError, match=r"wheels lacks a wheel \(No matching distribution found for numpy\)"
    ) as caught:
        KIND.setup(board.target, SetupOptions(wheels=wheels), None)
    assert "pip download --only-binary=:all: --platform" in str(caught.value)
    assert str(caught.value).endswith(f"edgelstm targets setup {board.target} --wheels wheels.")
    assert not (board.home / VENV).exists()


def test_a_runtime_that_cannot_be_imported_is_no_success(board, wheels):
    write_wheel(
        wheels, "ai_edge_litert", "9.9", ai_edge_litert__interpreter="import missing", ai_edge_litert____init__=""
    )
    with pytest.raises(
        TargetError,
        match=r"ai-edge-litert was installed there, but cannot be imported: ModuleNotFoundError: No module named "
        rf"'missing'\. Try another runtime: edgelstm targets setup {board.target} --runtime \w+",
    ):
        KIND.setup(board.target, SetupOptions(wheels=wheels), None)
    assert not (board.home / VENV).exists()


def test_half_an_environment_is_not_used_and_made_anew(board, wheels):
    half = board.home / f"{VENV}.new"
    (half / "bin").mkdir(parents=True)
    (half / "edgelstm-begun").touch()
    write_program(half / "bin", "python", "echo wrong")
    with pytest.raises(TargetError, match="has no runtime for models"), SshTarget(board.target).connect() as place:
        _ = place.python
    assert "installed" in KIND.setup(board.target, SetupOptions(wheels=wheels), None)
    assert not half.exists()


@pytest.mark.parametrize("name", [VENV, f"{VENV}.new", f"{VENV}.old"])
@pytest.mark.parametrize("again", [False, True])
def test_an_environment_that_setup_did_not_make_is_never_removed(board, wheels, name, again):
    (board.home / name).mkdir(parents=True)
    (board.home / name / "mine").write_text("a week of work")
    with pytest.raises(TargetError, match=rf"{name} there was not made by edgelstm targets setup\. Move it away"):
        KIND.setup(board.target, SetupOptions(wheels=wheels, again=again), None)
    assert (board.home / name / "mine").read_text() == "a week of work"


@pytest.mark.parametrize("error", [TargetError("no"), KeyboardInterrupt()])
def test_the_environment_before_stays_until_the_new_one_is_complete(board, wheels, monkeypatch, error):
    KIND.setup(board.target, SetupOptions(wheels=wheels), None)
    stamp = (board.home / VENV / "pyvenv.cfg").stat().st_mtime_ns
    seen = []

    def fail(self, offer, venv):
        seen.append((board.home / f"{VENV}.new").is_dir())
        raise error

    monkeypatch.setattr("edgelstm.targets.ssh.setup.Setup._import", fail)
    with pytest.raises(type(error)):
        KIND.setup(board.target, SetupOptions(wheels=wheels, again=True), None)
    assert seen == [True]
    assert (board.home / VENV / "pyvenv.cfg").stat().st_mtime_ns == stamp
    assert [path.name for path in (board.home / VENV).parent.iterdir()] == ["venv"]
    with SshTarget(board.target).connect() as place:
        assert place.python.numpy == "8.7"


def test_a_swap_that_was_cut_short_is_undone(board, wheels):
    KIND.setup(board.target, SetupOptions(wheels=wheels), None)
    (board.home / VENV).rename(board.home / f"{VENV}.old")
    (wheels / "numpy-8.7-py3-none-any.whl").unlink()
    with pytest.raises(TargetError, match="lacks a wheel"):
        KIND.setup(board.target, SetupOptions(wheels=wheels), None)
    with SshTarget(board.target).connect() as place:
        assert place.python.command == str(board.home / VENV / "bin/python")


def test_a_board_without_a_network_is_told_how_to_fetch_the_wheels(board):
    enter = board.bin.parent / "enter"
    text = enter.read_text().replace(
        " LC_ALL=", " PIP_INDEX_URL=http://127.0.0.1:9/simple PIP_CONFIG_FILE=/dev/null LC_ALL="
    )
    enter.write_text(text)
    with pytest.raises(
        TargetError, match=r"cannot reach the package index. Fetch the wheels here: pip download .*litert"
    ):
        KIND.setup(board.target, SetupOptions(), None)


def test_a_python_without_venv(board):
    give_python(
        board, f'case "$*" in *-m\\ venv*) echo "ensurepip is not available"; exit 1;; esac; exec {sys.executable} "$@"'
    )
    with pytest.raises(TargetError, match=r"cannot make virtual environments. .*sudo apt install python3-venv\.$"):
        KIND.setup(board.target, SetupOptions(), None)


def test_a_full_disk(start_board, wheels):
    board = start_board("small", disk_bytes=8_000_000)
    with pytest.raises(TargetError, match=r": its disk is full, [\d,]+ KiB are free"):
        KIND.setup(board.target, SetupOptions(wheels=wheels), None)
    assert not (board.home / VENV).exists()


def test_wheels_for_another_machine_are_none(board, tmp_path):
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "numpy-2-cp311-cp311-manylinux_2_27_riscv64.whl").touch()
    with pytest.raises(TargetError, match=r"others: has no wheels for \w+. Fetch them here: pip download"):
        KIND.setup(board.target, SetupOptions(wheels=folder), None)
    with pytest.raises(TargetError, match="is no folder"):
        KIND.setup(board.target, SetupOptions(wheels=folder / "none"), None)


def test_no_python_and_no_such_runtime(board):
    with pytest.raises(SettingError, match="Runtime 'magic' cannot be installed on a device"):
        KIND.setup(board.target, SetupOptions(runtime="magic"), None)
    give_python(board, "exit 127")
    with pytest.raises(TargetError, match=r"Python 3\.9 or newer is needed there, but there is none"):
        KIND.setup(board.target, SetupOptions(), None)


def test_a_connection_lost_during_setup_ends_it_there(board, wheels):
    write_program(board.bin, "python3", f'case "$*" in *-m\\ venv*) sleep 60;; esac; exec {sys.executable} "$@"')

    def cut() -> None:
        wait_until(lambda: any("sleep 60" in command for command in board.processes().values()))
        board.kill_connections()

    thread = threading.Thread(target=cut)
    thread.start()
    with pytest.raises(TargetError, match="the connection was lost"):
        KIND.setup(board.target, SetupOptions(wheels=wheels), None)
    thread.join()
    wait_until(lambda: board.processes() == {})
