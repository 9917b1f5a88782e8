from __future__ import annotations

import json

import numpy as np
import pytest

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Source
from edgelstm.tasks.fault import next_faults, read_labels
from edgelstm.tasks.series.machine import NUM_STEPS_OF_SIGNS, write_machine
from edgelstm.tasks.series.windows import INPUT, SCALER

SMALL = {"num_rows": 6000, "look_back": 12, "horizon": 4}
SOURCE = Source("", None)


@pytest.fixture(scope="module")
def task():
    return load_task("fault")


@pytest.fixture(scope="module")
def data(task):
    return task.data(task.setup(settings=SMALL))


def test_the_same_seed_writes_the_same_sensors_and_another_one_others():
    first, again, other = (write_machine(1000, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.series.values, again.series.values)
    np.testing.assert_array_equal(first.is_fault, again.is_fault)
    assert (first.is_fault != other.is_fault).any()


def test_before_faults_with_signs_vibration_rises_while_pressure_sinks():
    machine = write_machine(60_000, 0)
    starts = np.flatnonzero(np.diff(machine.is_fault.astype(int)) == 1) + 1
    starts = starts[starts > NUM_STEPS_OF_SIGNS]
    signs = machine.has_signs[starts]
    assert 0.65 < signs.mean() < 0.85
    vibration, pressure = (machine.series.column(name) for name in ("vibration", "pressure"))
    for column, change in ((vibration, 1.2), (pressure, -0.6)):
        before, long_before = column[starts - 1], column[starts - NUM_STEPS_OF_SIGNS]
        assert (before - long_before)[signs].mean() == pytest.approx(change, abs=0.2)
        assert abs((before - long_before)[~signs].mean()) < 0.3


def test_a_window_is_answered_by_the_faults_within_the_horizon():
    is_fault = np.array([0, 0, 0, 1, 1, 0, 0, 1], bool)
    np.testing.assert_array_equal(next_faults(is_fault, np.arange(8), 2), [-1, 3, 3, 4, -1, 7, 7, -1])


def test_the_answers_of_the_data_are_the_faults_after_the_windows(data, task):
    is_fault = write_machine(6000, 0).is_fault
    for part, split in data.splits.items():
        ends = data.extra["ends"][part]
        right = [is_fault[end + 1 : end + 5].any() for end in ends]
        np.testing.assert_array_equal(split.y, right)
        assert not is_fault[ends].any()
    assert 0.005 < data.test.y.mean() < 0.06
    assert task.setup().on("class_weights")


def test_shapes_labels_and_files(data):
    assert data.train.x[INPUT].shape[1:] == (12, 4)
    assert data.train.x[INPUT].dtype == np.float32
    assert data.labels == ("no fault", "fault ahead")
    assert [column.name for column in data.files[SCALER].columns] == ["vibration", "pressure", "temperature", "current"]


def perfect(data):
    answers = {len(split): 0.2 + 0.1 * split.y[:, np.newaxis] for split in (data.validation, data.test)}
    return lambda x: answers[len(x[INPUT])]


def test_alarms_are_decided_at_the_threshold_of_the_validation_split(task, data):
    figures = task.evaluate(perfect(data), data)
    assert figures["threshold"] == pytest.approx(0.25)
    for name in ("f1", "precision", "recall", "roc_auc", "average_precision", "faults_announced"):
        assert figures[name] == 1
    assert figures["f1_at_half"] == 0
    assert next(iter(figures)) == "f1"


def test_a_fault_is_announced_by_one_alarm(task, data):
    faults = data.extra["faults"]
    _, first = np.unique(faults[faults >= 0], return_index=True)
    alarms = np.zeros((len(data.test), 1))
    alarms[np.flatnonzero(faults >= 0)[first[:-1]]] = 1
    answers = {len(data.validation): data.validation.y[:, np.newaxis].astype(float), len(data.test): alarms}
    figures = task.evaluate(lambda x: answers[len(x[INPUT])], data)
    assert figures["precision"] == 1
    assert figures["faults_announced"] == pytest.approx((len(first) - 1) / len(first))


def test_simple_alarms_are_scored(task, data):
    figures = task.baselines(data)
    share = data.test.y.mean()
    assert figures["always"]["f1"] == pytest.approx(2 * share / (1 + share))
    assert figures["linear"]["roc_auc"] > 0.6
    assert figures["every fault with signs"]["precision"] == 1
    signs = write_machine(6000, 0).has_signs[data.extra["faults"]][data.test.y == 1]
    assert figures["every fault with signs"]["recall"] == pytest.approx(signs.mean())


def test_the_threshold_and_the_pictures_are_written(task, data, tmp_path):
    task.illustrate(perfect(data), data, task.setup(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"threshold.json", "precision_recall.png", "confusion.png"}
    document = json.loads((tmp_path / "threshold.json").read_text(encoding="utf-8"))
    assert document == {"threshold": pytest.approx(0.25), "rule": "alarm if the answer is greater"}


@pytest.mark.parametrize(
    "words, faults",
    [
        ([0, 1, 0.0, 1.0], [0, 1, 0, 1]),
        ([False, True, "no", "YES "], [0, 1, 0, 1]),
        (["normal", "FAULT", "ok", "broken"], [0, 1, 0, 1]),
        ([0, 3, 7, 0], [0, 1, 1, 0]),
        (["running", "running", "stopped", "running"], [0, 0, 1, 0]),
        (["none", "leak", "leak", "leak"], [0, 1, 1, 1]),
    ],
)
def test_faults_are_told_by_numbers_and_by_words(words, faults):
    is_fault, _ = read_labels(np.array(words, object), "state", SOURCE)
    assert is_fault.astype(int).tolist() == faults


@pytest.mark.parametrize(
    "words, message",
    [
        (["a", "b", "c"], "holds 3 kinds of values"),
        ([0.5, 1.5], "holds 2 kinds"),
        ([1, None], "nothing in .* of row 2"),
    ],
)
def test_labels_that_cannot_be_told_are_refused(words, message):
    with pytest.raises(DataError, match=message):
        read_labels(np.array(words, object), "state", SOURCE)


def own_table(tmp_path, faults):
    path = tmp_path / "own.csv"
    lines = [f"{row},{row % 7},{'fault' if row in faults else 'normal'}" for row in range(400)]
    path.write_text("\n".join(["time,sensor,state", *lines]), encoding="utf-8")
    return path


def test_a_table_of_the_users_is_read(task, tmp_path):
    path = own_table(tmp_path, {50, 51, 200, 300, 380})
    data = task.data(task.setup(source=path, settings={"look_back": 5, "horizon": 3, "label": "state"}))
    assert (data.train.x[INPUT].shape[1:], int(data.train.y.sum())) == ((5, 1), 6)
    assert (int(data.validation.y.sum()), int(data.test.y.sum())) == (3, 3)
    assert "every fault with signs" not in task.baselines(data)


def test_parts_without_faults_are_said_and_scored(task, tmp_path):
    path = own_table(tmp_path, {50, 100})
    data = task.data(task.setup(source=path, settings={"look_back": 5, "horizon": 3, "label": "state"}))
    assert data.notes[-2:] == (
        "The validation part has no fault, so the threshold is 0.5.",
        "The test part has no fault, so scores say nothing.",
    )
    assert task.evaluate(lambda x: np.full((len(x[INPUT]), 1), 0.1), data)["threshold"] == 0.5


def test_a_training_part_without_faults_is_refused(task, tmp_path):
    setup = task.setup(source=own_table(tmp_path, {390}), settings={"look_back": 5, "horizon": 3, "label": "state"})
    with pytest.raises(DataError, match="which are for training, have no window before a fault"):
        task.data(setup)


def test_a_table_without_the_column_of_faults_is_refused(task, tmp_path):
    with pytest.raises(DataError, match=r"has no column 'fault'\. Its columns are time, sensor, state"):
        task.data(task.setup(source=own_table(tmp_path, {50})))


def test_no_rows_are_refused(task):
    with pytest.raises(SettingError, match="'num_rows' must be at least 1"):
        task.data(task.setup(settings={"num_rows": 0}))


def test_training_windows_can_be_moved_back(task, data):
    some = data.train.take(slice(0, 20))
    setup = task.setup(settings={**SMALL, "shift": 3})
    moved = task.augment(some, np.random.default_rng(0), setup).x[INPUT]
    assert (moved != some.x[INPUT]).any(axis=(1, 2)).sum() in range(8, 21)
    np.testing.assert_array_equal(moved[:, 0], some.x[INPUT][:, 0])


@pytest.mark.parametrize(
    "variant, parameters",
    [
        ("lstm", 4 * 8 * (4 + 8 + 1) + 9),
        ("stacked", 4 * 8 * (4 + 8 + 1) + 4 * 8 * (8 + 8 + 1) + 9),
        ("cnn", 6 * (5 * 4 + 1) + 4 * 8 * (6 + 8 + 1) + 9),
    ],
)
def test_each_variant_answers_one_probability(task, data, variant, parameters):
    model = task.build(task.setup(variant, settings={**SMALL, "units": 8, "filters": 6}), data)
    assert model.count_params() == parameters
    assert (model.name, model.layers[-1].name, model.output_shape) == ("fault", "alarm", (None, 1))
