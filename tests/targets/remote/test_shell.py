"""Scripts as they run on a device, in the shells that devices have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgelstm.errors import TargetError
from edgelstm.targets.remote import exchange, guard
from edgelstm.targets.remote.guard import Guard
from edgelstm.targets.remote.place import RemotePlace
from edgelstm.targets.remote.shell import LOST, Shell, printable

CONNECTION = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], start_new_session=True).returncode)"
"""What a connection is here: it can be ended, and what it started goes on."""

SHELLS = ("dash", "bash", "busybox", "mksh", "ksh", "zsh")

# One after the other: tests look for processes by what they were started with.
pytestmark = pytest.mark.xdist_group("shells")


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

    def how_to_set_up(self, runtime: str | None = None) -> str:
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
    seconds = f"6{os.getpid()}"  # not those of the same test with another shell, which may run beside this one
    with pytest.raises(subprocess.TimeoutExpired):
        place.run(["sh", "-c", f"sleep {seconds} & sleep {seconds}; true"], timeout_s=1.5)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"sleep {seconds}" not in listed
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


@pytest.fixture
def here(tmp_path):
    """A device with this machine's own shell, whose programs can be replaced."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "device").mkdir()
    return HereShell(tmp_path / "device", tmp_path / "bin")


def give(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def is_running(words: str) -> bool:
    return words in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def ends_soon(words: str) -> bool:
    deadline = time.monotonic() + 10
    while is_running(words) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(words)


def test_a_probe_that_hangs_is_ended_there(shell, tmp_path):
    give(tmp_path, "python3", "sleep 7123451 & sleep 7123451")
    with pytest.raises(TargetError, match=r"^here: it did not answer within 1 s"):
        shell.ask("pythons.sh", "", "", "0", "python3", timeout_s=1)
    assert ends_soon("7123451")
    assert shell.ask("free.sh", timeout_s=7123452).strip().isdigit()
    assert ends_soon("7123452"), "the watcher stayed"


def test_a_probe_that_hangs_is_ended_also_when_the_connection_is_gone(here, tmp_path, monkeypatch):
    give(tmp_path, "python3", "sleep 7123453")
    monkeypatch.setattr("edgelstm.targets.remote.shell._GRACE_S", -1.0)  # the local program is stopped before
    with pytest.raises(TargetError, match="did not answer"):
        here.ask("pythons.sh", "", "", "0", "python3", timeout_s=2)
    assert is_running("7123453")
    assert ends_soon("7123453")


def test_a_command_that_starts_while_the_guard_ends_does_not_run(here, tmp_path):
    marks = tmp_path / "began", tmp_path / "ran"
    give(tmp_path, "rm", f'touch {marks[0]}; sleep 3; exec /usr/bin/rm "$@"')
    place = RemotePlace(here)
    thread = threading.Thread(target=place.close)
    thread.start()
    while not marks[0].exists():
        time.sleep(0.01)
    done = here.run("run.sh", place.folder, "9", "touch", str(marks[1]), timeout_s=20)
    thread.join()
    assert done.status == LOST
    assert not marks[1].exists()
    assert not Path(place.folder).exists()


def test_a_device_that_never_stops_talking_is_given_up(here, monkeypatch):
    monkeypatch.setattr(guard, "START_TIMEOUT_S", 1.0)
    here.line_before = "while sleep 0.05; do echo Welcome; done; "
    began = time.monotonic()
    with pytest.raises(TargetError, match=r"^here: it was connected, but did not answer within 1 s"):
        Guard(here)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("ask", [lambda shell: shell.ask("free.sh", timeout_s=30), Guard], ids=["ask", "guard"])
def test_what_a_device_prints_is_not_read_without_end(here, ask):
    here.line_before = "yes Welcome; "
    with pytest.raises(TargetError, match=r"^here: it printed more than 1,048,576 bytes before it ran anything"):
        ask(here)


def test_what_a_worker_prints_is_not_read_without_end(here, monkeypatch):
    monkeypatch.setattr(exchange, "MOST_AFTER", 5 << 20)
    place = RemotePlace(here)
    with pytest.raises(TargetError, match=r"^here: it answered more than 5,242,880 bytes"):
        place.run(["yes"], timeout_s=30)
    place.close()


def test_much_is_written_and_read_at_the_same_time(here, tmp_path):
    content = bytes(range(32, 127)) * 30_000
    place = RemotePlace(here)
    done = place.run(["tee", "/dev/stderr"], content=content, timeout_s=30)
    place.close()
    assert done.output.encode() == content
    assert done.notes.encode() == content[-exchange.MOST_NOTES :]


def test_the_end_waits_for_nothing_that_the_local_program_left(here, monkeypatch):
    monkeypatch.setattr(guard, "END_TIMEOUT_S", 0.5)
    command = here.command
    proxy = "import subprocess; subprocess.Popen(['sleep', '7123454']); "
    monkeypatch.setattr(here, "command", lambda line, *, first=False: [
        *(word.replace("import subprocess,", f"{proxy}import subprocess,") if first else word
          for word in command(line, first=first))])  # fmt: skip
    place = RemotePlace(here)
    assert is_running("7123454")
    place._guard._process.kill()
    began = time.monotonic()
    place.close()
    assert time.monotonic() - began < 10
    assert ends_soon("7123454")


def test_a_program_that_cannot_be_started_is_no_lost_connection(here, monkeypatch):
    place = RemotePlace(here)
    monkeypatch.setattr(here, "command", lambda line, *, first=False: ["/no/such/ssh"])
    with pytest.raises(TargetError, match=r"^here: /no/such/ssh here cannot be started: no such file or directory\."):
        place.run(["true"], timeout_s=20)
    place.close()


def test_long_names_and_strange_ones_arrive(here, tmp_path):
    path = tmp_path / ("n" * 246 + ".tflite")
    path.write_bytes(b"model")
    place = RemotePlace(here)
    there = Path(place.send(path))
    assert there.read_bytes() == b"model"
    assert there.name.endswith("nn.tflite")
    assert len(there.name) < 140
    place.close()


def test_an_interrupted_command_is_ended_there(here, monkeypatch):
    place = RemotePlace(here)
    run = here.run

    def interrupted(*arguments, **options):
        if arguments[0] != "run.sh":
            return run(*arguments, **options)
        with pytest.raises(subprocess.TimeoutExpired):
            run(*arguments, **{**options, "timeout_s": 1.5})
        raise KeyboardInterrupt

    monkeypatch.setattr(here, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        place.run(["sleep", "7123455"], timeout_s=60)
    assert not is_running("7123455")
    place.close()


def test_what_a_terminal_would_obey_is_replaced_where_it_enters(here):
    here.line_before = "printf 'Go\\033]0;away\\r\\n'; exit; "
    with pytest.raises(TargetError, match=r"^here: no shell \(Go\ufffd\]0;away\)\.$"):
        here.ask("free.sh")
    assert printable("a\tb\r\nc\u202ed\ud800ä→") == "a\tb\nc\ufffdd\ufffdä→"


class TestStale:
    """What guards of earlier connections left, and what only looks like it."""

    @pytest.fixture
    def device(self, here):
        return Path(here.folders[0])

    def make(self, device: Path, name: str, *, old: bool = True, **files: str) -> Path:
        folder = device / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        if old:
            os.utime(folder, (0, 0))
        return folder

    def connect(self, shell: Shell) -> str:
        place = RemotePlace(shell)
        where = Path(place.folder, "guard").read_text()
        place.close()
        return where

    def test_folders_that_no_guard_made_stay_with_all_that_is_in_them(self, here, device):
        mine = [
            self.make(device, "edgelstm-run-output", results="a week of work"),
            self.make(device, ".edgelstm-run.0123456789", results="a week of work"),
            self.make(device, ".edgelstm-run.abcdefghij", guard="my notes", results="a week of work"),
            self.make(device, ".edgelstm-run.Young12345", old=False),
        ]
        self.connect(here)
        assert [(folder / "results").exists() for folder in mine] == [True, True, True, False]
        assert all(folder.is_dir() for folder in mine)

    def test_a_probe_that_was_left_is_removed(self, here, device):
        folder = self.make(device, ".edgelstm-run.0123456789", probe="#!/bin/sh")
        self.connect(here)
        assert not folder.exists()

    @pytest.mark.parametrize("name", ["guard", "over"])
    def test_folders_of_dead_guards_are_removed_and_those_of_strangers_are_not(self, here, device, name):
        where = self.connect(here)
        _, _, host, space = where.split()
        assert space.startswith("pid:[")
        ours = self.make(device, ".edgelstm-run.0123456789", model="x", **{name: f"4194305 12345 {host} {space}\n"})
        strangers = [
            self.make(device, ".edgelstm-run.1123456789", guard=f"4194305 12345 other-host {space}\n"),
            self.make(device, ".edgelstm-run.2123456789", guard=f"4194305 12345 {host} pid:[1]\n"),
            self.make(device, ".edgelstm-run.3123456789", guard="4194305 12345\n"),
        ]
        self.connect(here)
        assert not ours.exists()
        assert all((folder / "guard").exists() for folder in strangers)
