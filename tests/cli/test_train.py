from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from recorder import Recorder

from edgelstm.artifact import Artifact, write_artifact
from edgelstm.cli.train import score_table, training_summary
from edgelstm.errors import DataError, LoadError, OutputError, SettingError
from tests.training.tiny_task import use_tiny

METRICS = {
    "task": "tiny",
    "variant": "dense",
    "num_parameters": 12345,
    "test": {"accuracy": 0.9876, "macro_f1": 0.5},
    "baselines": {"the most frequent class": {"accuracy": 0.25}},
    "num_examples": {"train": 6000, "validation": 600, "test": 1500},
    "training": {"epochs": 12, "best_epoch": 9, "best_validation_loss": 0.1, "seconds": 83.4},
    "notes": ["3 texts were empty and left out."],
}
CHILD = (
    "import sys; from edgelstm import tasks; from edgelstm.cli import main\n"
    "tasks.TASKS['tiny'] = 'tests.training.tiny_task:TinyTask'\n"
    "sys.exit(main(sys.argv[1:]))\n"
)
ROOT = Path(__file__).parents[2]


class FakeRun:
    def __init__(self, folder):
        self.folder, self.metrics = Path(folder), METRICS


@pytest.fixture
def trains(replace, tmp_path):
    recorder = Recorder(FakeRun(tmp_path))
    replace("training.runs", train=recorder)
    return recorder


def test_everything_given_reaches_the_library(run, trains):
    options = ["--variant", "lstm", "--data", "mine", "--epochs", "7", "--seed", "3", "--restart"]
    done = run("train", "tiny", "-o", "out", *options, "--set", "units=8", "--set", "a=b=c")
    assert done.code == 0
    assert trains.args == ("tiny",)
    assert trains.kwargs == {
        **{"output": Path("out"), "variant": "lstm", "source": "mine", "seed": 3, "restart": True, "progress": None},
        "settings": {"units": "8", "a": "b=c", "epochs": 7},
    }


def test_the_summary_goes_to_stdout_and_notes_to_stderr(run, trains, tmp_path):
    (tmp_path / "model.keras").touch()
    (tmp_path / ".77-model.keras").touch()
    done = run("train", "tiny", "-o", "out")
    assert done.err == "edgelstm: warning: 3 texts were empty and left out.\n"
    assert done.out == training_summary(tmp_path, METRICS) + "\n"
    assert "12,345 parameters, trained in 1 min 23 s\non 6,000 examples, best after 9 of 12 epochs" in done.out
    assert "1,500 test examples" in done.out
    assert "  model.keras\n" in done.out
    assert f"  edgelstm convert {tmp_path}/model.keras -o {tmp_path}.tflite" in done.out


def test_json(run, trains, tmp_path):
    done = run("train", "tiny", "-o", "out", "--json")
    assert json.loads(done.out) == {"folder": str(tmp_path), **METRICS}


@pytest.mark.parametrize(
    "argv, message",
    [
        (["txt"], "There is no task 'txt'. The tasks are text, "),
        (["tiny", "--variant", "gru"], "Task 'tiny' has no variant 'gru'. It has dense, lstm."),
        (["tiny", "--set", "unit=3"], "Task 'tiny' has no setting 'unit'. Its settings are units, "),
        (["tiny", "--set", "units=x"], "The setting 'units' must be a whole number, not 'x'."),
        (["tiny", "--set", "units"], "'units' is not of the form NAME=VALUE, e.g. units=32."),
        (["tiny", "--set", "schedule=x"], "The setting 'schedule' must be one of constant, plateau, cosine, not 'x'."),
        (["tiny", "--set", "truncate=2"], "The setting 'truncate' is 2, and sequences have 5 steps"),
        (["tiny", "--epochs", "0"], "0 is not in the range x>=1."),
    ],
)
def test_wrong_usage_is_2_and_a_sentence(run, monkeypatch, tmp_path, argv, message):
    use_tiny(monkeypatch)
    done = run("train", *argv, "-o", tmp_path / "run")
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.endswith("See 'edgelstm train --help'.\n")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "error, code, text",
    [
        (SettingError("units is too small."), 2, "units is too small. See 'edgelstm train --help'."),
        (DataError("x.csv is empty."), 1, "x.csv is empty."),
        (OutputError("Cannot write."), 1, "Cannot write."),
        (ValueError("a defect"), 1, "unexpected ValueError: a defect (To see where: edgelstm --traceback COMMAND …)"),
        (KeyboardInterrupt(), 130, "interrupted: give the same command again to go on."),
        (KeyboardInterrupt("interrupted in epoch 2: go on."), 130, "interrupted in epoch 2: go on."),
    ],
)
def test_exit_codes(run, trains, error, code, text):
    trains.result = error
    done = run("train", "tiny", "-o", "out")
    assert (done.code, done.out) == (code, "")
    assert done.err.lstrip("\n") == f"edgelstm: error: {text}\n"


def test_who_restarted_is_told_not_to_restart_again(run, trains):
    trains.result = KeyboardInterrupt()
    done = run("train", "tiny", "-o", "out", "--restart")
    assert done.err.endswith("give the same command again to go on. Leave out --restart then.\n")


def test_data_that_is_not_there_is_1(run, monkeypatch, tmp_path):
    use_tiny(monkeypatch)
    done = run("train", "tiny", "-o", tmp_path / "run", "--data", "none.csv")
    assert done.code == 1
    assert "'none.csv' is not a source of its data, nor is there such a path. It takes offline, or the path" in done.err


def test_a_folder_that_cannot_be_made_is_1(run, monkeypatch):
    use_tiny(monkeypatch)
    done = run("train", "tiny", "-o", "/proc/none")
    assert (done.code, done.out) == (1, "")
    assert "Cannot write to the folder /proc/none" in done.err


def child(*argv, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", CHILD, *map(str, argv)], env=environment, **options)


def test_a_terminal_shows_progress_and_ctrl_c_says_how_to_go_on(tmp_path):
    primary, secondary = pty.openpty()
    command = ["train", "tiny", "-o", tmp_path / "run", "--epochs", "500", "--set", "nap_s=0.05", "--set", "patience=0"]
    with child(*command, stdout=subprocess.PIPE, stderr=secondary) as process:
        os.close(secondary)
        shown = b""
        while b"epoch 2/500" not in shown:
            shown += os.read(primary, 4096)
        process.send_signal(signal.SIGINT)
        out = process.stdout.read()
        assert process.wait(timeout=120) == 130
    shown += os.read(primary, 100_000)
    os.close(primary)
    text = shown.decode()
    assert "\r\x1b[Kreading the data" in text
    assert "\r\x1b[Kepoch 1/500 [" in text
    assert ": give the same command again to go on.\r\n" in text
    assert out == b""
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"run.json", "checkpoint.npz"}


def test_a_pipe_gets_nothing_but_the_result(tmp_path):
    with child(
        "train",
        "tiny",
        "-o",
        tmp_path / "run",
        "--epochs",
        "1",
        "--json",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        out, err = process.communicate(timeout=250)
    assert process.returncode == 0
    assert err.decode() == "edgelstm: warning: These are no real waves.\n"
    assert json.loads(out)["num_examples"] == {"train": 40, "validation": 18, "test": 20}


class TestTasks:
    def test_all_are_listed_within_80_columns(self, run):
        from edgelstm.tasks import TASKS

        done = run("tasks")
        assert done.code == 0
        assert max(map(len, done.out.splitlines())) <= 80
        listed = [line.split()[0] for line in done.out.splitlines() if line[:2] == "  " and line[2:3] != " "]
        assert listed == [*TASKS]

    @pytest.mark.parametrize("name", ["text", "rows", "tiny"])
    def test_one_is_told_whole(self, run, monkeypatch, name):
        from edgelstm.tasks import load_task

        use_tiny(monkeypatch)
        done, task = run("tasks", name), load_task(name)
        assert max(map(len, done.out.splitlines())) <= 80
        for word in (
            *task.variants,
            *task.sources,
            *(f"{key}={value}" for key, value in task.setup().settings.items()),
        ):
            assert f" {word} " in done.out.replace("\n", "  ")
        if task.reads:
            assert "PATH" in done.out

    def test_json(self, run, monkeypatch):
        use_tiny(monkeypatch)
        (told,) = json.loads(run("tasks", "tiny", "--json").out)
        assert (told["name"], told["score"], told["settings"]["learning_rate"]) == ("tiny", "accuracy", 0.01)

    def test_an_unknown_one_is_wrong_usage(self, run):
        done = run("tasks", "txt")
        assert (done.code, done.out) == (2, "")
        assert "There is no task 'txt'. The tasks are text, " in done.err


class TestEvaluate:
    def test_the_model_and_each_file_are_scored(self, run, replace, tmp_path):
        opened = type("Run", (), {"model_path": tmp_path / "model.keras", "task": _fake_task()})
        file = write_artifact(tmp_path / "a.tflite", b"model", {"accuracy": None}).path
        scores = {tmp_path / "model.keras": {"accuracy": 0.5}, file: {"accuracy": 0.25}}
        replace("training.runs", open_run=lambda folder: opened)
        replace("training.evaluation", evaluate=lambda run, file: scores[file])
        done = run("evaluate", "run", file, "--json")
        expected = {"main": "accuracy", "scores": {str(file): figures for file, figures in scores.items()}}
        assert json.loads(done.out) == expected
        assert run("evaluate", "run", file).out == score_table(expected["scores"]) + "\n"
        noted = {"metric": "accuracy", "value": 0.25, "data": "test split of text"}
        assert Artifact.open(file).card["accuracy"] == noted

    def test_what_is_no_run_is_1(self, run, tmp_path):
        done = run("evaluate", tmp_path)
        assert (done.code, done.out) == (1, "")
        assert "is no folder of edgelstm train" in done.err

    def test_an_error_leaves_stdout_empty(self, run, replace):
        replace("training.runs", open_run=Recorder(LoadError("no run.")))
        assert run("evaluate", "run") == (1, "", "edgelstm: error: no run.\n")


class TestScoreTable:
    FIGURES = dict.fromkeys(("accuracy", "precision", "recall", "f1", "roc_auc"), 0.98765)

    def test_figures_stand_below_their_names(self):
        assert score_table({"a": {"accuracy": 0.5, "f1": 0.12345}, "model": {"accuracy": 1.0}}).splitlines() == [
            "       accuracy       f1",
            "a        0.5000   0.1235",
            "model    1.0000        -",
        ]

    @pytest.mark.parametrize("length", [5, 30, 200])
    def test_a_long_path_has_its_own_line_and_columns_stay(self, length):
        lines = score_table({"p" * length: self.FIGURES, "short": self.FIGURES}).splitlines()
        rows = [line for line in lines if "p" * length != line]
        assert max(map(len, rows)) <= 80
        assert len({len(line) for line in rows}) == 1
        assert rows[0].split() == [*self.FIGURES]
        assert all(row.split()[-5:] == ["0.9877"] * 5 for row in rows[1:])


def _fake_task():
    objective = type("Objective", (), {"main": "accuracy"})
    return type("Task", (), {"objective": objective, "name": "text"})
