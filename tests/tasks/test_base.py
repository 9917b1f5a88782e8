from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import TASKS, load_task
from edgelstm.tasks.base import OFFLINE, Source, Split, Task
from tests.training.tiny_task import TinyTask


@pytest.mark.parametrize("name", TASKS)
def test_every_task_of_the_table_keeps_the_contract(name):
    task = load_task(name)
    assert isinstance(task, Task)
    assert task.name == name
    assert task.title
    assert next(iter(task.sources)) == OFFLINE
    for variant in task.variants:
        setup = task.setup(variant)
        assert (setup.variant, str(setup.source), setup.seed) == (variant, OFFLINE, 0)
    assert set(task.space) <= set(task.setup().settings)


def test_an_unknown_task_is_refused():
    with pytest.raises(SettingError, match=r"There is no task 'txt'\. The tasks are text, .*rows"):
        load_task("txt")


def test_an_unknown_variant_is_refused():
    with pytest.raises(SettingError, match=r"Task 'tiny' has no variant 'gru'\. It has dense, lstm\."):
        TinyTask().setup("gru")


def test_the_table_brings_neither_keras_nor_scikit_learn(run_python):
    done = run_python(
        "import sys; from edgelstm.tasks import TASKS, load_task; [load_task(name) for name in TASKS];"
        "print({'tensorflow', 'keras', 'sklearn', 'pandas', 'matplotlib', 'PIL', 'scipy'} & set(sys.modules))"
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_source_is_a_name_before_it_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / OFFLINE).write_text("x")
    (tmp_path / "mine").write_text("x")
    task = TinyTask()
    assert task.setup(source=OFFLINE).source == Source(OFFLINE)
    assert task.setup(source="mine").source.path.read_text() == "x"
    assert task.setup(source=tmp_path / OFFLINE).source == Source("", tmp_path / OFFLINE)


def test_a_source_that_is_neither_is_refused(tmp_path, monkeypatch):
    task = TinyTask()
    message = r"'mnist' is not a source of its data, nor is there such a path\. It takes offline, or the path of a file"
    with pytest.raises(DataError, match=message):
        task.setup(source="mnist")
    monkeypatch.setattr(TinyTask, "reads", "")
    with pytest.raises(DataError, match=r"is not a source of its data\. It takes offline\.$"):
        task.setup(source=tmp_path)


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_data_without_examples_is_refused(name, monkeypatch):
    task = TinyTask()
    data = task.data()
    empty = dataclasses.replace(data, **{name: data.train.take(slice(0))})
    monkeypatch.setattr(TinyTask, "load", lambda *_: empty)
    with pytest.raises(DataError, match=rf"Task 'tiny': the {name} split has no examples"):
        task.data()


def test_the_same_setup_gives_the_same_data_and_another_seed_other_data():
    task = TinyTask()
    one, same, other = (task.data(task.setup(seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.train.x["wave"], same.train.x["wave"])
    assert not np.array_equal(one.train.x["wave"], other.train.x["wave"])


@pytest.mark.parametrize("indices", [[2, 0], np.array([True, False, True]), slice(1, 3)])
def test_taking_examples_keeps_inputs_and_y_together(indices):
    split = Split({"a": np.arange(3), "b": np.arange(6).reshape(3, 2)}, np.arange(3) * 10)
    taken = split.take(indices)
    assert len(taken) == 2
    np.testing.assert_array_equal(taken.x["a"] * 10, taken.y)
    np.testing.assert_array_equal(taken.x["b"][:, 0] * 5, taken.y)
