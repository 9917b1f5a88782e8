from __future__ import annotations

import csv
import itertools
import json
import shlex

import optuna
import pytest

from edgelstm.errors import DataError, EdgeLSTMError, MissingExtraError, OutputError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tuning import tune
from edgelstm.tuning.running import is_held, running
from tests.tuning import fake

RATE = "0.0001:0.01:log"


@pytest.fixture
def folder(tmp_path, fast):
    return tmp_path / "search"


def table(folder):
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def interrupt_at(count):
    """Returns a progress function that interrupts at the count-th epoch, once."""
    epochs = itertools.count(1)

    def report(line):
        if "epoch" in line and next(epochs) == count:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_best_settings_are_the_best_of_all_trials(folder, fast, sampler):
    ranges = {"units": "16:64:16", "learning_rate": RATE}
    found = tune("fake", folder, trials=12, ranges=ranges, sampler=sampler, prune=False)
    rows = table(folder)
    assert (found.num_trials, found.num_complete, len(rows)) == (12, 12, 12)
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    assert found.loss == float(best["validation_loss"])
    assert found.loss == fake.loss_of({"dropout": 0.2, **found.settings}, 3)
    assert found.settings == {"units": int(best["units"]), "learning_rate": float(best["learning_rate"])}
    assert found.trial == int(best["trial"])
    assert len({(row["units"], row["learning_rate"]) for row in rows}) == 12
    assert len(fast()) == 12 * 4


def test_tpe_builds_on_what_it_has_seen_and_random_does_not(tmp_path, fast):
    lowest = fake.loss_of({"units": 48, "dropout": 0.2, "learning_rate": fake.BEST_RATE}, 3)
    above = {}
    for sampler in ("random", "tpe"):
        ranges, settings = {"learning_rate": "0.000001:1:log"}, {"units": 48}
        tune("fake", tmp_path / sampler, trials=30, ranges=ranges, settings=settings, sampler=sampler, prune=False)
        late = [float(row["validation_loss"]) - lowest for row in table(tmp_path / sampler)[15:]]
        above[sampler] = sum(late) / len(late)
    assert above["tpe"] < 0.7 * above["random"]


def test_a_grid_tries_exactly_its_values_and_then_stops(folder, fast):
    ranges = {"units": "16,48", "dropout": "0.1:0.5:0.2", "learning_rate": "0.001,0.003"}
    found = tune("fake", folder, trials=50, ranges=ranges, sampler="grid", prune=False)
    assert (found.num_trials, found.num_complete, found.num_combinations) == (12, 12, 12)
    tried = {(each["units"], each["dropout"], each["learning_rate"]) for each in fast()}
    assert tried == set(itertools.product([16, 48], [0.1, 0.3, 0.5], [0.001, 0.003]))
    assert found.settings == {"units": 48, "dropout": 0.1, "learning_rate": 0.003}
    again = tune("fake", folder, trials=60, ranges=ranges, sampler="grid", prune=False)
    assert (again.num_trials, len(fast())) == (12, 12 * 4)


def test_a_grid_that_is_cut_short_goes_on_with_what_is_left(folder, fast):
    for trials in (2, 5):
        tune("fake", folder, trials=trials, ranges={"units": "16:48:8"}, sampler="grid", prune=False)
        assert len({each["units"] for each in fast()}) == trials
    assert len(fast()) == 5 * 4


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_no_sampler_tries_the_same_twice_and_all_stop_when_nothing_is_left(folder, fast, sampler):
    found = tune("fake", folder, trials=50, ranges={"units": "16:48:8", "cell": "a,b"}, sampler=sampler, prune=False)
    assert (found.num_trials, found.num_combinations) == (10, 10)
    assert len({(row["units"], row["cell"]) for row in table(folder)}) == 10


def test_a_hopeless_trial_is_ended_early(folder, fast):
    ranges = {"units": "48,44,52,40,56,960"}
    found = tune("fake", folder, trials=6, ranges=ranges, sampler="grid", prune=True, seed=_seed_with_last(960))
    assert (found.num_complete, found.num_pruned) == (5, 1)
    last = table(folder)[-1]
    assert (last["units"], last["state"], last["epochs"]) == ("960", "ended early", "2")
    assert [each["epoch"] for each in fast() if each["units"] == 960] == [0, 1]
    whole = tune("fake", folder.with_name("whole"), trials=6, ranges=ranges, sampler="grid", prune=False)
    assert (whole.num_complete, whole.num_pruned) == (6, 0)


def _seed_with_last(units):
    """A seed with which the grid of the test above comes to the hopeless value last."""
    import random

    def order(seed):
        values = [(48,), (44,), (52,), (40,), (56,), (960,)]
        random.Random(seed).shuffle(values)
        return values

    return next(seed for seed in itertools.count() if order(seed)[-1] == (units,))


def test_ranges_of_settings_that_change_the_data_work(folder, fast):
    found = tune("fake", folder, trials=6, settings={"units": 48}, prune=False)
    assert set(found.settings) == {"length"}
    assert {each["length"] for each in fast()} == {100, 200, 300, 400, 500}


def test_ranges_of_real_tasks_can_be_searched():
    for name in ("rows", "text"):
        task = load_task(name)
        for setting, where in task.space.items():
            for value in (where.low, where.high):
                task.setup(settings={setting: value})


@pytest.mark.usefixtures("drawn")
def test_the_files_say_what_was_found(folder, fast):
    found = tune(
        "fake", folder, trials=3, variant="two", seed=7, settings={"epochs": "2"}, ranges={"units": "13,16,48"}
    )
    best = json.loads((folder / "best.json").read_text())
    assert best == {
        "task": "fake",
        "variant": "two",
        "source": "offline",
        "seed": 7,
        "settings": {"units": 48},
        "validation_loss": found.loss,
        "trial": found.trial,
        "num_complete": 2,
        "num_pruned": 0,
        "num_failed": 1,
        "command": f"edgelstm train fake -o {folder}/best --variant two --seed 7 --set epochs=2 --set units=48",
    }
    rows = {row["units"]: row for row in table(folder)}
    assert [row["trial"] for row in table(folder)] == ["1", "2", "3"]
    assert rows["48"] == {
        "trial": str(found.trial),
        "state": "complete",
        "validation_loss": str(found.loss),
        "units": "48",
        "epochs": "2",
        "seconds": "1.0",
        "parameters": "480",
        "error": "",
    }
    assert (rows["13"]["state"], rows["13"]["error"]) == ("failed", "There is no data with 13 units.")
    assert rows["13"]["validation_loss"] == ""
    assert set(found.files) == {"best.json", "trials.csv", "study.db", "history.png", "slices.png", "epochs.png"} | (
        {"importances.png"} & set(found.files)
    )
    for name in found.files:
        if name.endswith(".png"):
            assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_command_quotes_what_a_shell_would_not_take(tmp_path, fast):
    data = tmp_path / "my data.csv"
    data.touch()
    found = tune("fake", tmp_path / "a search", trials=1, source=data, ranges={"units": "48"})
    words = shlex.split(found.command)
    assert words[words.index("--data") + 1] == str(data)
    assert words[words.index("-o") + 1] == str(tmp_path / "a search" / "best")


class TestFailures:
    def test_trials_that_fail_are_counted_and_the_search_goes_on(self, folder, fast):
        found = tune("fake", folder, trials=10, ranges={"units": "13,14,15,16,48"}, sampler="grid")
        assert (found.num_trials, found.num_complete, found.num_failed) == (5, 2, 3)
        errors = {row["units"]: row["error"] for row in table(folder)}
        assert errors["13"] == "There is no data with 13 units."
        assert errors["14"] == "unexpected ValueError: deep inside"
        assert errors["15"] == "The validation loss was never a number."
        assert found.last_error in errors.values()
        again = tune("fake", folder, trials=10, ranges={"units": "13,14,15,16,48"}, sampler="grid")
        assert again.num_failed == 3

    def test_when_all_fail_the_error_says_why(self, folder, fast):
        with pytest.raises(EdgeLSTMError, match=r"^All 2 trials failed, the last one for this reason: .*\. Mend this"):
            tune("fake", folder, trials=2, ranges={"units": "13,14"}, sampler="grid")
        assert [row["state"] for row in table(folder)] == ["failed", "failed"]
        assert not (folder / "best.json").exists()

    def test_a_search_in_which_nothing_works_ends_early(self, folder, fast):
        with pytest.raises(EdgeLSTMError, match="All 5 trials failed"):
            tune("fake", folder, trials=100, source="broken")

    def test_what_would_stop_every_trial_stops_the_search_and_costs_no_trial(self, folder, fast, monkeypatch):
        def missing(*_):
            raise MissingExtraError('pip install "edgelstm[train]".')

        with monkeypatch.context() as patch:
            patch.setattr(fake.FakeTask, "load", missing)
            with pytest.raises(MissingExtraError):
                tune("fake", folder, trials=2, ranges={"units": "16,48"})
        found = tune("fake", folder, trials=2, ranges={"units": "16,48"})
        assert (found.num_complete, found.num_failed) == (2, 0)

    @pytest.mark.usefixtures("drawn")
    def test_bugs_outside_of_trials_are_not_taken_for_wrong_usage(self, folder, fast, monkeypatch):
        def broken(*_):
            raise ValueError("a bug")

        monkeypatch.setattr("edgelstm.tuning.pictures.draw_study", broken)
        with pytest.raises(ValueError, match="a bug") as raised:
            tune("fake", folder, trials=1, ranges={"units": "16"})
        assert not isinstance(raised.value, SettingError)


class TestInterruptions:
    RANGES = {"units": "16:64:16", "learning_rate": RATE}  # noqa: RUF012

    def search(self, folder, **options):
        return tune("fake", folder, **{"trials": 6, "ranges": self.RANGES, "prune": False, **options})

    @pytest.mark.parametrize("count", [1, 6, 24])
    def test_an_interrupted_search_comes_to_the_same_trials(self, folder, fast, count):
        with pytest.raises(KeyboardInterrupt, match=r"interrupted in trial \d of 6: give the same command again"):
            self.search(folder, progress=interrupt_at(count))
        found = self.search(folder)
        whole = self.search(folder.with_name("whole"))
        assert table(folder) == table(folder.with_name("whole"))
        assert (found.num_trials, found.num_complete, found.num_failed) == (6, 6, 0)
        assert (found.settings, found.trial) == (whole.settings, whole.trial)
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []

    def test_no_epoch_is_trained_twice(self, folder, fast):
        with pytest.raises(KeyboardInterrupt):
            self.search(folder, progress=interrupt_at(7))
        self.search(folder)
        assert len(fast()) == 6 * 4

    def test_a_trial_without_its_checkpoint_begins_anew(self, folder, fast):
        with pytest.raises(KeyboardInterrupt):
            self.search(folder, progress=interrupt_at(7))
        (checkpoint,) = folder.glob(".trial-*.npz")
        checkpoint.unlink()
        assert self.search(folder).num_complete == 6
        assert len(fast()) == 6 * 4 + 2

    def test_before_the_first_result_nothing_is_lost(self, folder, fast):
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt, match="in trial 1 of 6"):
                self.search(folder, progress=interrupt_at(1))
        assert self.search(folder).num_complete == 6

    def test_more_trials_go_on(self, folder, fast):
        assert self.search(folder, trials=3).num_trials == 3
        assert self.search(folder, trials=3).num_trials == 3
        assert self.search(folder).num_trials == 6
        assert self.search(folder, trials=2).num_trials == 6
        assert len(fast()) == 6 * 4


class TestOtherSearches:
    @pytest.mark.parametrize(
        "change, message",
        [
            ({"ranges": {"units": "16:32:16"}}, "range of units: 16:64:16, not 16:32:16"),
            ({"ranges": {"dropout": "0.1,0.2"}}, "range of units: 16:64:16, not none|setting units: none, not 32"),
            ({"settings": {"epochs": 3}}, "setting epochs: 4, not 3"),
            ({"seed": 1}, "seed: 0, not 1"),
            ({"sampler": "grid"}, "sampler: tpe or random, not grid"),
            ({"study_name": "fake-one-offline", "variant": "two"}, "variant: one, not two"),
        ],
    )
    def test_a_study_of_another_search_is_left_alone(self, folder, fast, change, message):
        usual = {"trials": 1, "ranges": {"units": "16:64:16"}}
        tune("fake", folder, **usual)
        with pytest.raises(OutputError, match=rf"is of another search \(.*({message}).*\)\. Choose a new folder"):
            tune("fake", folder, **{**usual, "trials": 2, **change})
        assert len(fast()) == 4

    def test_a_study_that_is_none_of_ours_is_left_alone(self, folder, fast):
        url = f"sqlite:///{folder.parent}/theirs.db"
        study = optuna.create_study(study_name="theirs", storage=url)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
        with pytest.raises(OutputError, match="'theirs' is of another search"):
            tune("fake", folder, trials=1, storage=url, study_name="theirs")

    def test_machines_may_keep_the_data_in_different_places(self, tmp_path, fast):
        url = f"sqlite:///{tmp_path}/shared.db"
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "data.csv").touch()
            source = tmp_path / name / "data.csv"
            found = tune("fake", tmp_path / f"out-{name}", trials=2, source=source, storage=url)
        assert found.num_trials == 2


class TestLocks:
    def test_a_lock_is_held_while_the_trial_runs(self, tmp_path):
        with running(tmp_path, "trial-1") as checkpoint:
            checkpoint.write_text("weights")
            assert is_held(tmp_path / ".trial-1.lock")
            with running(tmp_path, "trial-1") as other:
                assert other is None
            assert is_held(tmp_path / ".trial-1.lock")
        assert list(tmp_path.iterdir()) == []

    def test_a_lock_without_its_process_is_free(self, tmp_path):
        (tmp_path / ".trial-1.lock").touch()
        assert not is_held(tmp_path / ".trial-1.lock")

    @pytest.mark.parametrize("error, stays", [(KeyboardInterrupt, True), (DataError, False)])
    def test_only_an_interruption_leaves_the_checkpoint(self, tmp_path, error, stays):
        def run():
            with running(tmp_path, "trial-1") as checkpoint:
                checkpoint.write_text("weights")
                raise error

        with pytest.raises(error):
            run()
        assert (tmp_path / ".trial-1.npz").exists() == stays


def test_a_wrong_sampler_and_no_trials_are_wrong_settings(folder):
    with pytest.raises(SettingError, match=r"no sampler 'cma'\. The samplers are tpe, random, grid"):
        tune("fake", folder, sampler="cma")
    with pytest.raises(SettingError, match="trials=0: at least 1"):
        tune("fake", folder, trials=0)
    assert not folder.exists()


def test_folders_with_any_name_can_hold_a_study(tmp_path, fast):
    folder = tmp_path / "a?b %41#ä"
    assert tune("fake", folder, trials=1).num_trials == 1
    assert (folder / "study.db").is_file()
