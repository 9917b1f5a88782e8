"""Scripts as they run on a device, in the shells that devices have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgelstm.errors import TargetError
from edgelstm.targets.remote.place import RemotePlace
from edgelstm.targets.remote.shell import Shell

CONNECTION = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
"""What a connection is here: it can be ended, and what it started goes on."""

SHELLS = ("dash", "bash", "busybox", "mksh", "ksh", "zsh")


class HereShell(Shell):
    """Runs scripts on this machine, by a login shell that talks first.

    Args:
        folder: Where scripts work.
        path: What $PATH is.
    """

    name = "here"
    pythons = ("python3",)

    def __init__(self, folder: Path, path: Path, login: str = "sh") -> None:
        self.folders = (str(folder),)
        self._path = f"{path}:/usr/bin:/bin"
        self._login = login
        self.line_before = "echo Welcome; "

    def command(self, line: str, *, first: bool = False) -> list[str]:
        there = ["env", f"PATH={self._path}", "TMPDIR=", self._login, "-c", self.line_before + line]
        return [sys.executable, "-S", "-c", CONNECTION, *there]

    def explain(self, notes: str) -> str:
        return f"{self.name}: no shell ({notes.strip()})."

    def how_to_set_up(self) -> str:
        return "Install one"


@pytest.fixture(params=SHELLS)
def shell(request, tmp_path):
    """A device whose sh is the shell of that name."""
    program = shutil.which(request.param)
    if program is None:
        pytest.skip(f"no {request.param} here")
    programs, folder = tmp_path / "bin", tmp_path / "device"
    programs.mkdir()
    folder.mkdir()
    (programs / "sh").symlink_to(program)
    return HereShell(folder, programs)


@pytest.fixture
def place(shell):
    place = RemotePlace(shell, beat_s=0.1, watch_s=1)
    yield place
    place.close()


def test_the_folder_lasts_as_long_as_the_connection(shell):
    place = RemotePlace(shell)
    assert Path(place.folder).parent == Path(shell.folders[0])
    place.close()
    place.close()
    assert list(Path(shell.folders[0]).iterdir()) == []


def test_content_and_arguments_arrive_as_they_are(place, tmp_path):
    content = bytes(range(256)) * 300 + b"no newline at the end"
    path = tmp_path / "all bytes"
    path.write_bytes(content)
    assert Path(place.send(path)).read_bytes() == content
    words = ["a b", "it's", '"', "$HOME", "`x`", "back\\slash", "*", "", "ä\nb", "-n"]
    done = place.run(["printf", "<%s>", *words], timeout_s=20)
    assert done.output == "".join(f"<{word}>" for word in words)
    done = place.run(["cat"], content=b"# not a comment\n  indented\n", timeout_s=20)
    assert done.output == "# not a comment\n  indented\n"


@pytest.mark.parametrize("script, status", [("exit 7", 7), ("kill -SEGV $$", -11), ("kill -KILL $$", -9), ("true", 0)])
def test_the_status_is_that_of_the_command(place, script, status):
    done = place.run(["sh", "-c", f"echo out; echo err >&2; {script}"], timeout_s=20)
    assert (done.status, done.output.strip()) == (status, "out")
    assert "err" in done.notes


def test_what_takes_too_long_is_ended_with_all_it_started(place):
    with pytest.raises(subprocess.TimeoutExpired):
        place.run(["sh", "-c", "sleep 612345 & sleep 612345; true"], timeout_s=1.5)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "612345" not in listed
    assert place.run(["true"], timeout_s=20).status == 0


def test_the_end_of_the_connection_ends_what_runs(place):
    place._guard._process.kill()
    place._guard._process.wait()
    with pytest.raises(TargetError, match=r"^here: the connection was lost"):
        place.run(["true"], timeout_s=20)


def test_a_script_that_is_cut_short_is_a_lost_connection(place):
    with pytest.raises(TargetError, match="the connection was lost"):
        place.run(["sh", "-c", "set -- $(cat ./*.worker); kill -KILL $1; sleep 1"], timeout_s=20)


@pytest.mark.parametrize("login", ["csh", "tcsh", "fish", "zsh", "bash"])
def test_any_login_shell_takes_the_line(tmp_path, login):
    if shutil.which(login) is None:
        pytest.skip(f"no {login} here")
    shell = HereShell(tmp_path, tmp_path, login)
    assert shell.ask("memory.sh").split()[0].isdigit()


def test_a_login_shell_that_ends_is_told(tmp_path):
    shell = HereShell(tmp_path, tmp_path)
    shell.line_before = "echo Go away; exit; "
    with pytest.raises(TargetError, match=r"^here: no shell \(Go away\)\.$"):
        shell.ask("memory.sh")
    with pytest.raises(TargetError, match=r"^here: no shell \(Go away\)\.$"):
        RemotePlace(shell)
