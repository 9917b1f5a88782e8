from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace as changed
from pathlib import Path

import pytest
from recorder import Recorder

from edgelstm.cli.tune import wrap_command
from edgelstm.errors import EdgeLSTMError, SettingError
from edgelstm.tuning import Found

FOUND = Found(
    folder=Path("search"),
    settings={"units": 48, "learning_rate": 0.003},
    loss=0.12345,
    trial=7,
    command="edgelstm train rows -o search/best --set epochs=30 --set units=48 --set learning_rate=0.003",
    num_trials=20,
    num_complete=12,
    num_pruned=5,
    num_failed=2,
    num_running=1,
    num_combinations=None,
    last_error="The loss became nan in epoch 1.",
    files=("best.json", "epochs.png", "history.png", "importances.png", "slices.png", "study.db", "trials.csv"),
)


def test_options_reach_the_search(run, replace):
    tune = Recorder(FOUND)
    replace("tuning.search", tune=tune)
    argv = ["tune", "rows", "-o", "search", "--trials", "9", "--variant", "rows", "--data", "offline", "--epochs", "3"]
    argv += ["--set", "batch_size=256", "--range", "units=4:8", "--range", "dropout=0.1,0.5", "--sampler", "grid"]
    argv += ["--no-prune", "--storage", "sqlite:///a.db", "--study", "mine", "--seed", "5"]
    assert run(*argv).code == 0
    assert tune.args == ("rows",)
    assert tune.kwargs == {
        "output": Path("search"),
        "trials": 9,
        "variant": "rows",
        "source": "offline",
        "settings": {"batch_size": "256", "epochs": 3},
        "ranges": {"units": "4:8", "dropout": "0.1,0.5"},
        "sampler": "grid",
        "prune": False,
        "storage": "sqlite:///a.db",
        "study_name": "mine",
        "seed": 5,
        "progress": None,
    }


def test_the_database_may_stand_in_the_environment(run, replace, monkeypatch):
    tune = Recorder(FOUND)
    replace("tuning.search", tune=tune)
    monkeypatch.setenv("EDGELSTM_STORAGE", "postgresql://me:s3cret@h/db")
    done = run("tune", "rows", "-o", "search")
    assert tune.kwargs["storage"] == "postgresql://me:s3cret@h/db"
    assert "s3cret" not in done.out + done.err


def test_what_was_found_is_printed_within_eighty_columns(run, replace):
    replace("tuning.search", tune=Recorder(FOUND))
    done = run("tune", "rows", "-o", "search")
    assert done.code == 0
    assert done.out == (
        "20 trials: 12 complete, 5 ended early, 2 failed, 1 running in other processes.\n"
        "\n"
        "Lowest validation loss 0.1235, in trial 7:\n"
        "  units          48\n"
        "  learning_rate  0.003\n"
        "\n"
        "Train with these settings:\n"
        "  edgelstm train rows -o search/best --set epochs=30 --set units=48 \\\n"
        "    --set learning_rate=0.003\n"
        "\n"
        "Written to search: best.json, epochs.png, history.png, importances.png,\n"
        "  slices.png, study.db, trials.csv\n"
    )
    assert " ".join(done.err.split()) == (
        "edgelstm: warning: The last trial that failed did so for this reason: The loss became nan in epoch 1."
    )


@pytest.mark.parametrize(
    "found, line",
    [
        ({"num_combinations": 20}, "All combinations were tried: 20."),
        ({"num_combinations": 1200}, "Tried 20 of 1,200 combinations."),
        ({"num_trials": 30}, "The study had more than 20 trials already."),
    ],
)
def test_it_says_how_much_there_was_to_try(run, replace, found, line):
    replace("tuning.search", tune=Recorder(changed(FOUND, **found)))
    assert run("tune", "rows", "-o", "search").out.splitlines()[1] == line


def test_json_is_everything_that_was_found(run, replace):
    replace("tuning.search", tune=Recorder(FOUND))
    document = json.loads(run("tune", "rows", "-o", "search", "--json").out)
    assert document == {**FOUND.to_json(), "folder": "search"}
    assert (document["settings"], document["trial"]) == ({"units": 48, "learning_rate": 0.003}, 7)


@pytest.mark.parametrize(
    "error, code, message",
    [
        (SettingError("No setting 'x'."), 2, "edgelstm: error: No setting 'x'. See 'edgelstm tune --help'.\n"),
        (EdgeLSTMError("All 5 trials failed."), 1, "edgelstm: error: All 5 trials failed.\n"),
        (KeyboardInterrupt(), 130, "edgelstm: error: interrupted: give the same command again to go on.\n"),
        (
            ValueError("deep inside"),
            1,
            "edgelstm: error: unexpected ValueError: deep inside (To see where: edgelstm --traceback COMMAND …)\n",
        ),
    ],
)
def test_only_wrong_settings_are_wrong_usage(run, replace, error, code, message):
    replace("tuning.search", tune=Recorder(error))
    assert run("tune", "rows", "-o", "search") == (code, "", message)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--range", "units"], "'units' is not of the form NAME=VALUE"),
        (["--range", "units=8:4"], "The range units=8:4 cannot be read"),
        (["--range", "unit=4:8"], "has no setting 'unit'"),
        (["--set", "units=8", "--range", "units=4:8"], "both set and searched"),
        (["--sampler", "cma"], "'cma' is not one of 'tpe', 'random', 'grid'"),
        (["--trials", "0"], "0 is not in the range"),
    ],
)
def test_wrong_options_are_wrong_usage(run, tmp_path, argv, message):
    done = run("tune", "rows", "-o", tmp_path / "search", *argv)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not (tmp_path / "search").exists()


def test_the_help_fits_into_eighty_columns(run):
    done = run("tune", "--help")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize(
    "command",
    [
        "edgelstm train rows",
        "edgelstm train rows -o 'a b/best' --data 'my data.csv' "
        + " ".join(f"--set setting_{i}={i}" for i in range(9)),
        "edgelstm train rows -o " + "x" * 100 + " --set units=3",
    ],
)
def test_a_wrapped_command_is_the_same_to_a_shell(command):
    wrapped = wrap_command(command)
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {wrapped.strip()}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words == shlex.split(command)
    assert all(len(line) <= 80 for line in wrapped.splitlines() if "x" * 100 not in line)


@pytest.fixture(scope="class")
def searched(tmp_path_factory):
    """A search with real trainings, and the training that it proposes."""
    folder = tmp_path_factory.mktemp("tune")
    argv = ["tune", "rows", "-o", "search", "--trials", "2", "--epochs", "2", "--set", "batch_size=256"]
    argv += ["--range", "units=4:8:4", "--range", "learning_rate=0.01:0.05:log", "--json"]
    done = _edgelstm(folder, *argv)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    program, *words = shlex.split(found["command"])
    assert program == "edgelstm"
    trained = _edgelstm(folder, *words, "--json")
    assert trained.returncode == 0, trained.stderr
    return found, json.loads(trained.stdout)


def _edgelstm(folder, *argv):
    command = [sys.executable, "-m", "edgelstm", *argv]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=280)


@pytest.mark.xdist_group("real-search")  # one search for all of them
class TestRealSearch:
    def test_the_proposed_command_trains_with_the_best_settings(self, searched):
        found, trained = searched
        assert set(found["settings"]) == {"units", "learning_rate"}
        for name, value in {**found["settings"], "epochs": 2, "batch_size": 256}.items():
            assert trained["settings"][name] == value

    def test_the_training_comes_to_the_loss_that_was_promised(self, searched):
        found, trained = searched
        assert trained["training"]["best_validation_loss"] == pytest.approx(found["loss"], rel=1e-5)

    def test_all_pictures_are_drawn(self, searched):
        assert {"epochs.png", "history.png", "slices.png"} <= set(searched[0]["files"])
