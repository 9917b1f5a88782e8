"""The runtimes, by name: what each of them imports, takes and can do."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .plan import PlanError, either, first_line, read_choice, read_key
from .session import Session


@dataclass(frozen=True)
class RuntimeKind:
    """A runtime.

    Attributes:
        module: The module to import.
        session: Module of this package, imported only when a plan needs it, and its subclass of `Session`.
        endings: Of the files that it takes.
        interpreter: Whether the module has the class Interpreter: observes, and takes delegates.
        options: Which of "device" (other than the CPU), "mode" and "dtype" a plan may ask for.
        needs: A further module without which it is not there.
        distribution: Name of the published package, if it is not that of the runtime.
    """

    module: str
    session: tuple[str, str]
    endings: tuple[str, ...] = (".tflite",)
    interpreter: bool = False
    options: tuple[str, ...] = ()
    needs: str | None = None
    distribution: str | None = None


_INTERPRETER = ("interpreter", "InterpreterSession")
_KERAS_FILES = (".keras", ".h5")
_KERAS_OPTIONS = ("device", "mode", "dtype")
RUNTIMES = {
    "ai-edge-litert": RuntimeKind("ai_edge_litert.interpreter", _INTERPRETER, interpreter=True),
    "tflite-runtime": RuntimeKind("tflite_runtime.interpreter", _INTERPRETER, interpreter=True),
    "litert-compiled": RuntimeKind(
        "ai_edge_litert.compiled_model", ("compiled", "CompiledSession"), distribution="ai-edge-litert"
    ),
    "tflite-micro": RuntimeKind("tflite_micro", ("micro", "MicroSession")),
    "tensorflow-lite": RuntimeKind(
        "tensorflow.lite.python.interpreter",
        ("interpreter", "TensorFlowSession"),
        interpreter=True,
        distribution="tensorflow",
    ),
    "onnxruntime": RuntimeKind("onnxruntime", ("onnx", "OnnxSession"), endings=(".onnx",), options=("device",)),
    "openvino": RuntimeKind("openvino", ("openvino", "OpenvinoSession"), endings=(".onnx",), options=("dtype",)),
    "pytorch": RuntimeKind("torch", ("torchscript", "TorchscriptSession"), endings=(".pt",), distribution="torch"),
    **{
        f"keras-{backend}": RuntimeKind(
            "keras",
            ("keras_models", f"{backend.capitalize()}Session"),
            endings=_KERAS_FILES,
            options=_KERAS_OPTIONS,
            needs=backend,
            distribution="keras",
        )
        for backend in ("tensorflow", "jax", "torch")
    },
}
"""All runtimes, by name."""

INTERPRETERS = tuple(name for name, kind in RUNTIMES.items() if kind.interpreter)
"""Runtimes with the class Interpreter."""

AUTO = {
    ".tflite": ("ai-edge-litert", "tflite-runtime"),
    ".onnx": ("onnxruntime", "openvino"),
    ".pt": ("pytorch",),
    ".keras": ("keras-tensorflow", "keras-jax", "keras-torch"),
    ".h5": ("keras-tensorflow", "keras-jax", "keras-torch"),
}
"""What "auto" tries, in this order, by the ending of the file."""


def ending_of(model: str) -> str:
    """Returns the ending of a file as `AUTO` knows it; a file of any other ending counts as ".tflite"."""
    ending = Path(model).suffix.lower()
    return ending if ending in AUTO else ".tflite"


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
    candidates = candidates_of(plan)
    for name in candidates:
        check_options(name, plan)
    started = time.perf_counter_ns()
    name, module = import_runtime(candidates, plan)
    import_us = (time.perf_counter_ns() - started) / 1e3
    try:
        session: Session = session_class(name)(plan, module)
    except struct.error as error:  # of what reads files in Python
        raise PlanError(f"the file is damaged: {error}") from error
    session.import_us = import_us
    session.version = version_of(name, module)
    return name, session


def candidates_of(plan: dict[str, Any]) -> tuple[str, ...]:
    """Returns the names of the runtimes that a plan may mean.

    Raises:
        PlanError: If the name is unknown, or the runtime does not take files of that ending.
    """
    name, ending = plan.get("runtime") or "auto", ending_of(plan["model"])
    if name == "auto":
        return AUTO[ending]
    if name not in RUNTIMES:
        raise PlanError(f"runtime {name!r} is not known, only {', '.join(RUNTIMES)} and auto")
    if ending not in RUNTIMES[name].endings:
        takers = [other for other, kind in RUNTIMES.items() if ending in kind.endings]
        raise PlanError(
            f"{name} takes {' and '.join(RUNTIMES[name].endings)} files, not {ending}: use {either(takers)}"
        )
    return (name,)


def check_options(name: str, plan: dict[str, Any]) -> None:
    """Refuses what a runtime cannot do.

    Raises:
        PlanError: If the plan asks for it.
    """
    kind = RUNTIMES[name]
    interpreters = either(INTERPRETERS)
    if not kind.interpreter and plan["op"] == "observe":
        raise PlanError(f"op 'observe' needs the Interpreter of {interpreters}, not {name}")
    if not kind.interpreter and plan.get("delegate") is not None:
        raise PlanError(f"{name} takes no delegate, only {interpreters} do")
    for key in ("device", "mode", "dtype"):
        asked = read_choice(plan, key) == "gpu" if key == "device" else plan.get(key) is not None
        if asked and key not in kind.options:
            able = ", ".join(other for other, each in RUNTIMES.items() if key in each.options)
            raise PlanError(f"{name} does not know {key} {plan[key]!r}: that is for {able}")
        read_choice(plan, key)


def session_class(name: str) -> Any:
    """Returns the class that loads models into a runtime."""
    module, kind = RUNTIMES[name].session
    return getattr(importlib.import_module(f".{module}", __package__), kind)


def import_runtime(candidates: tuple[str, ...], plan: dict[str, Any]) -> tuple[str, Any]:
    """Imports the first of some runtimes that is there.

    Returns:
        The runtime's name and its module.

    Raises:
        PlanError: If none can be imported.
    """
    reasons = []
    for name in candidates:
        needs = RUNTIMES[name].needs
        if needs is not None and importlib.util.find_spec(needs) is None:
            reasons.append(f"{name}: No module named {needs!r}")
            continue
        session_class(name).prepare(plan)
        try:
            return name, importlib.import_module(RUNTIMES[name].module)
        except Exception as error:  # a runtime built for another numpy raises what it likes
            reasons.append(f"{name}: {first_line(error)}")
    raise PlanError(f"no runtime in {sys.executable} ({'; '.join(reasons)})")


def version_of(name: str, module: Any) -> str:
    """Returns the version of the package that brings a runtime, with that of Keras's backend."""
    kind = RUNTIMES[name]
    try:
        version = importlib.metadata.version(kind.distribution or name)
    except importlib.metadata.PackageNotFoundError:  # one of several packages with this module, for instance for GPUs
        version = str(getattr(module, "__version__", "unknown"))
    backend = sys.modules.get(kind.needs or "")
    return f"{version} ({kind.needs} {backend.__version__})" if backend is not None else version
