"""The userland of boards that tests reach over ssh: a small Debian that sessions can live in."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from edgelstm.targets.emulated.boards import BOARDS, DEFAULT_BOARDS, core_of, describe_board
from edgelstm.targets.emulated.debian import unpack
from edgelstm.targets.emulated.locks import locked
from edgelstm.targets.emulated.pins import ARCHITECTURES
from edgelstm.targets.emulated.userland import fetch_packages, home

PACKAGES = (
    *("base-files", "base-passwd", "bash", "dash", "debianutils", "coreutils", "findutils", "grep", "sed", "mawk"),
    *("hostname", "tar"),
    *("gzip", "procps", "util-linux", "openssh-sftp-server", "ca-certificates", "libstdc++6", "libgomp1", "libatomic1"),
    *("python3", "python3-venv", "python3-pip-whl", "python3-setuptools-whl"),
    "libc-bin",  # the locale C.UTF-8, on which nothing depends
)
EXTRA = {"armhf": ("python3-numpy",)}
"""There is no wheel of numpy for armhf."""

CHROOT = "/usr/sbin/chroot"  # not in everybody's PATH
BINFMT = Path("/proc/sys/fs/binfmt_misc")
BINFMT_SETTINGS = Path("/usr/lib/binfmt.d")
BINFMT_LOCK = Path("/run/edgelstm-binfmt.lock")
"""The kernel has one table for all users and all folders of edgelstm."""
STATUS = 42
REQUIRED = "EDGELSTM_REQUIRE_ARM"
"""If this variable is set, tests that cannot be run fail: a machine that is made for them must not skip them."""


def give_up(reason: str) -> NoReturn:
    """Skips a test, or fails it where it is required."""
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


def emulation_obstacle(architecture: str) -> str | None:
    """Returns why this machine cannot run the userland of a board, None if it can."""
    if os.geteuid() != 0:
        return "an emulated board needs root"
    try:
        with locked(BINFMT_LOCK):
            if try_program(architecture) is not None:
                _register(ARCHITECTURES[architecture].emulator)
    except OSError as error:
        return f"binfmt_misc cannot be set up: {error}"
    problem = try_program(architecture)
    if problem is not None:
        return f"{problem}: {_entry(ARCHITECTURES[architecture].emulator)}"
    private = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return None if private.returncode == 0 else "name spaces cannot be made here"


def try_program(architecture: str) -> str | None:
    """Runs an Arm program in a root folder of its own; returns why that fails, None if it works."""
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        program = Path(folder) / "program"
        program.write_bytes(smallest_program(architecture))
        program.chmod(0o755)
        done = subprocess.run([CHROOT, folder, "/program"], capture_output=True, text=True, check=False)
    if done.returncode == STATUS:
        return None
    reason = (done.stderr.strip() or f"status {done.returncode}").removeprefix("chroot: ")
    return f"programs for {architecture} do not run in a root folder of their own ({reason})"


def smallest_program(architecture: str) -> bytes:
    """Returns an ELF file, statically linked, that exits with `STATUS`.

    Sources: "Tool Interface Standard, Executable and Linking Format", version 1.2, figures 1-3 and 2-1; the numbers of
    exit in Linux, 93 on arm64 and 1 on armhf.
    """
    start, flags_read_execute = 0x10000, 5
    if architecture == "arm64":
        # mov x0, #STATUS; mov x8, #93; svc #0
        code = struct.pack("<3I", 0xD2800000 | STATUS << 5, 0xD2800000 | 93 << 5 | 8, 0xD4000001)
        size, kind, machine, flags = 64 + 56, 2, 183, 0
        head = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, start + size, 64, 0, flags, 64, 56, 1, 64, 0, 0)
        total = size + len(code)
        segment = struct.pack("<IIQQQQQQ", 1, flags_read_execute, 0, start, start, total, total, 0x1000)
    else:
        # mov r0, #STATUS; mov r7, #1; svc #0
        code = struct.pack("<3I", 0xE3A00000 | STATUS, 0xE3A07001, 0xEF000000)
        size, kind, machine, flags = 52 + 32, 1, 40, 0x5000400  # version 5 of the ABI, floats in registers
        head = struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, start + size, 52, 0, flags, 52, 32, 1, 40, 0, 0)
        total = size + len(code)
        segment = struct.pack("<8I", 1, 0, start, start, total, total, flags_read_execute, 0x1000)
    return b"\x7fELF" + bytes([kind, 1, 1]) + bytes(9) + head + segment + code


def _register(program: str) -> None:
    """Tells the kernel to run Arm programs by an emulator, which it does until it is restarted.

    Raises:
        OSError: If the kernel refuses, or the emulator is not installed.
    """
    settings = BINFMT_SETTINGS / f"{program}.conf"
    if not settings.exists():
        raise FileNotFoundError(f"no {settings}: apt-get install qemu-user-static")
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], capture_output=True, check=False)
    try:
        (BINFMT / "register").write_text(settings.read_text(encoding="ascii").strip(), encoding="ascii")
    except OSError as error:
        # Another container on this kernel was faster, or it is there but does not work, which is found out next.
        if error.errno != errno.EEXIST:
            raise


def _entry(program: str) -> str:
    """Returns what the kernel says of its entry for an emulator, which must be enabled and have flag F."""
    try:
        lines = (BINFMT / program).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return f"binfmt_misc has no entry {program}"
    known = ", ".join(line for line in lines if line.startswith(("enabled", "disabled", "interpreter", "flags")))
    return f"the entry {program} of binfmt_misc must be enabled and have flag F, but is: {known}"


def board_userland(architecture: str) -> Path:
    """Returns the userland, which must not be changed; builds it where there is none.

    Raises:
        TargetError: If it cannot be built.
    """
    content = repr((PACKAGES, EXTRA, BOARDS[DEFAULT_BOARDS[architecture]]))
    place = home() / "test-boards" / f"{architecture}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    with locked(place.parent / f".{place.name}.lock"):
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as folder:
                _build(architecture, Path(folder) / "root")
                (Path(folder) / "root").rename(place)
    return place


def _build(architecture: str, root: Path) -> None:
    packages, _ = fetch_packages(architecture, [*PACKAGES, *EXTRA.get(architecture, ())])
    unpack(packages, root)
    for name in ("passwd", "group"):
        shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / "etc" / name)
    for name in ("proc", "sys", "dev", "tmp", "root", "run"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for link, target in (("bin/sh", "dash"), ("usr/bin/awk", "mawk")):
        if not (root / link).exists():
            (root / link).symlink_to(target)
    for name in ("doc", "man", "locale", "i18n"):
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    board = BOARDS[DEFAULT_BOARDS[architecture]]
    describe_board(board, architecture, root / "board")
    (root / "board/core").write_text(core_of(board, architecture), encoding="ascii")
