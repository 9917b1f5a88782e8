from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgelstm
from edgelstm.errors import DataError, LoadError, OutputError, SettingError
from edgelstm.training.checkpoints import Checkpoint
from edgelstm.training.fitting import TrainingInterruptedError
from edgelstm.training.runs import open_run, train
from tests.training.tiny_task import TIME, TinyTask, use_tiny

keras = pytest.importorskip("keras")

FILES = {
    *("run.json", "model.keras", "calibration.npz", "metrics.json", "history.csv", "labels.txt"),
    *("curves.png", "architecture.png", "confusion.png", "words.txt", "waves.png"),
}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    use_tiny(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        use_tiny(patch)
        return train("tiny", tmp_path_factory.mktemp("finished") / "run", settings={"l2": 0.01})


def history(folder):
    with (folder / "history.csv").open(newline="") as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def interrupt(_, __):
    os.kill(os.getpid(), signal.SIGINT)


class TestWhatATrainingLeaves:
    def test_files(self, finished):
        assert {path.name for path in finished.folder.iterdir()} == FILES
        assert finished.finished
        assert (finished.folder / "labels.txt").read_text().split() == ["slow", "middle", "fast"]
        assert all((finished.folder / name).read_bytes()[:4] == b"\x89PNG" for name in ("curves.png", "confusion.png"))

    def test_metrics_are_those_of_the_saved_model(self, finished):
        model = keras.saving.load_model(finished.model_path)
        test = finished.task.data(finished.setup).test
        answers = model.predict(test.x["wave"], verbose=0)
        metrics = finished.metrics
        assert metrics["test"]["accuracy"] == pytest.approx((answers.argmax(1) == test.y).mean())
        assert metrics["num_examples"] == {"train": 40, "validation": 18, "test": 20}
        assert metrics["num_parameters"] == sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        assert (metrics["main"], metrics["notes"]) == ("accuracy", ["These are no real waves."])
        assert metrics["training"]["epochs"] == 3

    def test_the_saved_model_knows_neither_optimizer_nor_penalty(self, finished):
        model = keras.saving.load_model(finished.model_path)
        assert getattr(model, "optimizer", None) is None
        assert not model.losses
        assert not [v for v in model.variables if v.regularizer is not None]
        assert [layer.kernel_regularizer for layer in model.layers if hasattr(layer, "kernel_regularizer")] == [
            None
        ] * 2

    def test_calibration_is_training_inputs(self, finished):
        with np.load(finished.calibration_path) as arrays:
            np.testing.assert_array_equal(arrays["wave"], finished.task.data(finished.setup).train.x["wave"])

    def test_history_has_a_line_for_each_epoch(self, finished):
        rows = history(finished.folder)
        assert [row["epoch"] for row in rows] == ["1", "2", "3"]
        assert {"loss", "accuracy", "val_loss", "val_accuracy", "gradient_norm", "learning_rate"} <= set(rows[0])

    def test_opened_again_it_is_the_same_run(self, finished):
        run = open_run(finished.folder)
        assert (run.setup, run.task.name, run.finished) == (finished.setup, "tiny", True)

    def test_the_same_seed_gives_the_same_model_and_another_one_another(self, finished, tmp_path):
        weights = [
            keras.saving.load_model(train("tiny", tmp_path / str(seed), seed=seed, settings={"l2": 0.01}).model_path)
            for seed in (0, 1)
        ]
        first = keras.saving.load_model(finished.model_path).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(first, weights[0].get_weights(), strict=True))
        assert not any(np.array_equal(a, b) for a, b in zip(first[::2], weights[1].get_weights()[::2], strict=True))

    def test_a_path_of_the_users_is_kept_whole(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("mine.txt").write_text("x" * 9)
        run = train("tiny", "run", source="mine.txt", settings={"epochs": 1})
        assert open_run("run").setup.source.path == (tmp_path / "mine.txt").resolve()
        assert open_run(run.folder).describe() == run.describe()


class TestGoingOn:
    def test_interrupted_and_given_again_it_leaves_the_same(self, finished, tmp_path):
        folder = tmp_path / "run"
        with pytest.raises(TrainingInterruptedError, match="interrupted after epoch 1 of 3"):
            train("tiny", folder, settings={"l2": 0.01}, after_epoch=interrupt)
        assert {path.name for path in folder.iterdir()} == {"run.json", "checkpoint.npz"}
        assert not open_run(folder).finished
        again = train("tiny", folder, settings={"l2": 0.01})
        expected, found = (keras.saving.load_model(run.model_path) for run in (finished, again))
        for one, other in zip(expected.get_weights(), found.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        assert history(folder) == history(finished.folder)
        assert {path.name for path in folder.iterdir()} == FILES

    def test_killed_between_checkpoints_it_goes_on_from_the_last_one(self, tmp_path):
        folder, reference = tmp_path / "run", tmp_path / "reference"
        code = (
            "import sys; from edgelstm import tasks; from edgelstm.cli import main\n"
            "tasks.TASKS['tiny'] = 'tests.training.tiny_task:TinyTask'\n"
            "sys.exit(main(['train', 'tiny', '-o', sys.argv[1], '--epochs', '6']))\n"
        )
        root = Path(__file__).parents[2]
        environment = {**os.environ, "TINY_NAP_S": "0.3", "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", code, str(folder)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                deadline = time.monotonic() + 250
                while not (folder / "checkpoint.npz").exists():
                    assert process.poll() is None, process.stderr.read().decode()
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                time.sleep(0.4)  # into the next epoch, whose three batches nap for 0.9 s
            finally:
                process.kill()
        assert process.returncode == -signal.SIGKILL
        reached = Checkpoint.load(folder / "checkpoint.npz").progress
        assert 1 <= reached.epoch < 6
        assert reached.batch == 0
        epochs = []
        again = train("tiny", folder, settings={"epochs": 6}, after_epoch=lambda epoch, _: epochs.append(epoch))
        assert epochs == [*range(reached.epoch, 6)]
        whole = train("tiny", reference, settings={"epochs": 6})
        expected, found = (keras.saving.load_model(run.model_path) for run in (whole, again))
        for one, other in zip(expected.get_weights(), found.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        assert history(folder) == history(reference)

    def test_a_damaged_checkpoint_is_said_and_restart_helps(self, tmp_path):
        with pytest.raises(TrainingInterruptedError):
            train("tiny", tmp_path, after_epoch=interrupt)
        (tmp_path / "checkpoint.npz").write_bytes(b"broken")
        before = contents(tmp_path)
        with pytest.raises(LoadError, match=r"Cannot read the checkpoint .*Train anew with --restart"):
            train("tiny", tmp_path)
        assert contents(tmp_path)["checkpoint.npz"] == before["checkpoint.npz"]
        assert train("tiny", tmp_path, restart=True).finished


class TestRefusals:
    def test_a_finished_folder_is_left_alone(self, finished):
        before = contents(finished.folder)
        with pytest.raises(
            OutputError, match=r"is finished\. Choose a new folder for -o, or train anew with --restart"
        ):
            train("tiny", finished.folder, settings={"l2": 0.01})
        with pytest.raises(OutputError, match=r"holds a training with l2 0\.01, not 0\.0\."):
            train("tiny", finished.folder)
        assert contents(finished.folder) == before

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            ({"source": "empty.txt"}, DataError, r"empty\.txt is empty"),
            ({"settings": {"truncate": 2}}, SettingError, "must divide"),
            ({"settings": {"units": "x"}}, SettingError, "whole number"),
            ({"variant": "x"}, SettingError, "no variant 'x'"),
        ],
    )
    def test_a_restart_that_cannot_begin_deletes_nothing(
        self, finished, tmp_path, monkeypatch, arguments, error, message
    ):
        monkeypatch.chdir(tmp_path)
        Path("empty.txt").touch()
        before = contents(finished.folder)
        with pytest.raises(error, match=message):
            train("tiny", finished.folder, restart=True, **arguments)
        assert contents(finished.folder) == before

    def test_a_restart_keeps_foreign_files_and_forgets_the_former_training(self, tmp_path):
        folder = tmp_path / "run"
        train("tiny", folder, settings={"epochs": 1})
        (folder / "thesis.tex").write_text("mine")
        run = train("tiny", folder, seed=1, settings={"epochs": 2}, restart=True)
        assert (folder / "thesis.tex").read_text() == "mine"
        assert {path.name for path in folder.iterdir()} == {*FILES, "thesis.tex"}
        assert (run.metrics["seed"], len(history(folder))) == (1, 2)

    def test_a_model_that_answers_nan_is_an_error_of_the_job(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            "edgelstm.training.runs.keras_predict", lambda _: lambda x: np.full((len(x["wave"]), 3), np.nan)
        )
        with pytest.raises(edgelstm.EdgeLSTMError, match=r"cannot be scored: .*NaN.*lower learning_rate"):
            train("tiny", tmp_path / "run", settings={"epochs": 1})

    @pytest.mark.parametrize(
        "text, message",
        [
            (None, r"is no folder of edgelstm train: there is no run\.json in it"),
            ("{", r"Cannot read .*run\.json"),
            ("[]", "it is no JSON object"),
            ('{"task": "tiny"}', r"is damaged or of another version \('source'\)"),
            ('{"task": "gone", "source": "offline"}', "There is no task 'gone'"),
        ],
    )
    def test_what_is_no_run_cannot_be_opened(self, tmp_path, text, message):
        if text is not None:
            (tmp_path / "run.json").write_text(text)
        with pytest.raises(LoadError, match=message):
            open_run(tmp_path)


@pytest.mark.timeout(600)
def test_a_model_trained_in_mixed_precision_converts_and_is_right(tmp_path):
    run = train("tiny", tmp_path / "run", variant="lstm", settings={"mixed_precision": True, "epochs": 1})
    assert keras.config.dtype_policy().name == "float32"
    trained = keras.saving.load_model(run.model_path)
    assert {v.dtype for v in trained.trainable_variables} == {"float32"}
    assert trained.get_layer("speed").compute_dtype == "float32"
    x = run.task.data(run.setup).test.x["wave"]
    reference = _float32_answers(trained, x)
    assert reference.std() > 0.01
    for precision, tolerance in (("float32", 2e-3), ("int8", 0.03)):  # float16 has 11 bits, int8 steps are 1/256
        artifact = edgelstm.convert(
            run.model_path, tmp_path / f"{precision}.tflite", quantize=precision, calibration=run.calibration_path
        )
        answers = edgelstm.load(artifact.path).predict(x)
        np.testing.assert_allclose(answers, reference, atol=tolerance, equal_nan=False)


def _float32_answers(trained, x):
    """The same weights in a model of float32 throughout."""
    task = TinyTask()
    setup = task.setup("lstm")
    model = task.build(setup, task.data(setup))
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    model.set_weights(trained.get_weights())
    assert x.shape[1] == TIME
    return model.predict(x, verbose=0)
