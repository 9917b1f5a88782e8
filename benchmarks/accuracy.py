"""Accuracy of every precision on trained models, several seeds, without any reset by the caller.

    python benchmarks/accuracy.py [--seeds 0 1 2] [-o benchmarks/results/accuracy.json]

For each task and seed: the data and the model of that seed, trained; Keras' accuracy on the test split, and that of
each exported file, run by a worker that feeds the whole split through one interpreter and never resets a state.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from conversion import machine

import edgelstm
from edgelstm.runtime.calls import run_calls
from edgelstm.tasks import TASKS, load_task

PRECISIONS = ("float32", "float16", "dynamic", "int8")
NUM_CALIBRATION = 200


def predict_without_reset(path: Path, x: Any) -> Any:
    """The file's answers to x, one call after the other on one interpreter."""
    card = edgelstm.Artifact.open(path).card
    calls = {card["inputs"][0]["name"]: x[:, np.newaxis]}
    answers, _ = run_calls(path, calls, runtime="ai-edge-litert", timeout_s=600)
    return answers[card["outputs"][0]["name"]][:, 0]


def measure(task_name: str, seed: int, folder: Path) -> dict[str, Any]:
    task = load_task(task_name)
    data = task.data(seed)
    model = task.train(data, seed)
    result = {"keras": task.evaluate(lambda x: model.predict(x, verbose=0), data)}
    for precision in PRECISIONS:
        path = folder / f"{task_name}-{seed}-{precision}.tflite"
        edgelstm.convert(model, path, quantize=precision, calibration=data.x_train[:NUM_CALIBRATION])
        result[precision] = task.evaluate(lambda x, path=path: predict_without_reset(path, x), data)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "accuracy.json")
    arguments = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in arguments.tasks:
            for seed in arguments.seeds:
                results.setdefault(task, {})[str(seed)] = measure(task, seed, Path(folder))
                print(task, seed, results[task][str(seed)], file=sys.stderr)
    report = {"command": "python benchmarks/accuracy.py", "machine": machine(), "results": results}
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
