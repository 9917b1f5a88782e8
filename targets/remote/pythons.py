"""The Pythons of a device."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgelstm.errors import TargetError
from edgelstm.runtime.interpreters import PACKAGES
from edgelstm.targets.records import read_record
from edgelstm.targets.remote.shell import SCRIPTS, Shell, printable

OLDEST = (3, 9)
"""The oldest Python that the worker takes."""

FOLDER = "~/.local/share/edgelstm"
VENV = f"{FOLDER}/venv"
"""The virtual environment there that `edgelstm targets setup` makes."""

SYSTEM = ("python3", *(f"python3.{minor}" for minor in range(14, 8, -1)))
"""Names of the Pythons that a system brings."""

# What a 64-bit kernel calls itself to a Python of 32 bits, and what wheels for such a Python are called.
_NARROW = {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}


@dataclass(frozen=True)
class _Told:
    """What `probe.py` prints."""

    version: tuple[int, ...]
    bits: int
    machine: str
    libc: tuple[str, ...]
    packages: tuple[str, ...]
    numpy: str | None


@dataclass(frozen=True)
class RemotePython:
    """A Python of a device.

    Attributes:
        command: Its path.
        version: Its version, three numbers.
        machine: What wheels for it are named by: "aarch64", "armv7l", "x86_64".
        libc: Name and version of the C library: ("glibc", "2.36").
        packages: Top-level packages of runtimes that it has.
        numpy: Version of numpy, None without one.
    """

    command: str
    version: tuple[int, ...]
    machine: str
    libc: tuple[str, str]
    packages: tuple[str, ...]
    numpy: str | None

    @property
    def text(self) -> str:
        """Its version, for people."""
        return f"Python {'.'.join(map(str, self.version))}"

    @property
    def is_usable(self) -> bool:
        """Whether a worker can run in it."""
        return self.version[:2] >= OLDEST and bool(self.packages) and self.numpy is not None

    @classmethod
    def parse(cls, command: str, line: str, name: str) -> RemotePython:
        """Reads what `probe.py` printed in a Python.

        Args:
            command: Path of the Python.
            line: What it printed.
            name: Of the target, for errors.

        Raises:
            TargetError: If that is something else.
        """
        try:
            told = read_record(_Told, json.loads(line))
            library, version = told.libc
            if len(told.version) < 2 or (
                library == "glibc" and not re.match(r"[0-9]{1,4}\.[0-9]{1,4}(?![0-9])", version)
            ):
                raise ValueError("its versions are none")
        except (ValueError, OverflowError, RecursionError) as error:
            raise TargetError(
                f"{name}: {command} there answered nonsense ({error}). Check that it is a Python, and what it prints "
                "by itself."
            ) from error
        machine = printable(told.machine)
        return cls(
            command=command,
            version=told.version,
            machine=_NARROW.get(machine, machine) if told.bits == 32 else machine,
            libc=(printable(library), printable(version)),
            packages=told.packages,
            numpy=told.numpy and printable(told.numpy),
        )


def find_pythons(shell: Shell, names: Iterable[str], *, all_of_them: bool = False) -> list[RemotePython]:
    """Finds the Pythons of these names, up to the first in which a worker can run, or all.

    Raises:
        TargetError: If there is no connection.
    """
    modules = " ".join(sorted({package.module.partition(".")[0] for package in PACKAGES.values()}))
    code = (SCRIPTS / "probe.py").read_text(encoding="utf-8")
    output = shell.ask("pythons.sh", code, modules, str(int(all_of_them)), *names, timeout_s=180)
    found: list[RemotePython] = []
    command = ""
    for line in output.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "python":
            command = rest
        elif line.startswith("{"):
            found.append(RemotePython.parse(command, line, shell.name))
    return found


def choose_python(shell: Shell) -> RemotePython:
    """Finds a Python in which a worker can run.

    Raises:
        TargetError: If there is none; the message says what to do.
    """
    found = find_pythons(shell, shell.pythons)
    for python in found:
        if python.is_usable:
            return python
    check_version(shell, found)
    without_numpy = [python for python in found if python.packages and python.numpy is None]
    lacks = "no numpy beside its runtime" if without_numpy else "no runtime for models"
    raise TargetError(f"{shell.name}: {found[0].text} there has {lacks}. {shell.how_to_set_up()}.")


def check_version(shell: Shell, found: list[RemotePython]) -> None:
    """Checks that there is a Python new enough.

    Raises:
        TargetError: If there is none.
    """
    newest = max(found, key=lambda python: python.version, default=None)
    if newest is None or newest.version[:2] < OLDEST:
        has = f"only {newest.text}" if newest else "none"
        raise TargetError(
            f"{shell.name}: Python {OLDEST[0]}.{OLDEST[1]} or newer is needed there, but there is {has}. Install it "
            "there: sudo apt install python3 python3-venv."
        )
