"""Which runtimes of Python there are, and which Python has them.

A runtime usually is a package of the Python that runs edgelstm. One that cannot share its numpy (tflite-runtime needs
numpy 1) may live in another Python, named in the environment variable

    EDGELSTM_RUNTIMES=tflite-runtime=/opt/tflite/bin/python[,name=/path/to/python]

and is then used in worker processes, though not in this one.

The classic ones have the class Interpreter, and "auto" means one of them for a .tflite file. The others run in workers
only.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from edgelstm.errors import MissingExtraError, ModelRunError

VARIABLE = "EDGELSTM_RUNTIMES"
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class RuntimePackage:
    """A runtime as it is published.

    Attributes:
        name: The name it goes by here.
        module: The module to import.
        requirement: What to give to pip, one or more packages with blanks between them.
        distribution: Name of the published package.
        verifies_files: Whether it checks a file's structure before it follows the offsets in it; one that does not
            crashes on a damaged file.
        classic: Whether the package is there for the class Interpreter, which this process may load.
        endings: Of the files that it takes.
        needs: A further module without which it is not there.
    """

    name: str
    module: str
    requirement: str
    distribution: str
    verifies_files: bool
    classic: bool
    endings: tuple[str, ...] = (".tflite",)
    needs: str | None = None


PACKAGES = {
    package.name: package
    for package in (
        RuntimePackage(
            "ai-edge-litert",
            "ai_edge_litert.interpreter",
            "ai-edge-litert",
            "ai-edge-litert",
            verifies_files=True,
            classic=True,
        ),
        RuntimePackage(
            "tflite-runtime",
            "tflite_runtime.interpreter",
            "edgelstm[tflite-runtime]",
            "tflite-runtime",
            verifies_files=False,
            classic=True,
        ),
        RuntimePackage(
            "litert-compiled",
            "ai_edge_litert.compiled_model",
            "ai-edge-litert",
            "ai-edge-litert",
            verifies_files=True,
            classic=False,
        ),
        RuntimePackage(
            "tflite-micro", "tflite_micro", "tflite-micro", "tflite-micro", verifies_files=False, classic=False
        ),
        RuntimePackage(
            "tensorflow-lite",
            "tensorflow.lite.python.interpreter",
            "tensorflow",
            "tensorflow",
            verifies_files=True,
            classic=False,
        ),
        RuntimePackage(
            "onnxruntime",
            "onnxruntime",
            "onnxruntime",
            "onnxruntime",
            verifies_files=True,
            classic=False,
            endings=(".onnx",),
        ),
        RuntimePackage(
            "openvino", "openvino", "openvino", "openvino", verifies_files=True, classic=False, endings=(".onnx",)
        ),
        RuntimePackage("pytorch", "torch", "torch", "torch", verifies_files=True, classic=False, endings=(".pt",)),
        *(
            RuntimePackage(
                f"keras-{backend}",
                "keras",
                f"keras {backend}",
                "keras",
                verifies_files=True,
                classic=False,
                endings=(".keras", ".h5"),
                needs=backend,
            )
            for backend in ("tensorflow", "jax", "torch")
        ),
    )
}
"""All known runtimes, by name, those for the same files in the order of preference of "auto"."""

CLASSIC = tuple(name for name, package in PACKAGES.items() if package.classic)
"""Names of the runtimes with the class Interpreter."""

OTHERS = ("mediapipe", "litertjs")
"""What else the environment variable may name a place for: engines that the worker does not drive."""


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


def available(names: Sequence[str] = CLASSIC) -> list[Runtime]:
    """Lists the runtimes of this Python, then those that the environment variable names.

    Args:
        names: The runtimes to look for.

    Raises:
        ModelRunError: If the variable cannot be understood, or names a Python that does not have the runtime.
    """
    here = [_runtime_here(name) for name in names if _is_here(name)]
    elsewhere = {name: python for name, python in _elsewhere().items() if name in names}
    return here + [Runtime(name, _version_elsewhere(name, python), python) for name, python in elsewhere.items()]


def is_available(name: str) -> bool:
    """Says whether this Python has a runtime or the environment variable names one that does, without starting it.

    Raises:
        ModelRunError: If the name is unknown or the variable cannot be understood.
    """
    _check_name(name)
    return name in _elsewhere() or _is_here(name)


def find_runtime(name: str) -> Runtime:
    """Finds a runtime as a worker would use it: the environment variable goes before this Python.

    Raises:
        ModelRunError: If the name is unknown, or the variable names a Python that does not have the runtime.
        MissingExtraError: If no Python has it.
    """
    python = _python_of(name)
    return Runtime(name, _version_elsewhere(name, python), python) if name in _elsewhere() else _runtime_here(name)


def python_for(name: str, model: str | os.PathLike[str] = "") -> str:
    """Finds the Python to start a worker with.

    Args:
        name: Name of a runtime, or "auto" for one that takes the file: this Python's, or else the first that the
            environment variable names.
        model: The file, for "auto". One that ends in nothing known counts as a .tflite file.

    Returns:
        Path of the Python. For a named runtime the environment variable goes before this Python.

    Raises:
        ModelRunError: If the name is unknown.
        MissingExtraError: If no Python has it.
    """
    if name != "auto":
        return _python_of(name)
    names = _names_for(model)
    elsewhere = [python for named, python in _elsewhere().items() if named in names]
    return sys.executable if any(map(_is_here, names)) else next(iter(elsewhere), sys.executable)


def _names_for(model: str | os.PathLike[str]) -> Sequence[str]:
    """Returns the runtimes that "auto" may mean for a file."""
    ending = Path(model).suffix.lower()
    names = [name for name, package in PACKAGES.items() if ending != ".tflite" and ending in package.endings]
    return names or CLASSIC


def import_runtime(name: str = "auto") -> tuple[RuntimePackage, ModuleType]:
    """Imports a runtime with the class Interpreter into this process.

    Args:
        name: Name of a classic runtime, or "auto" for the first that this Python has.

    Returns:
        The runtime, and its module with the class Interpreter.

    Raises:
        ModelRunError: If the name is unknown or that of a runtime without an Interpreter, or the runtime is installed
            but cannot be imported.
        MissingExtraError: If this Python does not have it.
    """
    if name != "auto":
        _check_name(name)
    if name != "auto" and name not in CLASSIC:
        raise ModelRunError(
            f"Runtime {name!r} runs in workers only, it is not loaded into this process. Use {', '.join(CLASSIC)} or "
            "auto; edgelstm bench runs files on the others."
        )
    candidates = CLASSIC if name == "auto" else (name,)
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
            f"Install it again: pip install --force-reinstall {_quoted(package)}."
        ) from error


def python_elsewhere(name: str) -> str | None:
    """Returns the Python that the environment variable names for a runtime, None if it names none.

    Args:
        name: A name of `PACKAGES` or `OTHERS`.

    Raises:
        ModelRunError: If the variable cannot be understood.
    """
    return _elsewhere().get(name)


def _check_name(name: str) -> None:
    if name not in PACKAGES:
        raise ModelRunError(f"Runtime {name!r} is not known. Known are {', '.join(PACKAGES)}, and auto.")


def _python_of(name: str) -> str:
    _check_name(name)
    python = _elsewhere().get(name)
    if python is None and not _is_here(name):
        raise MissingExtraError(_how_to_get(name))
    return python or sys.executable


def _runtime_here(name: str) -> Runtime:
    return Runtime(name, _installed_version(PACKAGES[name]), sys.executable)


def _installed_version(package: RuntimePackage) -> str:
    """Returns the version as workers tell it: with that of what it needs."""
    version = _version_of(package.distribution, package.module)
    return f"{version} ({package.needs} {_version_of(package.needs, package.needs)})" if package.needs else version


def _version_of(distribution: str, module: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # one of several packages with this module, for instance for GPUs
        names = importlib.metadata.packages_distributions().get(module.partition(".")[0], [])
        return importlib.metadata.version(names[0]) if names else "unknown"


def _is_here(name: str) -> bool:
    package = PACKAGES[name]
    modules = [package.module.partition(".")[0], *([package.needs] if package.needs else [])]
    return all(importlib.util.find_spec(module) is not None for module in modules)


def _quoted(package: RuntimePackage) -> str:
    """Returns what to give to pip, in a shell."""
    return " ".join(f"'{requirement}'" for requirement in package.requirement.split())


def _how_to_get(name: str) -> str:
    return (
        f"The runtime {name} is not installed in {sys.executable}. Install it: pip install "
        f"{_quoted(PACKAGES[name])}. To use one in another Python, set {VARIABLE}={name}=/path/to/python; "
        "workers can run it there."
    )


def _elsewhere() -> dict[str, str]:
    """Returns the Pythons that the environment variable names, by runtime."""
    known, pythons = (*PACKAGES, *OTHERS), {}
    for entry in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, _, python = (part.strip() for part in entry.partition("="))
        if name not in known or not python:
            raise ModelRunError(
                f"Environment variable {VARIABLE}: {entry.strip()!r} is not name=/path/to/python with one of the names "
                f"{', '.join(known)}."
            )
        pythons[name] = python
    return pythons


def _version_elsewhere(name: str, python: str) -> str:
    package = PACKAGES[name]
    code = f"import importlib.metadata, {package.module}; print(importlib.metadata.version({package.distribution!r}))"
    environment = {**os.environ, "KERAS_BACKEND": package.needs} if package.needs else None
    try:
        done = subprocess.run(
            [python, "-I", "-B", "-c", code],
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
            env=environment,
        )
        lines, trouble = done.stdout.split(), (done.stderr.strip().splitlines() or ["no message"])[-1]
    except (OSError, subprocess.TimeoutExpired) as error:
        lines, trouble = [], str(error)
    if not lines:
        raise ModelRunError(f"Environment variable {VARIABLE}: {python} cannot import {name}: {trouble}.")
    return lines[-1]
