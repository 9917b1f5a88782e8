"""The runtimes, by name."""

from __future__ import annotations

import importlib
import importlib.metadata
import struct
import sys
from pathlib import Path
from typing import Any

from .plan import PlanError, first_line, read_key
from .session import Session

RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "litert-compiled": "ai_edge_litert.compiled_model",
    "tflite-micro": "tflite_micro",
}
"""Module to import, by the name of the runtime."""

INTERPRETERS = ("ai-edge-litert", "tflite-runtime")
"""Runtimes with the class Interpreter, in the order in which "auto" takes them."""

SESSIONS = {
    "ai-edge-litert": ("interpreter", "InterpreterSession"),
    "tflite-runtime": ("interpreter", "InterpreterSession"),
    "litert-compiled": ("compiled", "CompiledSession"),
    "tflite-micro": ("micro", "MicroSession"),
}
"""What loads a model, module and class, by the name of the runtime. Only the module that a plan needs is imported."""


def open_session(plan: dict[str, Any]) -> tuple[str, Session]:
    """Loads the model of a plan.

    Returns:
        The runtime's name and the model in it.

    Raises:
        PlanError: If there is no such model or runtime, the runtime refuses the model, or it cannot do what the plan
            asks.
    """
    if not Path(read_key(plan, "model", str)).is_file():
        raise PlanError("the model file does not exist")
    if read_key(plan, "threads", int, 1) < 1:
        raise PlanError(f"a runtime needs at least one thread, not {plan['threads']}")
    name, module = import_runtime(plan.get("runtime", "auto"))
    interpreters = " or ".join(INTERPRETERS)
    if name not in INTERPRETERS and plan["op"] == "observe":
        raise PlanError(f"op 'observe' needs the Interpreter of {interpreters}, not {name}")
    if name not in INTERPRETERS and plan.get("delegate") is not None:
        raise PlanError(f"{name} takes no delegate, only {interpreters} do")
    try:
        return name, session_class(name)(plan, module)
    except struct.error as error:  # of what reads files in Python
        raise PlanError(f"the file is damaged: {error}") from error


def session_class(name: str) -> Any:
    """Returns the class of `SESSIONS` that loads models into a runtime."""
    module, kind = SESSIONS[name]
    return getattr(importlib.import_module(f".{module}", __package__), kind)


def import_runtime(name: str) -> tuple[str, Any]:
    """Imports a runtime.

    Args:
        name: A name of `RUNTIMES`, or "auto" for the first that is installed.

    Returns:
        The runtime's name and its module.

    Raises:
        PlanError: If the name is unknown or the runtime cannot be imported.
    """
    if name != "auto" and name not in RUNTIMES:
        raise PlanError(f"runtime {name!r} is not known, only {', '.join(RUNTIMES)} and auto")
    reasons = []
    for candidate in RUNTIMES if name == "auto" else [name]:
        try:
            return candidate, importlib.import_module(RUNTIMES[candidate])
        except Exception as error:  # a runtime built for another numpy raises what it likes
            reasons.append(f"{candidate}: {first_line(error)}")
    raise PlanError(f"no runtime in {sys.executable} ({'; '.join(reasons)})")


def runtime_version(name: str) -> str:
    """Returns the version of the package that brings a runtime."""
    try:
        return importlib.metadata.version("ai-edge-litert" if name == "litert-compiled" else name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
