"""Which TFLite runtimes there are, and which Python has them.

A runtime usually is a package of the Python that runs edgelstm. One that cannot share its numpy (tflite-runtime needs
numpy 1) may live in another Python, named in the environment variable

    EDGELSTM_RUNTIMES=tflite-runtime=/opt/tflite/bin/python[,name=/path/to/python]

and is then used in worker processes, though not in this one.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from types import ModuleType

from edgelstm.errors import MissingExtraError, ModelRunError

VARIABLE = "EDGELSTM_RUNTIMES"
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class RuntimePackage:
    """A TFLite runtime as it is published.

    Attributes:
        name: Name of the package.
        module: Module with the class Interpreter.
        requirement: What to give to pip.
        verifies_files: Whether it checks a file's structure before it follows the offsets in it; one that does not
            crashes on a damaged file.
    """

    name: str
    module: str
    requirement: str
    verifies_files: bool


PACKAGES = {
    package.name: package
    for package in (
        RuntimePackage("ai-edge-litert", "ai_edge_litert.interpreter", "ai-edge-litert", True),
        RuntimePackage("tflite-runtime", "tflite_runtime.interpreter", "edgelstm[tflite-runtime]", False),
    )
}
"""All known runtimes, by name, in the order of preference of "auto"."""


@dataclass(frozen=True)
class Runtime:
    """A runtime that is installed.

    Attributes:
        name: A name of `PACKAGES`.
        version: Version of the package.
        python: The Python that has it.
    """

    name: str
    version: str
    python: str


def available() -> list[Runtime]:
    """Lists the runtimes of this Python, then those that the environment variable names.

    Raises:
        ModelRunError: If the variable cannot be understood, or names a Python that does not have the runtime.
    """
    here = [Runtime(name, importlib.metadata.version(name), sys.executable) for name in PACKAGES if _is_here(name)]
    elsewhere = [Runtime(name, _version_elsewhere(name, python), python) for name, python in _elsewhere().items()]
    return here + elsewhere


def python_for(name: str) -> str:
    """Finds the Python to start a worker with.

    Args:
        name: Name of a runtime, or "auto": this Python's, or else the first that the environment variable names.

    Returns:
        Path of the Python. For a named runtime the environment variable goes before this Python.

    Raises:
        ModelRunError: If the name is unknown.
        MissingExtraError: If no Python has it.
    """
    _check_name(name)
    elsewhere = _elsewhere()
    if name == "auto":
        return sys.executable if any(map(_is_here, PACKAGES)) else next(iter(elsewhere.values()), sys.executable)
    if name in elsewhere:
        return elsewhere[name]
    if not _is_here(name):
        raise MissingExtraError(_how_to_get(name))
    return sys.executable


def import_runtime(name: str = "auto") -> tuple[RuntimePackage, ModuleType]:
    """Imports a runtime into this process.

    Args:
        name: Name of a runtime, or "auto" for the first that this Python has.

    Returns:
        The runtime, and its module with the class Interpreter.

    Raises:
        ModelRunError: If the name is unknown, or the runtime is installed but cannot be imported.
        MissingExtraError: If this Python does not have it.
    """
    _check_name(name)
    candidates = list(PACKAGES) if name == "auto" else [name]
    found = next(filter(_is_here, candidates), None)
    if found is None:
        raise MissingExtraError(_how_to_get(candidates[0]))
    package = PACKAGES[found]
    try:
        return package, importlib.import_module(package.module)
    except Exception as error:  # a runtime built for another numpy raises what it likes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelRunError(
            f"The runtime {found} is installed but cannot be imported: {reason}. "
            f"Install it again: pip install --force-reinstall '{package.requirement}'."
        ) from error


def _check_name(name: str) -> None:
    if name != "auto" and name not in PACKAGES:
        raise ModelRunError(f"Runtime {name!r} is not known. Known are {', '.join(PACKAGES)}, and auto.")


def _is_here(name: str) -> bool:
    return importlib.util.find_spec(PACKAGES[name].module.partition(".")[0]) is not None


def _how_to_get(name: str) -> str:
    return (
        f"The runtime {name} is not installed in {sys.executable}. Install it: pip install "
        f"'{PACKAGES[name].requirement}'. To use one in another Python, set {VARIABLE}={name}=/path/to/python; "
        "workers can run it there."
    )


def _elsewhere() -> dict[str, str]:
    """Returns the Pythons that the environment variable names, by runtime."""
    pythons = {}
    for entry in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, _, python = (part.strip() for part in entry.partition("="))
        if name not in PACKAGES or not python:
            raise ModelRunError(
                f"Environment variable {VARIABLE}: {entry.strip()!r} is not name=/path/to/python with one of the names "
                f"{', '.join(PACKAGES)}."
            )
        pythons[name] = python
    return pythons


def _version_elsewhere(name: str, python: str) -> str:
    code = f"import importlib.metadata, {PACKAGES[name].module}; print(importlib.metadata.version({name!r}))"
    try:
        done = subprocess.run(
            [python, "-I", "-B", "-c", code], capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
        )
        lines, trouble = done.stdout.split(), (done.stderr.strip().splitlines() or ["no message"])[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        lines, trouble = [], str(error)
    if not lines:
        raise ModelRunError(f"Environment variable {VARIABLE}: {python} cannot import {name}: {trouble}.")
    return lines[-1]
