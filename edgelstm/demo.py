"""The demo: trains the text classifier, converts it in every precision, and compares the files with Keras.

All figures are measured in the run itself. Accuracy is that of the exported file on the test split. It is taken twice:
with `edgelstm.load`, and by a worker that feeds the reviews one after the other and never resets a state; a file that
answers differently there remembers earlier reviews, which ends the demo with an error.

Latency is one review at a time: exported files on one thread, Keras with all threads that TensorFlow takes, in the two
ways in which people call it: `model.predict`, which prepares a data pipeline for each call, and the model wrapped in a
`tf.function`, the fastest that TensorFlow itself offers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import edgelstm
from edgelstm.artifact import note_accuracy
from edgelstm.cli import output as terminal
from edgelstm.errors import VerificationError
from edgelstm.runtime.calls import run_calls
from edgelstm.training.folders import make_folder, write_complete, write_json

if TYPE_CHECKING:
    import keras

    from edgelstm.artifact import Artifact
    from edgelstm.tasks.base import Data, Inputs, Setup, Task
    from edgelstm.tasks.settings import Setting

Report = Callable[[str], None]

PRECISIONS = ("float32", "float16", "dynamic", "int8")
NUM_CALIBRATION_REVIEWS = 200
NUM_TIMED_CALLS = 100
NUM_WARM_UP_CALLS = 5


def run_demo(
    output: str | Path,
    *,
    json_output: bool = False,
    progress: Report | None = None,
    seed: int = 0,
    settings: Mapping[str, Setting] | None = None,
    plan: str = "full",
) -> int:
    """Trains, converts, verifies and times; writes model, vocabulary, exported files and demo.json; prints a table.

    Args:
        output: Folder to write to, created if need be.
        json_output: Print the content of demo.json instead of the table.
        progress: Takes a line about what is being done; by default a line of the terminal shows it, if there is one.
        seed: Seed of the data and the training.
        settings: Settings of the text task that shall differ from its defaults.
        plan: How long to time each file: "quick" (about a second) or "full" (about ten).

    Returns:
        The exit status, 0.

    Raises:
        EdgeLSTMError: If an extra is missing, the folder cannot be written to, or a file does not answer as Keras does,
            or remembers earlier calls.
        ValueError: If a setting or the plan is unknown.
    """
    folder = Path(output)
    make_folder(folder)
    with terminal.working() as terminal_progress:
        result = _measure(folder, progress or terminal_progress or _ignore, seed, dict(settings or {}), plan)
    write_json(folder / "demo.json", result)
    print(json.dumps(result, indent=2, ensure_ascii=False) if json_output else demo_table(result))
    return 0


def demo_table(result: Mapping[str, Any]) -> str:
    """Returns what the demo prints: a table within 80 columns, then where its files are (paths may be longer).

    Args:
        result: Content of demo.json.
    """
    model, latency = result["keras"], result["keras"]["latency"]
    rows = [
        ("Keras predict()", model["size_bytes"], model["accuracy"], None, latency["predict"]),
        ("Keras tf.function", model["size_bytes"], model["accuracy"], None, latency["tf_function"]),
    ]
    rows += [
        (entry["precision"], entry["size_bytes"], entry["accuracy"], entry["max_abs_difference"], entry["latency"])
        for entry in result["artifacts"]
    ]
    lines = [
        f"Sentiment of {result['data']['num_test']} unseen reviews; latency of one review, files on one thread.",
        "",
        f"{'':<18} {'size':>10} {'accuracy':>9} {'difference':>11} {'p50':>10} {'p99':>10}",
        f"{'':<18} {'KiB':>10} {'%':>9} {'to Keras':>11} {'ms':>10} {'ms':>10}",
    ]
    for name, size_bytes, accuracy, difference, times in rows:
        lines.append(
            f"{name:<18} {size_bytes / 1024:>10.1f} {100 * accuracy:>9.2f} "
            f"{'-' if difference is None else format(difference, '.1e'):>11} "
            f"{times['p50_us'] / 1000:>10.3f} {times['p99_us'] / 1000:>10.3f}"
        )
    unstable = [entry["precision"] for entry in result["artifacts"] if not entry["latency"]["stable"]]
    if unstable:
        lines.append(f"Not stable are the timings of {', '.join(unstable)}; demo.json says why.")
    lines += ["", f"Trained in {result['training']['seconds']:.0f} s, all done in {result['seconds']:.0f} s. Written:"]
    return "\n".join([*lines, *(f"  {path}" for path in result["files"])])


def _measure(folder: Path, progress: Report, seed: int, settings: dict[str, Setting], plan: str) -> dict[str, Any]:
    """Does the work; returns the content of demo.json."""
    from edgelstm.tasks import load_task

    start = time.perf_counter()
    task = load_task("text")
    progress("writing reviews")
    setup = task.setup(seed=seed, settings=settings)
    data = task.data(setup)
    training_start = time.perf_counter()
    model = _train(task, setup, data, lambda line: progress(f"training, {line}"))
    training_seconds = time.perf_counter() - training_start

    model_path, vocabulary_path = folder / "model.keras", folder / "vocabulary.txt"
    write_complete(model_path, model.save)
    data.files[vocabulary_path.name].save(vocabulary_path)
    progress("timing Keras")
    keras_result = _measure_keras(model, model_path, task, data)
    artifacts = []
    for precision in PRECISIONS:
        progress(f"converting to {precision}")
        artifact = edgelstm.convert(
            model_path,
            folder / f"{task.name}-{precision}.tflite",
            quantize=precision,
            calibration=data.train.take(slice(NUM_CALIBRATION_REVIEWS)).x,
        )
        progress(f"measuring {precision}")
        artifacts.append({"precision": precision, **_measure_artifact(artifact, task, data, plan)})
    return {
        "task": task.name,
        "seed": seed,
        "settings": setup.settings,
        "machine": _machine(),
        "data": {f"num_{name}": len(split) for name, split in data.splits.items()},
        "training": {"seconds": training_seconds},
        "keras": keras_result,
        "artifacts": artifacts,
        "files": [
            *map(str, (model_path, vocabulary_path)),
            *(entry["path"] for entry in artifacts),
            str(folder / "demo.json"),
        ],
        "seconds": time.perf_counter() - start,
    }


def _train(task: Task, setup: Setup, data: Data, progress: Report) -> keras.Model:
    from edgelstm.training.fitting import fit
    from edgelstm.training.runs import build_model, without_optimizer

    model = build_model(task, setup, data)
    fit(model, task, data, setup, report=progress)
    return without_optimizer(model)


def _measure_keras(model: keras.Model, model_path: Path, task: Task, data: Data) -> dict[str, Any]:
    import tensorflow as tf

    from edgelstm.training.feeding import keras_predict

    (x_test,) = data.test.x.values()
    compiled = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    return {
        "path": str(model_path),
        "size_bytes": model_path.stat().st_size,
        "accuracy": task.evaluate(keras_predict(model), data)["accuracy"],
        "latency": {
            "predict": _time_calls(lambda x: model.predict(x, verbose=0), x_test),
            # .numpy() waits for the answer, which an asynchronous device would otherwise still be working on.
            "tf_function": _time_calls(lambda x: compiled(tf.constant(x)).numpy(), x_test),
        },
    }


def _measure_artifact(artifact: Artifact, task: Task, data: Data, plan: str) -> dict[str, Any]:
    loaded = edgelstm.load(artifact.path)
    accuracy = task.evaluate(lambda x: _only_output(loaded.predict(x)), data)["accuracy"]
    accuracy_without_reset = task.evaluate(lambda x: _predict_without_reset(artifact.path, x), data)["accuracy"]
    if accuracy_without_reset != accuracy:
        raise VerificationError(
            f"{artifact.path} remembers earlier calls: its accuracy is {accuracy:.4f} with a reset before each call, "
            f"and {accuracy_without_reset:.4f} without. Please report this."
        )
    note_accuracy(artifact.path, {"metric": "accuracy", "value": accuracy, "data": "the demo's test reviews"})
    measurement = edgelstm.bench(artifact.path, plan=plan)
    assert measurement.statistics
    parity = artifact.card["parity"]
    return {
        "path": str(artifact.path),
        "size_bytes": artifact.path.stat().st_size,
        "accuracy": accuracy,
        "accuracy_without_reset": accuracy_without_reset,
        "max_abs_difference": max(entry["max_abs_difference"] for entry in parity),
        "parity": parity,
        "runtime": f"{measurement.runtime} {measurement.runtime_version}",
        "threads": measurement.settings.threads,
        "latency": dataclasses.asdict(measurement.statistics),
        "warnings": list(measurement.warnings),
    }


def _predict_without_reset(path: Path, x: Inputs) -> npt.NDArray[Any]:
    """Answers like `edgelstm.load(path).predict`, with calls that follow each other without any reset.

    Args:
        path: A file with one input and one output, of batch 1.
        x: Examples, shape (n, ...), by the name of the one input.
    """
    (info,) = edgelstm.load(path).inputs
    (examples,) = x.values()
    answers, _ = run_calls(path, {info.name: examples[:, np.newaxis]}, timeout_s=600)
    return _only_output(answers)[:, 0]


def _only_output(answer: npt.NDArray[Any] | dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if isinstance(answer, dict):
        (answer,) = answer.values()
    return answer


def _time_calls(
    call: Callable[[npt.NDArray[Any]], object],
    x: npt.NDArray[Any],
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, float]:
    """Times calls with one example each, every time the next one.

    Args:
        call: What is timed.
        x: Examples, shape (n, ...).
        clock: Returns the time in ns.

    Returns:
        p50_us, p99_us, and num_calls, the number they come from.
    """
    times_ns = []
    for index in range(NUM_WARM_UP_CALLS + NUM_TIMED_CALLS):
        row = index % len(x)
        example = x[row : row + 1]
        start = clock()
        call(example)
        times_ns.append(clock() - start)
    p50_us, p99_us = np.percentile(times_ns[NUM_WARM_UP_CALLS:], [50, 99]) / 1000
    return {"p50_us": float(p50_us), "p99_us": float(p99_us), "num_calls": NUM_TIMED_CALLS}


def _machine() -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "num_cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("edgelstm", "keras", "numpy", "tensorflow")},
    }


def _ignore(line: str) -> None:
    """Shows no progress."""
