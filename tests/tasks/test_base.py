from __future__ import annotations

import numpy as np
import pytest

from edgelstm.tasks import TASKS, load_task
from edgelstm.tasks.base import Task, accuracy


@pytest.mark.parametrize("name", TASKS)
def test_every_task_of_the_table_keeps_the_contract(name):
    task = load_task(name)
    assert isinstance(task, Task)
    assert task.name == name
    assert {"epochs", "batch_size", "patience"} <= set(task.defaults)


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match=r"There is no task 'txt'\. The tasks are rows, text\."):
        load_task("txt")


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("use", ["data", "build"])
def test_an_unknown_setting_is_refused(name, use):
    with pytest.raises(ValueError, match=rf"Task '{name}' has no setting 'unit'\. Its settings are .*units"):
        getattr(load_task(name), use)(unit=8)


def test_the_table_brings_neither_keras_nor_scikit_learn(run_python):
    done = run_python(
        "import sys; from edgelstm.tasks import TASKS, load_task; [load_task(name) for name in TASKS];"
        "print({'tensorflow', 'keras', 'sklearn'} & set(sys.modules))"
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_accuracy_of_two_classes_decides_at_a_half(shape):
    probabilities = np.reshape([0.1, 0.9, 0.6, 0.4], shape)
    assert accuracy(probabilities, np.array([0, 1, 0, 0])) == 0.75


def test_accuracy_of_more_classes_takes_the_most_probable():
    probabilities = [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25], [0.2, 0.6, 0.2]]
    assert accuracy(probabilities, np.array([0, 2, 1, 1])) == 0.75


@pytest.mark.parametrize("shape", [(3,), (3, 1), (4, 1, 1), (), (4, 0)])
def test_probabilities_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"do not fit 4 labels: \(4,\), \(4, 1\) or \(4, classes\) is expected"):
        accuracy(np.zeros(shape), np.zeros(4, int))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_probabilities_that_are_no_numbers_are_refused(value):
    with pytest.raises(ValueError, match="contain NaN or infinity"):
        accuracy([0.5, value], np.array([0, 1]))
