"""The table of everything that a file may be run on, and of the platforms that have it."""

from __future__ import annotations

from edgelstm.runtime.support.base import Runtime
from edgelstm.runtime.support.delegates import CORE_ML_DELEGATE, GPU_DELEGATE, HEXAGON_DELEGATE, NNAPI_DELEGATE
from edgelstm.runtime.support.interpreters import LITERT_INTERPRETER, TFLITE_RUNTIME_INTERPRETER
from edgelstm.runtime.support.litert import COMPILED_MODEL, LITERT_JS
from edgelstm.runtime.support.mediapipe_tasks import MEDIAPIPE_TASKS
from edgelstm.runtime.support.micro import TFLITE_MICRO

RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        LITERT_INTERPRETER,
        TFLITE_RUNTIME_INTERPRETER,
        COMPILED_MODEL,
        LITERT_JS,
        MEDIAPIPE_TASKS,
        TFLITE_MICRO,
        GPU_DELEGATE,
        NNAPI_DELEGATE,
        CORE_ML_DELEGATE,
        HEXAGON_DELEGATE,
    )
}
"""Runtimes, then delegates, by name."""

PLATFORMS: dict[str, tuple[str, ...]] = {
    "Android": ("ai-edge-litert", "litert-compiled", "mediapipe"),
    "iOS": ("ai-edge-litert", "mediapipe"),
    "Raspberry Pi": ("ai-edge-litert", "tflite-runtime", "litert-compiled"),
    "browser": ("litertjs", "mediapipe"),
    "microcontroller": ("tflite-micro",),
}
"""The runtimes of each platform, the usual one first."""
