from __future__ import annotations

import os
import signal

import numpy as np
import pytest

import edgelstm
from edgelstm.errors import LoadError
from edgelstm.training.evaluation import evaluate
from edgelstm.training.fitting import TrainingInterruptedError
from edgelstm.training.runs import train
from tests.training.tiny_task import use_tiny

keras = pytest.importorskip("keras")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    use_tiny(monkeypatch)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        use_tiny(patch)
        return train("tiny", tmp_path_factory.mktemp("evaluation") / "run", settings={"epochs": 30, "patience": 0})


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    return edgelstm.convert(run.model_path, tmp_path_factory.mktemp("files") / "m.tflite").path


def write_model(path, name="wave", shape=(5, 2), classes=3):
    x = keras.Input(shape, name=name)
    y = keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(x))
    model = keras.Model(x, y)
    model.save(path)
    return model


def test_the_model_of_a_run_has_the_scores_of_its_metrics(run):
    assert evaluate(run.folder) == run.metrics["test"]
    assert edgelstm.evaluate is evaluate


def test_another_model_has_its_own_scores(run, tmp_path):
    model = write_model(tmp_path / "m.keras")
    test = run.task.data(run.setup).test
    expected = (model.predict(test.x["wave"], verbose=0).argmax(1) == test.y).mean()
    assert expected != run.metrics["test"]["accuracy"]
    assert evaluate(run, tmp_path / "m.keras")["accuracy"] == pytest.approx(expected)


def test_a_converted_file_is_scored_by_its_own_answers(run, file):
    assert evaluate(run, str(file)) == pytest.approx(run.metrics["test"])


def test_integer_answers_are_read_as_probabilities(run, file, monkeypatch):
    class Integers:
        """Answers in steps of 1/256 from -128 on, as int8 outputs do."""

        outputs = (type("Output", (), {"dequantize": staticmethod(lambda q: (q.astype(np.float32) + 128) / 256)}),)

        def predict(self, x):
            answers = edgelstm_load(file).predict(x)
            return np.clip(np.round(answers * 256) - 128, -128, 127).astype(np.int8)

    edgelstm_load = edgelstm.load
    monkeypatch.setattr(edgelstm, "load", lambda _: Integers())
    assert evaluate(run, file)["accuracy"] == pytest.approx(run.metrics["test"]["accuracy"], abs=0.051)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"name": "sound"}, r"does not fit the data of .*: The model takes sound, and the data has wave\."),
        ({"shape": (6, 2)}, r"m\.keras does not fit the data of"),
    ],
)
def test_a_model_of_other_inputs_is_refused(run, tmp_path, options, message):
    write_model(tmp_path / "m.keras", **options)
    with pytest.raises(LoadError, match=message):
        evaluate(run, tmp_path / "m.keras")


def test_other_kinds_of_files_are_refused(run):
    with pytest.raises(LoadError, match=r"m\.onnx cannot be scored: give a \.tflite or \.keras file\."):
        evaluate(run, "m.onnx")


@pytest.mark.parametrize("name", ["none.tflite", "none.keras"])
def test_a_missing_file_is_said(run, tmp_path, name):
    with pytest.raises(edgelstm.EdgeLSTMError, match="none"):
        evaluate(run, tmp_path / name)


def test_an_unfinished_training_has_no_scores(tmp_path):
    with pytest.raises(TrainingInterruptedError):
        train("tiny", tmp_path / "run", after_epoch=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(LoadError, match=r"is not finished: give its edgelstm train command again\."):
        evaluate(tmp_path / "run")
