"""Serves a SavedModel for a few calls, in a process of its own and without Keras.

A standalone program: `python worker.py PLAN.json`. The plan says what to run:

    {"model": DIR, "signature": NAME, "runs": [{"inputs": FILE, "outputs": FILE}, ...]}

Inputs are .npz files with one array for each input, calls along the first axis; outputs are written alike. The last
line on standard output is {"version": ...}.
"""

import json
import os
import sys
from typing import Any

import numpy as np


def run(serve: Any, calls: dict[str, Any]) -> dict[str, Any]:
    """Answers calls one after the other."""
    import tensorflow as tf

    answers = []
    for call in range(len(next(iter(calls.values())))):
        outputs = serve(**{name: tf.constant(array[call]) for name, array in calls.items()})
        answers.append({name: tensor.numpy() for name, tensor in outputs.items()})
    return {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}


def main(path: str) -> int:
    """Runs the plan in a JSON file; what fails goes to standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    for name in ("keras", "tf_keras"):  # whoever serves the model has none
        sys.modules[name] = None  # type: ignore[assignment]
    import tensorflow as tf

    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        plan = json.load(file)
    loaded = tf.saved_model.load(plan["model"])
    serve = loaded.signatures[plan["signature"]]
    for entry in plan["runs"]:
        with np.load(entry["inputs"]) as archive:
            calls = {name: archive[name] for name in archive.files}
        np.savez(entry["outputs"], **run(serve, calls))
    print(json.dumps({"version": tf.__version__}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
