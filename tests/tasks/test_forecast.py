from __future__ import annotations

import numpy as np
import pytest

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.forecast import linear_forecast
from edgelstm.tasks.series.demand import NOISE_KW, NOISE_MEMORY, write_demand
from edgelstm.tasks.series.windows import INPUT, SCALER

SMALL = {"num_rows": 1000, "look_back": 24}


@pytest.fixture(scope="module")
def task():
    return load_task("forecast")


def data_of(task, seed=0, variant=None, source=None, **settings):
    return task.data(task.setup(variant, source, seed, {**SMALL, **settings}))


@pytest.fixture(scope="module")
def data(task):
    return data_of(task, horizon=3)


def test_the_same_seed_writes_the_same_series_and_another_one_another():
    first, again, other = (write_demand(500, seed).series.values for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1


def test_the_noise_of_the_series_is_what_its_description_says():
    demand = write_demand(20_000, 0)
    noise = demand.series.column("demand") - demand.signal
    new = noise[1:] - NOISE_MEMORY * noise[:-1]
    assert new.std() == pytest.approx(NOISE_KW, rel=0.03)
    assert abs(np.corrcoef(new[1:], new[:-1])[0, 1]) < 0.03


def test_nobody_forecasts_better_than_with_all_but_the_noise_known():
    demand = write_demand(20_000, 1)
    ends = np.arange(100, 19_000)
    errors = demand.series.column("demand")[ends[:, np.newaxis] + [1, 2]] - demand.expectation(ends, 2)
    np.testing.assert_allclose(errors.std(axis=0), NOISE_KW * np.sqrt([1, 1 + NOISE_MEMORY**2]), rtol=0.03)


def test_windows_hold_the_numbers_before_those_to_be_forecast(data):
    values, scaler = data.extra["series"].values, data.extra["scaler"]
    for part, split in data.splits.items():
        for index in (0, len(split) // 2, len(split) - 1):
            end = data.extra["ends"][part][index]
            window = split.x[INPUT][index, :, :2] * [column.scale for column in scaler.columns[:2]]
            window += [column.mean for column in scaler.columns[:2]]
            np.testing.assert_allclose(window, values[end - 23 : end + 1], atol=1e-4)
            np.testing.assert_allclose(scaler.unscale(split.y[index]), values[end + 1 : end + 4, 0], atol=1e-4)


def test_shapes_and_columns(data):
    assert [column.name for column in data.extra["scaler"].columns] == [
        "demand",
        "temperature",
        *("sin_day", "cos_day", "sin_week", "cos_week"),
    ]
    assert data.train.x[INPUT].shape == (674, 24, 6)
    assert data.train.y.shape == (674, 3)
    assert (data.train.x[INPUT].dtype, data.train.y.dtype) == (np.float32, np.float32)
    assert data.files[SCALER] is data.extra["scaler"]


def test_the_scaler_has_seen_the_training_part_alone(data):
    for index, column in enumerate(data.extra["scaler"].columns[:2]):
        part = data.extra["series"].values[:700, index]
        assert (column.mean, column.scale) == (pytest.approx(part.mean()), pytest.approx(part.std()))


def test_the_calendar_can_be_left_out(task):
    assert data_of(task, calendar=False).train.x[INPUT].shape[2] == 2


def test_scores_are_in_the_units_of_the_target(task, data):
    offset = 2 / data.extra["scaler"].columns[0].scale
    figures = task.evaluate(lambda x: data.test.y + np.float32(offset), data)
    assert figures == {"mae": pytest.approx(2, abs=1e-4), "rmse": pytest.approx(2, abs=1e-4)}


def test_simple_forecasts_use_what_was_known(task, tmp_path):
    # A period of 4, and a rise of 1 from one to the next.
    numbers = [[0, 10, 20, 10][row % 4] + row // 4 for row in range(200)]
    path = tmp_path / "own.csv"
    path.write_text("load\n" + "".join(f"{number}\n" for number in numbers), encoding="utf-8")
    data = data_of(task, source=path, look_back=4, horizon=6, season=4)
    figures = task.baselines(data)
    # One season ago is 1 too low for the next 4 steps; the last two steps are as two seasons ago, 2 too low.
    assert figures["a season ago"]["mae"] == pytest.approx((4 * 1 + 2 * 2) / 6, abs=1e-5)
    assert figures["linear"]["mae"] < 0.3
    # Steps from a row to the next 6: differences of the period and the rise.
    test = np.array(numbers)
    ends = data.extra["ends"]["test"]
    errors = np.abs(test[ends[:, np.newaxis] + np.arange(1, 7)] - test[ends][:, np.newaxis])
    assert figures["last value"]["mae"] == pytest.approx(errors.mean(), abs=1e-5)
    assert "all but the noise known" not in figures


def test_the_offline_season_is_a_day_and_seasons_follow_the_dates(task, tmp_path):
    assert data_of(task).extra["season"] == 24
    path = tmp_path / "own.csv"
    # Every day, and every working day: 2024-01-01 was a Monday.
    for names, season in ((range(7), 7), (range(5), 5)):
        days = [np.datetime64("2024-01-01") + day for day in range(300) if day % 7 in names]
        path.write_text("date,a\n" + "".join(f"{day},{row}\n" for row, day in enumerate(days)), encoding="utf-8")
        assert data_of(task, source=path, look_back=4).extra["season"] == season


def test_the_linear_forecast_is_that_of_least_squares(task):
    data = data_of(task, look_back=3, calendar=False)
    forecasts = linear_forecast(data, penalty=0)

    def features(split):
        return np.concatenate([split.x[INPUT].reshape(len(split), -1), np.ones((len(split), 1))], axis=1)

    coefficients, *_ = np.linalg.lstsq(features(data.train).astype(float), data.train.y.astype(float), rcond=None)
    np.testing.assert_allclose(forecasts, features(data.test) @ coefficients, atol=1e-9)


def test_a_target_in_another_column_is_forecast_and_scaled_back(task, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("a,b\n" + "".join(f"{row},{1000 + 3 * (row % 5)}\n" for row in range(100)), encoding="utf-8")
    data = data_of(task, source=path, look_back=4, target="b")
    numbers = data.extra["scaler"].unscale(data.test.y)[:, 0]
    np.testing.assert_allclose(numbers, data.extra["series"].column("b")[data.extra["ends"]["test"] + 1], atol=1e-3)


def test_a_test_part_beyond_what_training_saw_is_said(task, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("a\n" + "".join(f"{row}\n" for row in range(100)), encoding="utf-8")
    data = data_of(task, source=path, look_back=4)
    assert "100 % of the test rows of 'a' lie outside the range of the training part" in data.notes[-1]


def test_too_few_rows_are_refused(task):
    with pytest.raises(DataError, match="offline: the train part, 70 of 100 rows, has fewer than 2 windows"):
        data_of(task, num_rows=100, look_back=70)


@pytest.mark.parametrize("name, value", [("num_rows", 0), ("season", -1), ("horizon", 0)])
def test_settings_out_of_range_are_refused(task, name, value):
    with pytest.raises(SettingError, match=f"'{name}' must"):
        data_of(task, **{name: value})


def count_lstm(inputs, units):
    return 4 * units * (inputs + units + 1)


@pytest.mark.parametrize(
    "variant, parameters",
    [
        ("lstm", count_lstm(6, 8) + 3 * 9),
        ("stacked", count_lstm(6, 8) + count_lstm(8, 8) + 3 * 9),
        ("cnn", 4 * (3 * 6 + 1) + count_lstm(4, 8) + 3 * 9),
        ("encoder_decoder", count_lstm(6, 8) + count_lstm(8, 8) + 9),
    ],
)
def test_each_variant_answers_the_next_steps(task, data, variant, parameters):
    setup = task.setup(variant, settings={**SMALL, "horizon": 3, "units": 8, "filters": 4})
    model = task.build(setup, data)
    assert model.count_params() == parameters
    assert (model.name, model.inputs[0].name) == ("forecast", INPUT)
    assert model.layers[-1].name == "forecast"
    assert model.input_shape == (None, 24, 6)
    assert model.output_shape == (None, 3)


def test_by_default_an_lstm_of_50_units_forecasts_one_step(task):
    setup = task.setup()
    model = task.build(setup, task.data(setup))
    assert [type(layer).__name__ for layer in model.layers] == ["InputLayer", "LSTM", "Dense"]
    assert (model.layers[1].units, model.output_shape) == (50, (None, 1))


def test_the_encoder_and_decoder_forecast_a_day_by_default(task):
    assert task.setup("encoder_decoder").int("horizon") == 24
    assert task.setup("encoder_decoder", settings={"horizon": 5}).int("horizon") == 5


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_picture_is_drawn(task, tmp_path, horizon):
    data = data_of(task, horizon=horizon)
    (path,) = task.illustrate(lambda x: data.test.y, data, task.setup(), tmp_path)
    assert path.name == "forecast.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]
