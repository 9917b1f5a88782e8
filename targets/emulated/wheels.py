"""Wheels for another machine: fetched by pip, verified, unpacked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgelstm.errors import TargetError
from edgelstm.targets.emulated.pins import PYTHON, Wheel

TIMEOUT_S = 600


def fetch_wheel(wheel: Wheel, cache: Path, offline: Path | None = None) -> Path:
    """Returns the file of a wheel, whose content is verified.

    Args:
        wheel: Which.
        cache: Folder that keeps it from then on.
        offline: Folder to take it from instead of the package index.

    Raises:
        TargetError: If it cannot be had or has another content.
    """
    path = offline / wheel.file if offline else cache / wheel.file
    if offline is not None and not path.is_file():
        raise TargetError(f"{offline} has no {wheel.file}. Fetch it on a machine with network: {download_line(wheel)}.")
    if not path.is_file():
        _download(wheel, path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != wheel.sha256:
        raise TargetError(f"{path} has another content than {wheel.name} {wheel.version} has. Delete it and try again.")
    return path


def unpack_wheel(path: Path, folder: Path) -> None:
    """Unpacks a wheel, whose content was verified, into a folder of packages.

    Raises:
        TargetError: If the disk is full.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    except OSError as error:
        raise TargetError(
            f"{folder}: {path.name} cannot be unpacked: {(error.strerror or str(error)).lower()}."
        ) from error


def download_line(wheel: Wheel, folder: str = ".") -> str:
    """Returns the command that fetches a wheel on any machine."""
    return f"python3 -m pip {' '.join(_arguments(wheel, folder))}"


def _arguments(wheel: Wheel, folder: str) -> list[str]:
    return [
        *("download", "--no-deps", "--only-binary=:all:", "--implementation", "cp"),
        *("--python-version", PYTHON, "--abi", f"cp{PYTHON.replace('.', '')}"),
        *(word for platform in wheel.platforms for word in ("--platform", platform)),
        *("-d", folder, f"{wheel.name}=={wheel.version}"),
    ]


def _download(wheel: Wheel, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--no-input"]
        try:
            done = subprocess.run(
                [*command, *_arguments(wheel, folder)], capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired as error:
            raise TargetError(f"{wheel.file}: pip took more than {TIMEOUT_S} s. Try again later.") from error
        if "No module named pip" in done.stderr:
            raise TargetError(
                f"{wheel.file} cannot be fetched: {sys.executable} has no pip. Install it "
                f"({sys.executable} -m ensurepip), or fetch the wheel elsewhere ({download_line(wheel)}) and name "
                "its folder with --wheels."
            )
        if not (Path(folder) / wheel.file).is_file():
            reason = ([line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no such file"])[-1]
            raise TargetError(
                f"{wheel.file} cannot be fetched by pip: {reason.removeprefix('ERROR:').strip().rstrip('.')}. Check "
                "the network, or fetch it elsewhere and name its folder with --wheels."
            )
        shutil.move(Path(folder) / wheel.file, path)
