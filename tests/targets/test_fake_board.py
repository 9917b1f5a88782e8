"""The boards that other tests reach over ssh are what they seem to be."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.targets.fake_board import FakeBoard, fake_board


@pytest.fixture
def board(tmp_path: Path) -> Iterator[FakeBoard]:
    with fake_board(None, tmp_path, environment={"GREETING": "it's me"}) as started:
        yield started


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start_session(board: FakeBoard, command: str) -> subprocess.Popen[bytes]:
    place = ["-p", str(board.port), f"{board.user}@{board.host}"]
    return subprocess.Popen(["ssh", "-F", board.ssh_config, *place, command], stderr=subprocess.DEVNULL)


def test_sessions_begin_in_an_empty_home_with_their_variables(board: FakeBoard) -> None:
    done = board.run('pwd; ls -A; echo "$GREETING" "$HOME" "$TMPDIR"; exit 3')
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == f"{board.home}\nit's me {board.home} {board.temporary}\n"
    assert board.target == f"ssh://{board.user}@127.0.0.1:{board.port}"


def test_files_go_there_and_back(board: FakeBoard) -> None:
    assert board.run("echo here > file").returncode == 0
    assert (board.home / "file").read_text() == "here\n"


def test_programs_can_be_replaced(board: FakeBoard) -> None:
    (board.bin / "uname").write_text("#!/bin/sh\necho armv9z\n")
    (board.bin / "uname").chmod(0o755)
    assert board.run("uname -m").stdout == "armv9z\n"


def test_vcgencmd_answers_what_it_was_told(board: FakeBoard) -> None:
    assert board.run("vcgencmd get_throttled").returncode == 127
    board.set_vcgencmd(get_throttled="throttled=0x50005", measure_temp="temp=84.2'C")
    done = board.run("vcgencmd get_throttled; vcgencmd measure_temp; vcgencmd other")
    assert done.stdout == 'throttled=0x50005\ntemp=84.2\'C\nerror=1 error_msg="Command not registered"\n'
    board.set_vcgencmd()
    assert board.run("vcgencmd get_throttled").returncode == 127


def test_a_stranger_and_a_changed_key_are_refused(board: FakeBoard) -> None:
    known = board.known_hosts.read_bytes()
    board.known_hosts.write_bytes(b"")
    done = board.run("true")
    assert (done.returncode, "Host key verification failed" in done.stderr) == (255, True)
    board.known_hosts.write_bytes(known)
    board.change_host_key()
    done = board.run("true")
    assert (done.returncode, "has changed" in done.stderr) == (255, True)


def test_a_wrong_key_is_refused(board: FakeBoard) -> None:
    for name in (board.identity, board.identity.with_suffix(".pub")):
        name.rename(name.with_name(f"old{name.suffix}"))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", board.identity], check=True)
    board.identity.with_suffix(".pub").write_bytes((board.identity.parent / "old.pub").read_bytes())
    assert "Permission denied" in board.run("true").stderr


def test_killed_connections_leave_what_runs_there(board: FakeBoard) -> None:
    with start_session(board, "sleep 300; true") as session:
        wait_until(lambda: any("sleep 300" in command for command in board.processes().values()))
        board.kill_connections()
        assert session.wait(10) == 255
        assert "sleep 300" in " ".join(board.processes().values())
        assert board.run("true").returncode == 0
    board.stop()
    assert board.processes() == {}
    assert board.run("true").returncode == 255


def test_a_board_can_be_started_again(board: FakeBoard) -> None:
    board.stop()
    board.start()
    assert board.run("true").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_small_disk_is_full_soon(tmp_path: Path) -> None:
    with fake_board(None, tmp_path, disk_bytes=2**20) as board:
        done = board.run("head -c 3000000 /dev/zero > zeros")
        assert "No space left" in done.stderr
        assert 0 < (board.home / "zeros").stat().st_size <= 2**20


@pytest.mark.arm
@pytest.mark.timeout(900)  # the first one sets up the userland
@pytest.mark.xdist_group("boards")
@pytest.mark.parametrize("architecture, machine, bits", [("arm64", "aarch64", 64), ("armhf", "armv7l", 32)])
def test_an_emulated_board_is_a_raspberry_pi(tmp_path: Path, architecture: str, machine: str, bits: int) -> None:
    with ExitStack() as stack:
        board = stack.enter_context(fake_board(architecture, tmp_path))
        done = board.run(
            "uname -m; pwd; whoami; tail -1 /proc/cpuinfo; cat /sys/firmware/devicetree/base/model | tr -d '\\0'"
        )
        model = "Raspberry Pi 4 Model B Rev 1.4" if bits == 64 else "Raspberry Pi 3 Model B Rev 1.2"
        assert done.stdout == f"{machine}\n/root\nroot\nModel\t\t: {model}\n{model}"
        code = "import os, struct, sys; print(sys.version_info[:2], 8 * struct.calcsize('P'), os.cpu_count())"
        assert board.run(f'python3 -c "{code}"').stdout == f"(3, 11) {bits} 4\n"
        board.set_vcgencmd(measure_temp="temp=61.0'C")
        assert board.run("vcgencmd measure_temp").stdout == "temp=61.0'C\n"
        assert board.run("echo there > /tmp/file").returncode == 0
        assert (board.temporary / "file").read_text() == "there\n"
        assert str(board.root) not in Path("/proc/self/mounts").read_text()
        with start_session(board, "sleep 300; true") as session:
            wait_until(lambda: any("sleep 300" in command for command in board.processes().values()))
            board.kill_connections()
            assert session.wait(10) == 255
    assert board.processes() == {}
    assert not (tmp_path / "root").exists()


@pytest.mark.arm
@pytest.mark.timeout(900)  # the first one sets up the userland
@pytest.mark.xdist_group("boards")
def test_an_emulated_board_makes_environments_and_takes_files_by_sftp(tmp_path: Path) -> None:
    with fake_board("arm64", tmp_path) as board:
        (tmp_path / "sent").write_text("content")
        place = ["-P", str(board.port), f"root@{board.host}"]
        command = ["sftp", "-q", "-b", "-", "-F", board.ssh_config, *place]
        subprocess.run(command, input=f"put {tmp_path}/sent received\n", text=True, check=True, capture_output=True)
        assert (board.home / "received").read_text() == "content"
        done = board.run("python3 -m venv --without-pip env && env/bin/python -c 'import sys; print(sys.prefix)'")
        assert (done.stdout, done.stderr) == ("/root/env\n", "")
