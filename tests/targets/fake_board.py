"""A board to reach over ssh: a real sshd on loopback.

    with fake_board("arm64", tmp_path) as board:
        monkeypatch.setenv("EDGELSTM_SSH_CONFIG", str(board.ssh_config))
        ...

With "arm64" or "armhf" sessions land in a Debian of that architecture, run by QEMU, that describes itself as a
Raspberry Pi. It has Python with venv, bash, coreutils, sftp-server, but no TFLite runtime and no network that tests
should use. It needs root, binfmt_misc and qemu-user-static. Every board has a copy of the userland of its own, so tests
may write and break what they like. The first on a machine also fetches and unpacks the userland.

With None sessions land in this machine's own userland, in an empty home folder. It only needs openssh-server and works
for every user; nothing keeps a session from reading or writing elsewhere.

Where the machine cannot do that, `fake_board` skips the test with the reason, or fails it if $EDGELSTM_REQUIRE_ARM is
set; `board_obstacle(architecture)` returns the reason, if it can be told beforehand. What sshd thinks of the user's
account and of the folder is found out by a trial login.

    board.target              "ssh://USER@127.0.0.1:PORT"
    board.host, board.port, board.user
    board.ssh_config          for ssh -F: identity, known_hosts (which holds the board's key), no other agent or config
    board.known_hosts         that file; empty it to be a stranger
    board.identity            the private key; the board takes no other, and no password
    board.root                its / as seen from here; Path("/") with None
    board.home                folder here in which sessions begin; $HOME there
    board.temporary           folder here that is its /tmp; with None it is named in $TMPDIR
    board.bin                 folder here that is first on its PATH: put scripts there to replace programs
    board.run("uname -m")     runs a command by ssh and returns the finished process, output as text
    board.set_vcgencmd(get_throttled="throttled=0x50005", measure_temp="temp=84.2'C")
                              what vcgencmd answers from now on, by its first argument; board.set_vcgencmd() removes it
    board.change_host_key()   gives it another host key; known_hosts keeps the old one
    board.kill_connections()  kills the sshd processes of all sessions, as a lost connection does; what the sessions
                              started there lives on
    board.processes()         what sessions started there and still runs: command lines by process number
    board.stop(), board.start()   stop also kills what sessions started

Options of `fake_board`:
    environment               variables for all sessions, e.g. {"PATH": str(folder)}
    disk_bytes                its home and /tmp together hold no more than that; needs root
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgelstm.errors import TargetError
from tests.targets.board_userland import board_userland, emulation_obstacle, give_up
from tests.targets.processes import kill, name_of, parents

SSHD = "/usr/sbin/sshd"
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
MARKER = "EDGELSTM_FAKE_BOARD"
START_TIMEOUT_S = 10

_REFUSALS = ("not allowed because", "Invalid user", "/enter: Permission denied")
"""Parts of what is said where logging in is impossible on this machine: by sshd of accounts that are locked, have no
shell or are unknown to it; by the user's shell of scripts in file systems that are mounted noexec."""

_SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/identity.pub
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
MaxStartups 100
Subsystem sftp {sftp}
ForceCommand {folder}/enter
"""

_SSH_CONFIG = """\
Host 127.0.0.1
  IdentityFile {folder}/identity
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
"""

_ENTER = """\
#!/bin/sh
case "$SSH_ORIGINAL_COMMAND" in
  internal-sftp|*/sftp-server) command="exec {sftp}";;
  "") command="exec {shell} -l";;
  *) command="$SSH_ORIGINAL_COMMAND";;
esac
{change_root}exec {enter_root}/usr/bin/env -i {variables} SSH_CONNECTION="$SSH_CONNECTION" {shell} -c "cd; $command"
"""

_VCGENCMD = """\
#!/bin/sh
cat "{folder}/$1" 2>/dev/null || echo 'error=1 error_msg="Command not registered"'
"""


def board_obstacle(architecture: str | None) -> str | None:
    """Returns why there can be no such board on this machine, None if there can."""
    missing = [name for name in ("ssh", "ssh-keygen", SSHD) if shutil.which(name) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install openssh-client openssh-server"
    try:
        account = pwd.getpwuid(os.geteuid())
    except KeyError:
        return f"user {os.geteuid()} has no entry in /etc/passwd, so sshd lets nobody in"
    if Path(account.pw_shell).name in ("false", "nologin"):
        return f"the shell of {account.pw_name} is {account.pw_shell}, so nobody can log in"
    return None if architecture is None else emulation_obstacle(architecture)


@contextlib.contextmanager
def fake_board(
    architecture: str | None,
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    disk_bytes: int | None = None,
) -> Iterator[FakeBoard]:
    """Starts a board and stops it at the end; see the module. The folder is an empty one of the test."""
    obstacle = board_obstacle(architecture)
    if obstacle is None and disk_bytes is not None and os.geteuid() != 0:
        obstacle = "a board with a small disk needs root"
    if obstacle is not None:
        give_up(obstacle)
    try:
        root = None if architecture is None else _copy(board_userland(architecture), folder / "root")
    except TargetError as error:
        give_up(str(error))
    board = FakeBoard(folder / "board", root, dict(environment or {}), disk_bytes)
    try:
        board.start()
        refusal = board.try_login()
        if refusal is not None:
            give_up(refusal)
        yield board
    finally:
        board.stop()
        if root is not None:
            shutil.rmtree(root)


class FakeBoard:
    """A board that can be reached over ssh; see the module.

    Args:
        folder: For keys and settings, and home and temporary folder if there is no root.
        root: The userland that sessions land in; None for this machine's.
        environment: Variables for all sessions.
        disk_bytes: Size of the file system that home and temporary folder are in; None for any.
    """

    def __init__(self, folder: Path, root: Path | None, environment: dict[str, str], disk_bytes: int | None) -> None:
        self._folder = folder
        self._userland = root
        self._token = secrets.token_hex(8)
        self._disk_bytes = disk_bytes
        self._server: subprocess.Popen[bytes] | None = None
        self._is_known = False
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.host = "127.0.0.1"
        self.identity, self.known_hosts = folder / "identity", folder / "known_hosts"
        self.ssh_config = folder / "ssh_config"
        self.bin = root / "usr/local/bin" if root else folder / "bin"
        disk = "disk/" if disk_bytes else ""
        self._home = (root or folder) / f"{disk}{'root' if root else 'home'}"
        self._temporary = (root or folder) / f"{disk}tmp"
        for place in (folder, self._home, self._temporary, self.bin):
            place.mkdir(parents=True, exist_ok=True)
        self._write_settings(environment)
        self._take_port(_free_port())

    @property
    def root(self) -> Path:
        """Its / as seen from here."""
        return self._seen(self._userland or Path("/"))

    @property
    def home(self) -> Path:
        """The folder here in which sessions begin."""
        return self._seen(self._home)

    @property
    def temporary(self) -> Path:
        """The folder here that is its /tmp."""
        return self._seen(self._temporary)

    def run(self, command: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs a command there."""
        place = ["-p", str(self.port), f"{self.user}@{self.host}"]
        return subprocess.run(
            ["ssh", "-F", self.ssh_config, "-o", "BatchMode=yes", *place, command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def set_vcgencmd(self, **answers: str) -> None:
        """Sets what vcgencmd answers by its first argument; without any, removes it."""
        script, folder = self.bin / "vcgencmd", self.bin / ".vcgencmd"
        shutil.rmtree(folder, ignore_errors=True)
        script.unlink(missing_ok=True)
        if answers:
            folder.mkdir()
            for name, answer in answers.items():
                (folder / name).write_text(f"{answer}\n", encoding="utf-8")
            _write_script(script, _VCGENCMD.format(folder=self._there(folder)))

    def change_host_key(self) -> None:
        """Gives it another host key; known_hosts keeps the old one."""
        self.stop()
        for name in ("host_key", "host_key.pub"):
            (self._folder / name).unlink()
        _make_key(self._folder / "host_key")
        self.start()

    def kill_connections(self) -> None:
        """Kills the sshd processes of all sessions, and nothing else."""
        server = self._server
        above_of = {} if server is None else parents()
        for pid in above_of:
            ancestors, above = [], pid
            while above in above_of:
                above = above_of[above]
                ancestors.append(above)
            if server is not None and server.pid in ancestors and name_of(pid) == "sshd":
                kill(pid)

    def processes(self) -> dict[int, str]:
        """Returns what sessions started and still runs: command lines by process number."""
        mark, found = f"{MARKER}={self._token}".encode(), {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(entry.name)] = command.strip()
        return {pid: command for pid, command in found.items() if command}

    def try_login(self) -> str | None:
        """Returns why nobody can log in on this machine, None if that works.

        Raises:
            RuntimeError: If it is the board's own fault.
        """
        done = self.run("true")
        if done.returncode == 0:
            return None
        said = [line.strip() for line in (self._log() + done.stderr).splitlines()]
        found = [line for line in said if any(part in line for part in _REFUSALS)]
        if not found:
            raise RuntimeError(f"A login fails with status {done.returncode}: {' '.join(said)}")
        return f"nobody can log in to a board on this machine: {found[0]}"

    def start(self) -> None:
        """Starts the sshd, at another port if the first is taken; after that it waits until its own is free."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._start_once(deadline):
            self.stop()
            if "Address already in use" not in self._log() or time.monotonic() >= deadline:
                raise RuntimeError(f"sshd did not start: {self._log()}")
            if self._is_known:
                time.sleep(0.1)
            else:
                self._take_port(_free_port())
        self._is_known = True

    def _start_once(self, deadline: float) -> bool:
        """Starts the sshd and returns whether it listens."""
        command = f"exec {SSHD} -D -e -f {shlex.quote(str(self._folder / 'sshd_config'))}"
        arguments = ["/bin/sh", "-c", "\n".join([*self._mounts(), command])]
        if self._mounts():
            # What is mounted there is mounted for it and its sessions alone, and vanishes with them.
            arguments = ["unshare", "-m", "--propagation", "private", *arguments]
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with (self._folder / "log").open("wb") as log:
            self._server = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while time.monotonic() < deadline and self._server.poll() is None:
            # Whoever has taken the port would let us connect as well.
            if "Server listening on" in self._log():
                return True
            time.sleep(0.02)
        return False

    def _log(self) -> str:
        """Returns what the sshd said since it was started."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """Stops the sshd, all sessions, and what they started."""
        if self._server is not None:
            self.kill_connections()
            self._server.kill()
            self._server.wait()
            self._server = None
        deadline = time.monotonic() + START_TIMEOUT_S
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                kill(pid)
            time.sleep(0.02)

    def _write_settings(self, environment: dict[str, str]) -> None:
        folder, root = self._folder, self._userland
        for name in ("host_key", "identity"):
            _make_key(folder / name)
        self.ssh_config.write_text(_SSH_CONFIG.format(folder=folder), encoding="utf-8")
        variables = {
            "PATH": f"{self._there(self.bin)}:/usr/bin:/bin",
            "HOME": self._there(self._home),
            "USER": self.user,
            "LC_ALL": "C.UTF-8",
            "TMPDIR": self._there(self._temporary),
            MARKER: self._token,
            **environment,
        }
        if root is not None:
            del variables["TMPDIR"]
        text = _ENTER.format(
            sftp=SFTP_SERVER,
            shell="/bin/sh" if root is None else "/bin/bash",
            change_root=""
            if root is None
            else "export QEMU_CPU=$(cat " + shlex.quote(str(root / "board/core")) + ")\n",
            enter_root="" if root is None else f"/usr/sbin/chroot {shlex.quote(str(root))} ",
            variables=" ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items()),
        )
        _write_script(folder / "enter", text)

    def _take_port(self, port: int) -> None:
        self.port, self.target = port, f"ssh://{self.user}@{self.host}:{port}"
        key = " ".join((self._folder / "host_key.pub").read_text(encoding="ascii").split()[:2])
        self.known_hosts.write_text(f"[{self.host}]:{port} {key}\n", encoding="ascii")
        (self._folder / "sshd_config").write_text(
            _SSHD_CONFIG.format(port=port, folder=self._folder, sftp=SFTP_SERVER), encoding="utf-8"
        )

    def _mounts(self) -> list[str]:
        """Returns the commands that mount what the board needs; they are run in a name space of their own."""
        lines = []
        if self._userland is not None:
            root = shlex.quote(str(self._userland))
            lines += [
                f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && mount -t sysfs sysfs {root}/sys",
                f"mount --bind {root}/board/proc/cpuinfo {root}/proc/cpuinfo",
                f"mount --bind {root}/board/sys/devices/system/cpu {root}/sys/devices/system/cpu",
                f"mount --bind {root}/board/sys/firmware {root}/sys/firmware",
            ]
        if self._disk_bytes is not None:
            disk = shlex.quote(str((self._userland or self._folder) / "disk"))
            places = f"{shlex.quote(self._home.name)} {shlex.quote(self._temporary.name)}"
            lines += [
                f"mount -t tmpfs -o size={self._disk_bytes} disk {disk} && cd {disk} && mkdir {places} && cd /",
                *([f"mount --bind {disk}/tmp {disk}/../tmp"] if self._userland else []),
            ]
        return [f"{{ {line}; }} || exit 1" for line in lines]

    def _there(self, path: Path) -> str:
        """Returns the path on the board of a path here."""
        return str(path) if self._userland is None else f"/{path.relative_to(self._userland)}"

    def _seen(self, path: Path) -> Path:
        """Returns a path here that shows what is mounted for the board alone."""
        if self._disk_bytes is None or self._server is None:
            return path
        return Path(f"/proc/{self._server.pid}/root") / path.relative_to("/")


def _copy(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)
    return target


def _write_script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "board", "-f", path], check=True)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
