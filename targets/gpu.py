"""Target "gpu": a desktop GPU, for Keras models on the backend that sees it, and for ONNX files.

LSTMs of .tflite files run on the CPU wherever they run: no GPU delegate takes the operator. What a GPU is measured for
is the model as it was trained, to know what it costs to serve it there.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgelstm.errors import ModelRunError, TargetError
from edgelstm.runtime.interpreters import is_available, python_for
from edgelstm.targets.base import Availability, Report, Run, TargetKind
from edgelstm.targets.cpu import LocalPlace
from edgelstm.targets.measurement import Kind, Measurement
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.subjects import DTYPES, Subject
from edgelstm.targets.workers import Place, WorkerTarget

BATCHES = (1, 64)
"""What is measured unless the user says otherwise: one input at once, and enough of them to fill a GPU."""

KERAS_FILES = (".keras", ".h5")
SEES_GPU = {
    "keras-tensorflow": "import tensorflow as tf; seen = tf.config.list_physical_devices('GPU')",
    "keras-jax": "import jax; seen = [device for device in jax.devices() if device.platform != 'cpu']",
    "keras-torch": "import torch; seen = torch.cuda.is_available()",
    "onnxruntime": "import onnxruntime; seen = 'CUDAExecutionProvider' in onnxruntime.get_available_providers()",
}
"""What a Python runs to find out whether a runtime sees a GPU, by the name of the runtime."""

_PROBE_TIMEOUT_S = 120
_DEVICES = Path("/dev")
_DRIVERS = ("nvidia[0-9]*", "kfd", "dxg")
_SMI_FIELDS = ("name", "driver_version", "memory.total", "temperature.gpu", "clocks.sm", "power.draw")


class GpuTarget(WorkerTarget):
    """Times Keras models and ONNX files on this machine's GPU.

    Attributes:
        timeout_s: Seconds after which a worker is stopped.
    """

    name = "gpu"
    kind: Kind = "measured"
    device = "gpu"

    def __init__(self, *, timeout_s: float = 600.0) -> None:
        self.timeout_s = timeout_s
        self._runtimes: dict[str, str] = {}

    @contextmanager
    def open_place(self, report: Report | None = None) -> Iterator[Place]:
        """Finds out what sees the GPU; see `WorkerTarget.open_place`.

        Raises:
            TargetError: If there is no GPU, or no runtime that sees it.
        """
        if not has_driver():
            raise TargetError(_NO_GPU)
        if report:
            report("gpu: looking for a runtime that sees it …")
        keras = next(filter(sees_gpu, [name for name in SEES_GPU if name.startswith("keras")]), None)
        onnx = "onnxruntime" if sees_gpu("onnxruntime") else None
        if not (keras or onnx):
            raise TargetError(
                "gpu: there is a GPU, but no runtime that sees it. Install one that does: pip install "
                "'tensorflow[and-cuda]', 'jax[cuda12]' or torch, or onnxruntime-gpu for .onnx files."
            )
        self._runtimes = {suffix: keras for suffix in KERAS_FILES if keras} | ({".onnx": onnx} if onnx else {})
        yield LocalPlace()

    def variants(self, subject: Subject) -> list[Subject]:
        """Returns small and large batches, compiled and eager, in both precisions; see `Target.variants`."""
        settings, is_keras = subject.settings, subject.path.suffix.lower() in KERAS_FILES
        return [
            replace(subject, settings=replace(settings, batch=batch, mode=mode, dtype=dtype))
            for dtype in _open(settings.dtype, DTYPES if is_keras else (None,))
            for mode in _open(settings.mode, ("jit", "eager") if is_keras else (None,))
            for batch in _open(settings.batch, BATCHES if is_keras else (None,))
        ]

    def worker_plan(self, subject: Subject, plan: BenchPlan, place: Place) -> dict[str, Any]:
        """Names the runtime that sees the GPU; see `WorkerTarget.worker_plan`.

        Raises:
            ModelRunError: If the file is none that runs on a GPU.
        """
        asked = subject.settings.runtime
        runtime = self._runtimes.get(subject.path.suffix.lower()) if asked == "auto" else asked
        if runtime is None:
            known = " or ".join(sorted(self._runtimes)) if self._runtimes else ".keras"
            raise ModelRunError(
                f"{subject.path}: nothing here runs it on the GPU. Give the model as a {known} file; LSTMs of .tflite "
                "files run on the CPU wherever they run, so use --target cpu for those."
            )
        return {**super().worker_plan(subject, plan, place), "runtime": runtime}

    def conclude(self, subject: Subject, plan: BenchPlan, runs: list[Run]) -> Measurement:
        """Adds the GPU to the machine; see `Target.conclude`."""
        measurement = super().conclude(subject, plan, runs)
        return replace(measurement, machine={**measurement.machine, "gpu": describe_gpu()})


def has_driver() -> bool:
    """Says whether a driver shows a GPU, without loading a framework."""
    return any(any(_DEVICES.glob(pattern)) for pattern in _DRIVERS)


def sees_gpu(runtime: str) -> bool:
    """Says whether the Python that has a runtime has it see a GPU; takes the seconds that its import takes.

    Args:
        runtime: A name of `SEES_GPU`.
    """
    if not is_available(runtime):
        return False
    code = f"{SEES_GPU[runtime]}; print('yes' if seen else 'no')"
    try:
        done = subprocess.run(
            [python_for(runtime), "-I", "-c", code],
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.split()[-1:] == ["yes"]


def describe_gpu() -> dict[str, str] | None:
    """Returns what nvidia-smi tells of the first GPU, by field; None if it tells nothing."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    values = [value.strip() for value in done.stdout.splitlines()[0].split(",")] if done.stdout.strip() else []
    return dict(zip(_SMI_FIELDS, values, strict=False)) or None


def _open(given: Any, otherwise: tuple[Any, ...]) -> tuple[Any, ...]:
    return otherwise if given is None else (given,)


_NO_GPU = (
    "gpu: this machine has no GPU that a driver shows (no /dev/nvidia*, /dev/kfd or /dev/dxg), so none was measured."
)


def _available() -> list[Availability]:
    if not has_driver():
        return [Availability("gpu", False, _NO_GPU.removeprefix("gpu: "))]
    gpu = describe_gpu()
    return [Availability("gpu", True, f"{gpu['name']}." if gpu and "name" in gpu else "a GPU with its driver.")]


def _make(name: str) -> GpuTarget:
    return GpuTarget()


KIND = TargetKind(form="gpu", prefix="gpu", make=_make, available=_available)
