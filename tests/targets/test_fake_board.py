"""The boards that other tests reach over ssh are what they seem to be."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.targets import board_userland
from tests.targets import fake_board as module
from tests.targets.board_userland import BINFMT, REQUIRED, smallest_program, try_program
from tests.targets.fake_board import FakeBoard, board_obstacle, fake_board

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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


def give_up_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception) as raised, fake_board(None, tmp_path):
        pass
    return str(raised.value)


def mount_for_sshd_alone(monkeypatch: pytest.MonkeyPatch, *commands: str) -> None:
    monkeypatch.setattr(FakeBoard, "_mounts", lambda _: [f"{{ {command}; }} || exit 1" for command in commands])


@needs_root
def test_a_locked_account_is_a_reason_to_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text("root:!:20000:0:99999:7:::\n")
    shadow.chmod(0o600)
    mount_for_sshd_alone(monkeypatch, f"mount --bind {shadow} /etc/shadow")
    reason = give_up_reason(tmp_path / "board", monkeypatch)
    assert reason.startswith("nobody can log in to a board on this machine: User root not allowed because")
    assert "locked" in reason


@needs_root
def test_a_shell_that_lets_nobody_in_is_a_reason_to_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passwd = tmp_path / "passwd"
    entries = Path("/etc/passwd").read_text().splitlines(keepends=True)
    others = [line for line in entries if not line.startswith("root:")]
    passwd.write_text("".join(["root:x:0:0:root:/root:/usr/sbin/no-such-shell\n", *others]))
    mount_for_sshd_alone(monkeypatch, f"mount --bind {passwd} /etc/passwd")
    reason = give_up_reason(tmp_path / "board", monkeypatch)
    assert "User root not allowed because shell /usr/sbin/no-such-shell does not exist" in reason


@needs_root
def test_a_folder_without_programs_is_a_reason_to_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "board"
    bind = f"mount --bind {folder} {folder} && mount -o remount,bind,noexec {folder}"
    mount_for_sshd_alone(monkeypatch, bind)
    reason = give_up_reason(folder, monkeypatch)
    assert "/enter: Permission denied" in reason


def test_a_user_without_an_account_is_a_reason_to_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", find)
    assert board_obstacle(None) == f"user {os.geteuid()} has no entry in /etc/passwd, so sshd lets nobody in"
    assert give_up_reason(tmp_path, monkeypatch) == board_obstacle(None)


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false"])
def test_a_user_without_a_shell_is_a_reason_to_give_up(monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    service = pwd.struct_passwd(("service", "x", 999, 999, "", "/", shell))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: service)
    assert board_obstacle(None) == f"the shell of service is {shell}, so nobody can log in"


def test_a_login_that_fails_for_no_known_reason_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ENTER", "#!/bin/sh\necho broken >&2\nexit 7\n{sftp:.0}{shell:.0}")
    with pytest.raises(RuntimeError, match=r"A login fails with status 7: .*broken"), fake_board(None, tmp_path):
        pass


def test_a_port_that_was_taken_meanwhile_is_left_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_free_port = module._free_port
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        ports = iter([taken])
        monkeypatch.setattr(module, "_free_port", lambda: next(ports, None) or find_free_port())
        with fake_board(None, tmp_path) as board:
            assert board.port != taken
            assert board.target.endswith(f":{board.port}")
            assert board.run("echo me").stdout == "me\n"


def test_a_board_that_is_started_again_waits_for_its_port(board: FakeBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    board.stop()
    pauses = []

    def pause(seconds: float) -> None:
        if seconds == 0.1:  # one for each trial that failed
            pauses.append(seconds)
            stranger.close()

    port = board.port
    with socket.create_server((board.host, port)) as stranger:
        monkeypatch.setattr(module.time, "sleep", pause)
        board.start()
    assert (board.port, len(pauses)) == (port, 1)
    assert board.run("echo me").stdout == "me\n"


@needs_root
def test_a_small_disk_is_full_soon(tmp_path: Path) -> None:
    with fake_board(None, tmp_path, disk_bytes=2**20) as board:
        done = board.run("head -c 3000000 /dev/zero > zeros")
        assert "No space left" in done.stderr
        assert 0 < (board.home / "zeros").stat().st_size <= 2**20


@needs_root
def test_programs_that_the_kernel_cannot_run_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = smallest_program("arm64")
    # The same for a machine that there is not.
    monkeypatch.setattr(board_userland, "smallest_program", lambda _: arm[:18] + b"\xee\xee" + arm[20:])
    problem = try_program("arm64")
    assert problem is not None
    assert problem.startswith("programs for arm64 do not run in a root folder of their own (")
    assert "/program" in problem


@needs_root
@pytest.mark.parametrize("architecture, program", [("arm64", "qemu-aarch64"), ("armhf", "qemu-arm")])
def test_what_is_registered_already_is_no_error(architecture: str, program: str) -> None:
    if not (BINFMT / program).exists():
        pytest.skip(f"{program} is not registered")
    before = (BINFMT / program).read_text()
    board_userland._register(program)
    assert (BINFMT / program).read_text() == before


@pytest.fixture
def fake_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of binfmt_misc, and an emulator that is installed."""
    folder = tmp_path / "binfmt_misc"
    folder.mkdir()
    (folder / "register").write_text("")
    (tmp_path / "qemu-aarch64.conf").write_text(":qemu-aarch64:M::magic:mask:/emulator:F\n")
    monkeypatch.setattr(board_userland, "BINFMT", folder)
    monkeypatch.setattr(board_userland, "BINFMT_SETTINGS", tmp_path)
    monkeypatch.setattr(board_userland, "BINFMT_LOCK", tmp_path / "lock")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return folder


def test_an_entry_that_does_not_work_is_a_reason_to_give_up(fake_kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = "disabled\ninterpreter /emulator\nflags: OC\noffset 0\nmagic 7f\n"
    (fake_kernel / "qemu-aarch64").write_text(entry)
    monkeypatch.setattr(board_userland, "try_program", lambda _: "programs do not run")
    assert board_userland.emulation_obstacle("arm64") == (
        "programs do not run: the entry qemu-aarch64 of binfmt_misc must be enabled and have flag F, but is: disabled, "
        "interpreter /emulator, flags: OC"
    )
    (fake_kernel / "qemu-aarch64").unlink()
    assert "binfmt_misc has no entry qemu-aarch64" in str(board_userland.emulation_obstacle("arm64"))
    (fake_kernel.parent / "qemu-aarch64.conf").unlink()
    assert "apt-get install qemu-user-static" in str(board_userland.emulation_obstacle("arm64"))


@pytest.mark.parametrize("runs", [True, False])
def test_an_emulator_is_registered_only_where_none_works(
    fake_kernel: Path, monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    monkeypatch.setattr(
        board_userland, "try_program", lambda _: None if runs or (fake_kernel / "register").read_text() else "no"
    )
    board_userland.emulation_obstacle("arm64")
    written = (fake_kernel / "register").read_text()
    assert written == ("" if runs else ":qemu-aarch64:M::magic:mask:/emulator:F")


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
