"""Engines: all that can run a model file on this machine, by name. `base` holds what each of them promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelstm.errors import ModelRunError
from edgelstm.runtime import mediapipe_tasks, web
from edgelstm.runtime.engines.base import Engine, Result
from edgelstm.runtime.engines.worker import worker_engine

__all__ = ["ENGINES", "Engine", "Result", "find_engine", "fitting_engines", "run_on", "run_sequences_on"]

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        worker_engine("ai-edge-litert", "LiteRT Interpreter"),
        worker_engine("tflite-runtime", "TensorFlow Lite Interpreter"),
        worker_engine("litert-compiled", "LiteRT CompiledModel"),
        worker_engine("tflite-micro", "TensorFlow Lite Micro"),
        Engine("litertjs", "LiteRT.js", web.REQUIREMENT, web.is_here, web.version, web.run, web.run_sequences),
        Engine(
            "mediapipe",
            "MediaPipe Tasks",
            mediapipe_tasks.REQUIREMENT,
            mediapipe_tasks.is_here,
            mediapipe_tasks.version,
            mediapipe_tasks.run,
        ),
    )
}
"""All engines by name."""


def find_engine(name: str) -> Engine:
    """Returns an engine by name.

    Raises:
        ModelRunError: If there is none of that name.
    """
    if name not in ENGINES:
        raise ModelRunError(f"Engine {name!r} is not known. Known are {', '.join(ENGINES)}.")
    return ENGINES[name]


def run_on(name: str, file: Path, calls: Mapping[str, Any], *, timeout_s: float) -> tuple[dict[str, Any], Result]:
    """Runs calls of a file on an engine, one after the other and without a reset.

    Args:
        name: A name of `ENGINES`.
        file: The .tflite file.
        calls: Arrays by input name, shape (calls, *input shape with batch).
        timeout_s: Seconds after which the engine is stopped.

    Returns:
        Arrays by output name as the engine gives them, shape (calls, *output shape), and what the engine tells.

    Raises:
        ModelRunError: If the engine is unknown, refuses the file, fails, crashes or runs too long.
        MissingExtraError: If the engine is not installed.
    """
    return find_engine(name).run(file, calls, timeout_s=timeout_s)


def run_sequences_on(
    name: str, file: Path, calls: Mapping[str, Any], *, sequence: int, carry: Mapping[str, str], timeout_s: float
) -> tuple[dict[str, Any], Result]:
    """Runs sequences of calls of a file that keeps states: they begin anew with each sequence and survive within it.

    Args:
        name: A name of `ENGINES`.
        file: The .tflite file.
        calls: Arrays by input name, shape (sequences * sequence, *input shape with batch), without the inputs in carry.
        sequence: Calls in a sequence. Before each of them variables are reset.
        carry: Names of outputs by the names of the inputs that take them in the next call. They begin at zero.
        timeout_s: Seconds after which the engine is stopped.

    Returns:
        As `run_on`.

    Raises:
        ModelRunError: As `run_on`; or if the engine runs no such files, or carry names what the file does not have.
        MissingExtraError: If the engine is not installed.
    """
    engine = find_engine(name)
    if engine.run_sequences is None:
        raise ModelRunError(
            f"{file}: {engine.title} cannot run a streaming file: it keeps no states. Use another runtime."
        )
    return engine.run_sequences(file, calls, sequence=sequence, carry=carry, timeout_s=timeout_s)


def fitting_engines(names: Sequence[str], file: Path) -> tuple[list[str], list[str]]:
    """Leaves out MediaPipe where a file is no text classifier, the only kind of token model that its tasks run.

    Args:
        names: Names of engines.
        file: The .tflite file.

    Returns:
        The others, and a sentence for the user about what was left out.
    """
    if mediapipe_tasks.NAME not in names:
        return list(names), []
    try:
        mediapipe_tasks.check_file(file)
    except ModelRunError as error:
        reason = str(error).partition(": ")[2]
        return [name for name in names if name != mediapipe_tasks.NAME], [
            f"{reason} It was not run there, and fits graphs of your own only."
        ]
    return list(names), []
