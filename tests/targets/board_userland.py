"""The userland of boards that tests reach over ssh: a small Debian that sessions can live in."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from edgelstm.targets.emulated.boards import BOARDS, DEFAULT_BOARDS, core_of, describe_board
from edgelstm.targets.emulated.debian import unpack
from edgelstm.targets.emulated.pins import ARCHITECTURES
from edgelstm.targets.emulated.userland import fetch_packages, home, locked

PACKAGES = (
    *("base-files", "base-passwd", "bash", "dash", "debianutils", "coreutils", "findutils", "grep", "sed", "mawk"),
    *("hostname", "tar"),
    *("gzip", "procps", "util-linux", "openssh-sftp-server", "ca-certificates", "libstdc++6", "libgomp1", "libatomic1"),
    *("python3", "python3-venv", "python3-pip-whl", "python3-setuptools-whl"),
    "libc-bin",  # the locale C.UTF-8, on which nothing depends
)
EXTRA = {"armhf": ("python3-numpy",)}
"""There is no wheel of numpy for armhf."""

BINFMT = Path("/proc/sys/fs/binfmt_misc")
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
    program = ARCHITECTURES[architecture].emulator
    settings = Path(f"/usr/lib/binfmt.d/{program}.conf")
    if not settings.exists():
        return f"no {settings}: apt-get install qemu-user-static"
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], capture_output=True, check=False)
    try:
        if not (BINFMT / program).exists():
            (BINFMT / "register").write_text(settings.read_text(encoding="ascii").strip(), encoding="ascii")
    except OSError as error:
        return f"binfmt_misc cannot be set up: {error}"
    private = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return None if private.returncode == 0 else "name spaces cannot be made here"


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
