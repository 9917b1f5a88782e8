from __future__ import annotations

import numpy as np
import pytest

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.series.market import MEANS, SPREADS, STAYS, write_market
from edgelstm.tasks.series.windows import INPUT, LOG_CHANGE, SCALER, VALUE

SMALL = {"num_rows": 600, "look_back": 10, "horizon": 3}


@pytest.fixture(scope="module")
def task():
    return load_task("trend")


@pytest.fixture(scope="module")
def data(task):
    return task.data(task.setup(settings=SMALL))


def own_table(tmp_path, prices, extra=None):
    path = tmp_path / "own.csv"
    lines = [f"{price},{row % 3}" for row, price in enumerate(prices)]
    path.write_text("\n".join(["Close,volume", *lines]), encoding="utf-8")
    return path


def test_the_same_seed_writes_the_same_price_and_another_one_another():
    first, again, other = (write_market(200, seed).series.values for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_changes_are_those_of_the_logarithm_of_the_price():
    market = write_market(300, 0)
    np.testing.assert_allclose(np.diff(np.log(market.series.column("price"))), market.changes[1:], atol=1e-12)


def test_the_chance_of_a_rise_is_that_of_simulated_futures():
    """Both the filter and the sum over paths are checked by drawing states from scratch."""
    generator = np.random.default_rng(0)
    market = write_market(60, 3)
    horizon, row, count = 3, 12, 400_000
    states, weights = np.ones(count, int), np.ones(count)

    def step(states):
        return np.where(generator.random(count) < STAYS[states], states, 1 - states)

    for change in market.changes[1 : row + 1]:
        states = step(states)
        weights *= np.exp(-(((change - MEANS[states]) / SPREADS[states]) ** 2) / 2) / SPREADS[states]
    total = np.zeros(count)
    for _ in range(horizon):
        states = step(states)
        total += generator.normal(MEANS[states], SPREADS[states])
    share = (weights * (total > 0)).sum() / weights.sum()
    # The standard deviation of such a share is that of as many equal weights as weigh the same.
    deviation = 0.5 / np.sqrt(weights.sum() ** 2 / (weights**2).sum())
    assert deviation < 0.005
    assert market.chance(horizon)[row] == pytest.approx(share, abs=4 * deviation)


def test_the_chance_is_honest():
    market = write_market(40_000, 5)
    chance, logs = market.chance(1)[:-1], np.cumsum(market.changes)
    rises = np.diff(logs) > 0
    for low, high in ((0, 0.45), (0.45, 0.6), (0.6, 1)):
        some = (chance >= low) & (chance < high)
        assert some.sum() > 1000
        assert rises[some].mean() == pytest.approx(chance[some].mean(), abs=0.03)


def test_windows_hold_changes_and_answers_tell_the_price_later(data):
    prices = data.extra["series"].column("price")
    changes = np.diff(np.log(prices), prepend=0)
    (column,) = data.files[SCALER].columns
    assert (column.name, column.source) == ("price", LOG_CHANGE)
    assert column.mean == pytest.approx(changes[1:420].mean())
    for part, split in data.splits.items():
        ends = data.extra["ends"][part]
        np.testing.assert_array_equal(split.y, prices[ends + 3] > prices[ends])
        for index in (0, len(ends) - 1):
            window = split.x[INPUT][index, :, 0] * column.scale + column.mean
            np.testing.assert_allclose(window, changes[ends[index] - 9 : ends[index] + 1], atol=1e-7)


def test_the_first_row_has_no_change_and_is_in_no_window(data):
    assert data.extra["ends"]["train"][0] == 10


def test_simple_answers_are_scored(task, data):
    figures = task.baselines(data)
    usual = round(data.train.y.mean())
    assert figures["majority"]["accuracy"] == pytest.approx((data.test.y == usual).mean())
    prices, ends = data.extra["series"].column("price"), data.extra["ends"]["test"]
    momentum = prices[ends] > prices[ends - 10]
    assert figures["momentum"]["accuracy"] == pytest.approx((data.test.y == momentum).mean())
    assert "best possible" in figures


def test_the_best_possible_answer_is_better_than_simple_ones(task):
    figures = task.baselines(task.data(task.setup()))
    assert figures["best possible"]["accuracy"] > max(figures[name]["accuracy"] for name in ("majority", "momentum"))
    assert 0.6 < figures["best possible"]["accuracy"] < 0.75


def test_a_table_of_the_users_is_read_with_its_other_columns(task, tmp_path):
    prices = 100 + np.arange(200) % 7
    data = task.data(task.setup(source=own_table(tmp_path, prices), settings=SMALL))
    assert [(column.name, column.source) for column in data.files[SCALER].columns] == [
        ("Close", LOG_CHANGE),
        ("volume", VALUE),
    ]
    assert "Column 'Close' was taken as price: set price for another one." in data.notes
    assert "best possible" not in task.baselines(data)


def test_equal_prices_count_as_down_and_it_is_said(task, tmp_path):
    prices = [100 + row % 3 for row in range(200)]
    data = task.data(task.setup(source=own_table(tmp_path, prices), settings=SMALL))
    count = sum(len(split) for split in data.splits.values())
    assert data.notes[-1] == f"The price was the same after 3 steps in {count} windows, which count as 'down'."
    assert data.train.y.sum() == 0


def test_prices_that_are_not_above_0_are_refused(task, tmp_path):
    setup = task.setup(source=own_table(tmp_path, [5, 4, 0, *[3] * 100]), settings=SMALL)
    with pytest.raises(DataError, match="has 0 in column 'Close' of row 3, counted by time: a price must be above 0"):
        task.data(setup)


def test_no_rows_are_refused(task):
    with pytest.raises(SettingError, match="'num_rows' must be at least 1"):
        task.data(task.setup(settings={"num_rows": 0}))


@pytest.mark.parametrize("variant", ["lstm", "stacked", "cnn"])
def test_each_variant_answers_one_probability(task, data, variant):
    model = task.build(task.setup(variant, settings={**SMALL, "units": 4, "filters": 4}), data)
    assert (model.name, model.layers[-1].name, model.output_shape) == ("trend", "up", (None, 1))
    assert [type(layer).__name__ for layer in model.layers].count("LSTM") == (2 if variant == "stacked" else 1)
    assert model.input_shape == (None, 10, 1)
