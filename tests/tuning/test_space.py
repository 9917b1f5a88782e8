from __future__ import annotations

import math

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from edgelstm.errors import SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, LENGTH, UNITS, Range
from edgelstm.tuning.space import (
    check_grid,
    count_combinations,
    make_distributions,
    make_grid,
    make_space,
    tidy,
    values_of,
)

pytestmark = pytest.mark.usefixtures("fast")


@pytest.fixture
def task(fast):
    return load_task("fake")


def space_of(task, fixed=None, **ranges):
    return make_space(task, "one", ranges, fixed)


@pytest.mark.parametrize(
    "name, text, range_",
    [
        ("units", "32:256", Range(32, 256)),
        ("units", "32:256:32", Range(32, 256, 32)),
        ("units", "1:1000:log", Range(1, 1000, log=True)),
        ("learning_rate", "1e-4:1e-2:log", Range(1e-4, 1e-2, log=True)),
        ("dropout", " 0.1:0.5:0.1 ", Range(0.1, 0.5, 0.1)),
        ("units", "8, 16,8", (8, 16)),
        ("dropout", "0.1,0.5", (0.1, 0.5)),
        ("optimizer", "adam,adamw", ("adam", "adamw")),
        ("bidirectional", "yes,no", (True, False)),
        ("units", "32", (32,)),
    ],
)
def test_a_range_is_read(task, name, text, range_):
    assert space_of(task, **{name: text}) == {name: range_}


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("units", "32:16", "cannot be read: give units=LOW:HIGH"),
        ("units", "32:32", "cannot be read"),
        ("units", "1:inf", "cannot be read"),
        ("units", "nan:5", "cannot be read"),
        ("units", "4:8:0", "cannot be read"),
        ("units", "4:8:-1", "cannot be read"),
        ("units", "4:8:16", "cannot be read"),
        ("units", "4:8:0.5", "cannot be read"),
        ("units", "a:b", "cannot be read"),
        ("units", "4:8:2:1", "cannot be read"),
        ("learning_rate", "0:1:log", "cannot be read"),
        ("units", ",", "has no values"),
        ("units", "4.5:8", "'units' must be a whole number, not '4.5'"),
        ("units", "8,x", "'units' must be a whole number, not 'x'"),
        ("learning_rate", "0:0.1", "'learning_rate' must not be 0"),
        ("epochs", "0:5", "'epochs' must be at least 1"),
        ("optimizer", "adam,sgd", "must be one of adam, adamw, not 'sgd'"),
        ("bidirectional", "maybe", "must be true or false"),
        ("bidirectional", "0:1", "are no numbers, so list them"),
        ("cell", "a:b", "are no numbers, so list them"),
        ("unit", "1:2", "has no setting 'unit'. Its settings are units, length"),
    ],
)
def test_a_wrong_range_is_told(task, name, text, message):
    with pytest.raises(SettingError, match=message.replace(".", r"\.")):
        space_of(task, **{name: text})


def test_without_ranges_the_tasks_own_are_taken_without_what_is_fixed(task):
    assert space_of(task) == task.space
    assert space_of(task, {"units": "8"}) == {"length": LENGTH}
    with pytest.raises(SettingError, match="nothing is left to search"):
        space_of(task, {"units": 8, "length": 10})


def test_a_setting_is_not_both_fixed_and_searched(task):
    with pytest.raises(SettingError, match="'units' is both set and searched"):
        space_of(task, {"units": 8}, units="4:8")


def test_ends_are_checked_together_with_what_is_fixed(task):
    with pytest.raises(SettingError, match="set optimizer=adamw as well"):
        space_of(task, weight_decay="0.001:0.01")
    assert space_of(task, {"optimizer": "adamw"}, weight_decay="0.001:0.01")


def test_the_ranges_that_tasks_share_are_those_that_were_asked_for():
    assert (UNITS.low, UNITS.high, LENGTH.low, LENGTH.high) == (32, 256, 100, 500)
    assert (DROPOUT.low, DROPOUT.high) == (0.1, 0.5)
    assert LEARNING_RATE.log


def test_distributions_are_whole_numbers_where_the_setting_is_one_and_end_inside_the_range(task):
    space = space_of(task, units="4:9:2", dropout="0.1:0.5:0.15", learning_rate="0.001:0.1:log", cell="a,b")
    assert make_distributions(space, task.setup().settings) == {
        "units": IntDistribution(4, 8, step=2),
        "dropout": FloatDistribution(0.1, 0.4, step=0.15),
        "learning_rate": FloatDistribution(0.001, 0.1, log=True),
        "cell": CategoricalDistribution(("a", "b")),
    }


def test_a_grid_has_the_steps_of_a_range_or_three_points_of_it(task):
    space = space_of(
        task, units="4:9:2", dropout="0.1:0.5:0.15", length="10:20", learning_rate="0.0001:0.01:log", cell="a,b"
    )
    assert make_grid(space, task.setup().settings) == {
        "units": [4, 6, 8],
        "dropout": [0.1, 0.25, 0.4],
        "length": [10, 15, 20],
        "learning_rate": [0.0001, 0.001, 0.01],
        "cell": ["a", "b"],
    }


def test_a_grid_of_few_whole_numbers_names_none_twice(task):
    assert make_grid(space_of(task, units="1:2"), task.setup().settings) == {"units": [1, 2]}


def test_an_endless_grid_is_refused_at_once(task):
    with pytest.raises(SettingError, match="has 999,999,999 combinations, more than 100,000"):
        check_grid(space_of(task, units="1:999999999:1"))


@pytest.mark.parametrize(
    "ranges, count",
    [
        ({"units": "32:256:32", "cell": "a,b"}, 16),
        ({"units": "4:9:2", "dropout": "0.1:0.5:0.1"}, 15),
        ({"units": "1:1000:log"}, 1000),
        ({"units": "4:8", "learning_rate": "0.1:0.2"}, None),
    ],
)
def test_combinations_are_counted(task, ranges, count):
    distributions = make_distributions(space_of(task, **ranges), task.setup().settings)
    assert count_combinations(distributions) == count
    if count is not None:
        assert math.prod(len(values_of(each)) for each in distributions.values()) == count


@pytest.mark.parametrize(
    "value, distribution, tidied",
    [
        (0.0031415926, FloatDistribution(1e-4, 1e-2, log=True), 0.003142),
        (0.30000000000000004, FloatDistribution(0.1, 0.5, step=0.1), 0.3),
        (0.99996, FloatDistribution(0.1, 0.99993), 0.99993),
        (0.0010004242424, FloatDistribution(0.001, 0.001001, log=True), 0.001000424),
        (7, IntDistribution(1, 9), 7),
        (0.123456789, CategoricalDistribution((0.123456789, 1)), 0.123456789),
    ],
)
def test_numbers_are_rounded_to_what_a_person_would_type(value, distribution, tidied):
    assert tidy(value, distribution) == tidied
