"""Which runtime a device takes, and how to fetch its wheels from another machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelstm.errors import SettingError, TargetError
from edgelstm.targets.remote.pythons import RemotePython
from edgelstm.targets.remote.shell import last_line

DOWNLOAD_TIMEOUT_S = 900

# The tags that wheels of these packages and of numpy carry; pip takes none but those it is told.
_GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34, 35, 39)
_PIWHEELS = "https://www.piwheels.org/simple"
"""Has numpy for armv7l, which the Python package index has not. Raspberry Pi OS is configured to use it."""


@dataclass(frozen=True)
class Offer:
    """A runtime, and the Pythons that there are wheels for.

    Attributes:
        name: As in `edgelstm bench --runtime`.
        requirements: What to give to pip.
        module: What to import to see that it works.
        machines: Least minor version of glibc 2, by machine.
        oldest, newest: The Pythons.
    """

    name: str
    requirements: tuple[str, ...]
    module: str
    machines: dict[str, int]
    oldest: tuple[int, int]
    newest: tuple[int, int]

    def fits(self, python: RemotePython) -> bool:
        """Says whether there are wheels for a Python."""
        name, version = python.libc
        minor = int(version.split(".")[1]) if name == "glibc" else -1
        least = self.machines.get(python.machine)
        return least is not None and minor >= least and self.oldest <= python.version[:2] <= self.newest


OFFERS = {
    offer.name: offer
    for offer in (
        # Looked up on the Python package index: 2.3.0 for Python 3.10 to 3.14, 2.1.0 for 3.9; no 32-bit wheels.
        Offer(
            "ai-edge-litert",
            ("ai-edge-litert", "numpy"),
            "ai_edge_litert.interpreter",
            {"aarch64": 27, "x86_64": 27},
            (3, 9),
            (3, 14),
        ),
        # 2.14.0 asks for glibc 2.34 on Arm, 2.13.0 for 2.17; both were built for numpy 1.
        Offer(
            "tflite-runtime",
            ("tflite-runtime", "numpy<2"),
            "tflite_runtime.interpreter",
            {"aarch64": 17, "armv7l": 17, "x86_64": 17},
            (3, 9),
            (3, 11),
        ),
        Offer(
            "onnxruntime",
            ("onnxruntime", "numpy"),
            "onnxruntime",
            {"aarch64": 27, "x86_64": 27},
            (3, 9),
            (3, 14),
        ),
    )
}
"""What can be installed on a device, by name; "auto" is the first of the first two that fits."""

_AUTO = ("ai-edge-litert", "tflite-runtime")


def choose_offer(name: str, runtime: str, pythons: Sequence[RemotePython]) -> tuple[Offer, RemotePython]:
    """Chooses what to install, and in which Python.

    Args:
        name: Of the target, for errors.
        runtime: Name of a runtime, or "auto".
        pythons: Those of the device, the system's own first.

    Raises:
        SettingError: If the runtime cannot be installed on any device.
        TargetError: If there are no wheels for these Pythons.
    """
    if runtime != "auto" and runtime not in OFFERS:
        raise SettingError(f"Runtime {runtime!r} cannot be installed on a device, only {', '.join(OFFERS)} or auto.")
    wanted = _AUTO if runtime == "auto" else (runtime,)
    for python in pythons:
        for each in wanted:
            if OFFERS[each].fits(python):
                return OFFERS[each], python
    first = pythons[0]
    libc = " ".join(first.libc).strip() or "another C library than glibc"
    raise TargetError(
        f"{name}: there are no wheels of {' or '.join(wanted)} for {first.text} on {first.machine} with {libc}. "
        f"{_what_fits(wanted, first)}"
    )


def _what_fits(wanted: Sequence[str], python: RemotePython) -> str:
    """Says what would help."""
    offers = [OFFERS[each] for each in wanted if python.machine in OFFERS[each].machines]
    if not offers:
        return "Use a 64-bit or 32-bit (armv7) system on the device: Raspberry Pi OS has both."
    spans = " or ".join(f"Python {'.'.join(map(str, o.oldest))} to {'.'.join(map(str, o.newest))}" for o in offers)
    return f"Install {spans} there, on a system with glibc, or use a 64-bit system."


def download_command(
    python: RemotePython, folder: str, requirements: Sequence[str], pip: Sequence[str] = ("pip",)
) -> list[str]:
    """Returns the command that fetches the wheels for a device on another machine."""
    minor = int(python.libc[1].split(".")[1])
    tags = [f"manylinux_2_{each}_{python.machine}" for each in _GLIBC_MINORS if each <= minor]
    digits = "".join(map(str, python.version[:2]))
    platforms = [f"manylinux2014_{python.machine}", *tags, f"linux_{python.machine}"]
    index = ("--extra-index-url", _PIWHEELS) if python.machine == "armv7l" else ()
    # Without numpy among them the device has its own, and nothing else is needed.
    alone = () if any(each.startswith("numpy") for each in requirements) else ("--no-deps",)
    return [
        *pip,
        "download",
        "--only-binary=:all:",
        *(part for platform in platforms for part in ("--platform", platform)),
        *("--python-version", ".".join(map(str, python.version[:2]))),
        *("--implementation", "cp", "--abi", f"cp{digits}", "--abi", "abi3", "--abi", "none"),
        *index,
        *alone,
        *("--dest", folder),
        *requirements,
    ]


def download(name: str, python: RemotePython, folder: Path, requirements: Sequence[str]) -> None:
    """Fetches the wheels for a device.

    Raises:
        TargetError: If they cannot be fetched.
    """
    command = download_command(python, str(folder), requirements, (sys.executable, "-m", "pip"))
    try:
        done = subprocess.run(
            [*command, "--quiet", "--disable-pip-version-check"],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
            env={**os.environ, "PIP_NO_INPUT": "1"},
        )
        trouble = last_line(done.stderr).removeprefix("ERROR: ") if done.returncode else ""
    except subprocess.TimeoutExpired:
        trouble = f"it took longer than {DOWNLOAD_TIMEOUT_S} s"
    if trouble:
        raise TargetError(
            f"{name}: the wheels for {python.text} on {python.machine} cannot be fetched here: {trouble}. Fetch them "
            "elsewhere and give their folder by --wheels."
        )


def fitting(folder: Path, machine: str) -> list[Path]:
    """Returns the wheels of a folder that are for a machine or for all."""
    wheels = sorted(folder.glob("*.whl"))
    return [wheel for wheel in wheels if wheel.stem.endswith(("any", machine))]
