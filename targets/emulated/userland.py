"""Builds userlands: folders that hold all that is needed to run Arm programs on this machine.

    userlands/arm64/
        debian/         packages of Debian, unpacked, and the wheels of the runtimes
        boards/pi4/     what programs take for /: links into debian/ and the description of a board
        emulator/       QEMU's user mode with its own libraries and loader
        insn.so         its plugin that counts instructions
        manifest.json   what is in it

They lie in $EDGELSTM_HOME, or else in ~/.cache/edgelstm ($XDG_CACHE_HOME is respected), beside the downloads they were
made of. No root is needed, and nothing is installed on this machine. A userland is built in a temporary folder and then
renamed, so there is never half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgelstm.errors import TargetError
from edgelstm.targets.base import Report, SetupOptions
from edgelstm.targets.emulated.boards import BOARDS, describe_board
from edgelstm.targets.emulated.debian import MIRROR_VARIABLE, Package, PrivateApt, require_programs, unpack
from edgelstm.targets.emulated.locks import locked
from edgelstm.targets.emulated.pins import ARCHITECTURES, PYTHON, QEMU, SUITE, Architecture
from edgelstm.targets.emulated.wheels import fetch_wheel, unpack_wheel

HOME_VARIABLE = "EDGELSTM_HOME"
FORMAT_FAMILY = "edgelstm-userland-"
FORMAT = f"{FORMAT_FAMILY}1"

PLUGIN_SOURCE = Path(__file__).with_name("insn.c")


def home() -> Path:
    """Returns the folder of edgelstm for what can be made again."""
    if os.environ.get(HOME_VARIABLE):
        return Path(os.environ[HOME_VARIABLE]).expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME") or ""
    # The specification of XDG: a path that is not absolute is to be ignored.
    return (Path(caches) if caches.startswith("/") else Path.home() / ".cache") / "edgelstm"


def place_of(architecture: str) -> Path:
    """Returns where the userland of an architecture is, or would be."""
    return home() / "userlands" / architecture


def find_userland(architecture: str) -> Path:
    """Returns the userland of an architecture.

    Raises:
        TargetError: If it is not set up, or was by another version of edgelstm.
    """
    obstacle = why_not_usable(architecture)
    if obstacle:
        raise TargetError(f"emulated:{architecture}: {obstacle}")
    return place_of(architecture)


@contextlib.contextmanager
def in_use(architecture: str) -> Iterator[Path]:
    """Keeps the userland of an architecture from being replaced, and returns it.

    Raises:
        TargetError: If it is not set up, or was by another version of edgelstm.
    """
    place = place_of(architecture)
    with contextlib.ExitStack() as stack:
        if place.parent.is_dir():
            try:
                stack.enter_context(locked(_use_lock(place), shared=True))
            except OSError as error:
                raise TargetError(
                    f"emulated:{architecture}: {_use_lock(place)} cannot be locked: "
                    f"{(error.strerror or str(error)).lower()}. Name another folder in {HOME_VARIABLE}."
                ) from error
        yield find_userland(architecture)


def why_not_usable(architecture: str) -> str | None:
    """Returns what has to be done before a userland can be used, in a sentence; None if nothing."""
    manifest = read_manifest(place_of(architecture))
    if manifest is None:
        return f"not set up yet: edgelstm targets setup emulated:{architecture}"
    if manifest.get("recipe") != recipe(architecture):
        return f"set up by another version of edgelstm: edgelstm targets setup emulated:{architecture} --again"
    return None


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Returns what is in a userland, None if the folder is none of this format."""
    manifest = _read_any_manifest(folder)
    return manifest if manifest.get("format") == FORMAT else None


def _read_any_manifest(folder: Path) -> dict[str, Any]:
    """Returns what is in a userland of any version, {} if the folder is none."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_ours = isinstance(manifest, dict) and str(manifest.get("format")).startswith(FORMAT_FAMILY)
    return manifest if is_ours else {}


def recipe(architecture: str) -> str:
    """Returns a hash of what a userland is made by: another one needs another userland."""
    parts = (FORMAT, SUITE, QEMU, repr(ARCHITECTURES[architecture]), repr(BOARDS), PLUGIN_SOURCE.read_text("utf-8"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def set_up(architecture: str, options: SetupOptions | None = None, report: Report | None = None) -> Path:
    """Builds a userland, unless it is there already. One that is replaced is waited for while programs run in it.

    Args:
        architecture: A name of `ARCHITECTURES`.
        options: `wheels` and `again` count.
        report: Told what is done.

    Returns:
        The folder.

    Raises:
        TargetError: If this machine lacks a program for it, something cannot be fetched or written, or something else
            lies in its place.
    """
    options, report = options or SetupOptions(), report or (lambda _: None)
    place = place_of(architecture)
    if not options.again and why_not_usable(architecture) is None:
        return place
    _check_machine(architecture)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with locked(place.parent / f".{architecture}.lock"):
            # Another process may have built it while this one waited.
            if options.again or why_not_usable(architecture) is not None:
                _check_place(place, architecture)
                _build_in(place, ARCHITECTURES[architecture], options, report)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TargetError(
            f"emulated:{architecture} cannot be built in {place.parent}: {reason}. Free about 1 GB there, or name "
            f"another folder in {HOME_VARIABLE}."
        ) from error
    return place


def _use_lock(place: Path) -> Path:
    """Returns the file of the lock that is shared by all that use a userland."""
    return place.parent / f".{place.name}.use.lock"


def _check_place(place: Path, architecture: str) -> None:
    """Checks that what is to be replaced is a userland."""
    if not os.path.lexists(place) or (place.is_dir() and (_read_any_manifest(place) or not any(place.iterdir()))):
        return
    raise TargetError(
        f"{place} is no userland that edgelstm made, so it is not replaced by that of emulated:{architecture}. "
        f"Move or delete it, or name another folder in {HOME_VARIABLE}."
    )


def _check_machine(architecture: str) -> None:
    purpose = f"Setting up emulated:{architecture}"
    if sys.platform != "linux":
        raise TargetError(f"{purpose} needs Linux: QEMU's user mode runs there only. Use a container of Debian.")
    require_programs({"apt-get": "apt", "dpkg-deb": "dpkg", "tar": "tar", "gcc": "gcc libc6-dev"}, purpose)


def _build_in(place: Path, architecture: Architecture, options: SetupOptions, report: Report) -> None:
    """Builds a userland beside its place and moves it there."""
    # Of builds that were killed: there is no other while this one is.
    for left in place.parent.glob(f".{place.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-", ignore_cleanup_errors=True) as folder:
        new, old = Path(folder) / "new", Path(folder) / "old"
        new.mkdir()
        manifest = _build(new, architecture, options, report)
        (new / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        with locked(_use_lock(place), waiting=lambda: report(f"waiting for programs that run in {place}")):
            _swap(new, place, old)


def _swap(new: Path, place: Path, old: Path) -> None:
    if place.exists():
        place.rename(old)
    try:
        new.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise


def _build(folder: Path, architecture: Architecture, options: SetupOptions, report: Report) -> dict[str, Any]:
    report(f"fetching Debian packages ({architecture.name})")
    debian, packages, mirror = folder / "debian", *fetch_packages(architecture.name, architecture.packages)
    report(f"unpacking {len(packages)} packages")
    unpack(packages, debian)
    site = debian / f"usr/local/lib/python{PYTHON}/dist-packages"
    site.mkdir(parents=True)
    for wheel in architecture.wheels:
        report(f"{wheel.name} {wheel.version}")
        unpack_wheel(fetch_wheel(wheel, downloads() / "wheels", options.wheels), site)
    for board in BOARDS.values():
        _make_root(folder / "boards" / board.name, debian)
        describe_board(board, architecture.name, folder / "boards" / board.name)
    report("fetching the emulator")
    emulator = _add_emulator(folder / "emulator", architecture)
    report("compiling its plugin")
    compiler = compile_plugin(folder / "insn.so")
    report("trying it out")
    _try_out(folder, architecture)
    return {
        "format": FORMAT,
        "recipe": recipe(architecture.name),
        "architecture": architecture.name,
        "python": PYTHON,
        "debian": {"suite": SUITE, "mirror": mirror, "packages": _described(packages)},
        "wheels": {w.name: {"version": w.version, "file": w.file, "sha256": w.sha256} for w in architecture.wheels},
        "emulator": {"packages": _described(emulator)},
        "plugin": {"compiler": compiler},
    }


def downloads() -> Path:
    """Returns the folder that keeps downloads."""
    return home() / "downloads"


def fetch_packages(architecture: str, names: Sequence[str]) -> tuple[list[Package], str]:
    """Fetches Debian packages with all that they depend on, one process at a time.

    Returns:
        The packages, and the mirror they came from.

    Raises:
        TargetError: If they cannot be had.
    """
    folder = downloads() / f"debian-{architecture}"
    with locked(folder.parent / f".{folder.name}.lock"):
        apt = PrivateApt(architecture, folder, os.environ.get(MIRROR_VARIABLE))
        return apt.fetch(names), apt.mirror


def _described(packages: Sequence[Package]) -> dict[str, dict[str, str]]:
    return {package.name: {"version": package.version, "sha256": package.sha256} for package in packages}


def _make_root(root: Path, debian: Path) -> None:
    """Makes a folder that looks like the unpacked Debian, with room for /proc and /sys."""
    root.mkdir(parents=True)
    for entry in debian.iterdir():
        if entry.name not in ("proc", "sys"):
            (root / entry.name).symlink_to(os.path.relpath(entry, root))


def _add_emulator(folder: Path, architecture: Architecture) -> list[Package]:
    """Puts the emulator, its libraries and its loader into a folder: the release's own, whatever this machine runs."""
    machine = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=False)
    packages, _ = fetch_packages(machine.stdout.strip(), ["qemu-user"])
    version = next(package.version for package in packages if package.name == "qemu-user")
    if f":{QEMU}" not in version:
        raise TargetError(f"Debian {SUITE} has qemu-user {version}, but the plugin is written for {QEMU}.")
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        unpack(packages, Path(scratch))
        usr = Path(scratch) / "usr"
        (folder / "lib").mkdir(parents=True)
        shutil.copy2(usr / "bin" / architecture.emulator, folder)
        for library in [*usr.glob("lib/*-linux-gnu*/*.so*"), *Path(scratch).glob("lib64/ld-*")]:
            if library.is_file():
                shutil.copy2(library, folder / "lib")
    loader = next((folder / "lib").glob("ld-linux-*.so.*"))
    (folder / "loader").symlink_to(f"lib/{loader.name}")
    return packages


def compile_plugin(target: Path) -> str:
    """Compiles the counting plugin.

    Returns:
        Name and version of the compiler.

    Raises:
        TargetError: If that fails.
    """
    command = [
        "gcc",
        "-std=c11",
        "-O2",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        "-o",
        str(target),
        str(PLUGIN_SOURCE),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = next(
            (line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip() or "no message"
        )
        raise TargetError(f"gcc cannot compile {PLUGIN_SOURCE.name}: {reason}. Is libc6-dev installed?")
    return subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]


def _try_out(folder: Path, architecture: Architecture) -> None:
    """Imports every runtime once, which also writes bytecode, so that later starts are fast.

    Raises:
        TargetError: If that fails.
    """
    from edgelstm.targets.emulated.boards import DEFAULT_BOARDS
    from edgelstm.targets.emulated.emulator import Emulator

    emulator = Emulator(folder, architecture.name, BOARDS[DEFAULT_BOARDS[architecture.name]])
    for runtime in architecture.runtimes:
        code = f"import ctypes, json, zipfile, {runtime.replace('-', '_')}.interpreter"
        # An empty value counts as none.
        done = emulator.run(["python3.11", "-s", "-c", code], environment={"PYTHONDONTWRITEBYTECODE": ""})
        if done.status != 0:
            reason = (done.stderr.strip().splitlines() or [f"status {done.status}"])[-1]
            raise TargetError(
                f"{runtime} does not start in the userland of emulated:{architecture.name} on this "
                f"{platform.machine()} machine: {reason.rstrip('.')}."
            )


def size_bytes(folder: Path) -> int:
    """Returns what all files in a folder take."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink() and path.is_file())
