"""Trained models keep their accuracy in every precision, without any reset by the caller."""

from __future__ import annotations

import numpy as np
import pytest

import edgelstm
from edgelstm.runtime.calls import run_calls
from edgelstm.tasks import load_task
from edgelstm.training.feeding import keras_predict
from edgelstm.training.fitting import fit
from edgelstm.training.runs import build_model

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]

LARGEST_LOSS = 0.005
NUM_CALIBRATION = 200


def answers_without_reset(artifact, x):
    """The file's answers, all on one interpreter that is never reset."""
    calls = {name: examples[:, np.newaxis] for name, examples in x.items()}
    answers, _ = run_calls(artifact.path, calls, runtime="ai-edge-litert", timeout_s=300)
    return answers[artifact.card["outputs"][0]["name"]][:, 0]


@pytest.mark.parametrize(
    "name, settings, least",
    [
        ("rows", {"epochs": 40, "patience": 40}, 0.95),
        ("text", {"num_test": 800}, 0.95),
    ],
    ids=["rows", "text"],
)
def test_a_trained_model_keeps_its_accuracy(name, settings, least, tmp_path):
    task = load_task(name)
    setup = task.setup(settings=settings)
    data = task.data(setup)
    model = build_model(task, setup, data)
    fit(model, task, data, setup)
    reference = task.evaluate(keras_predict(model), data)["accuracy"]
    assert reference >= least, "a model that has learned nothing could not lose accuracy"
    for precision in ("float32", "float16", "dynamic", "int8"):
        path = tmp_path / f"{name}-{precision}.tflite"
        artifact = edgelstm.convert(
            model, path, quantize=precision, calibration=data.train.take(slice(NUM_CALIBRATION)).x
        )
        found = task.evaluate(lambda x, artifact=artifact: answers_without_reset(artifact, x), data)["accuracy"]
        assert found >= reference - LARGEST_LOSS, (precision, reference, found)
