"""Forecast: how will a quantity go on over the next steps?

Offline data: the hourly power demand of a building over 250 days (`edgelstm.tasks.series.demand`). The model sees 48
hours of demand, temperature and calendar and forecasts the next hour, or the next `horizon` hours at once. It learns
scaled numbers; scores are in the units of the target.

A good score is 3 kW: with the default settings the seeds 0, 1 and 2 reached a mean absolute error of 2.88, 3.05 and
2.69 kW (int8: 2.87, 3.06 and 2.68), after some 30 s of processor time. The last value comes to 5.49 to 6.43,
the value of a day before to 9.68 to 11.15, ridge regression on the same windows to 3.75 to 4.07; all but the noise
known would give 2.31 to 2.38. The encoder and decoder, 24 hours at once, reached 6.44 (int8: 6.43; seed 0), a day
before 9.61.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import SettingError
from edgelstm.tasks.base import OFFLINE, Array, Data, Predict, Setup, Split, Task, Variant
from edgelstm.tasks.objectives import Regression
from edgelstm.tasks.series.demand import Demand, write_demand
from edgelstm.tasks.series.models import read_window, window_input
from edgelstm.tasks.series.reading import Series, read_series
from edgelstm.tasks.series.windows import (
    CALENDAR,
    INPUT,
    SCALER,
    SETTINGS,
    VALUE,
    Column,
    Scaler,
    as_extra,
    calendar,
    choose_column,
    fit_column,
    split_rows,
    vary,
    window_ends,
    windows_at,
)
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import LEARNING_RATE, UNITS, Range

if TYPE_CHECKING:
    import keras

_HORIZON_OF_MANY_STEPS = 24
_DAY_S = 86400
_LARGEST_FIT = 10_000
_LEAST_OUTSIDE = 0.05


class ForecastTask(Task):
    """The next values of a series of numbers."""

    name = "forecast"
    title = "the next values of a time series"
    objective = Regression()
    variants: ClassVar[dict[str, Variant]] = {
        "lstm": Variant("LSTM 50"),
        "stacked": Variant("two LSTMs 50"),
        "cnn": Variant("convolution over time and pooling, LSTM 50"),
        "encoder_decoder": Variant(
            "an LSTM reads the window, another one writes the next 24 steps", {"horizon": _HORIZON_OF_MANY_STEPS}
        ),
    }
    sources: ClassVar[dict[str, str]] = {OFFLINE: "hourly power demand of a building, written from a seed"}
    reads = "a CSV file with one row for each time, a column of dates and columns of numbers"
    defaults: ClassVar[dict[str, Setting]] = {
        "look_back": 48,
        "horizon": 1,
        "target": "",
        "calendar": True,
        "season": 0,
        "num_rows": 6000,
        "units": 50,
        "dropout": 0.0,
        "filters": 32,
        "kernel_size": 3,
        **SETTINGS,
    }
    training: ClassVar[dict[str, Setting]] = {"epochs": 30, "patience": 6, "learning_rate": 0.003}
    space: ClassVar[dict[str, Range]] = {
        "units": UNITS,
        "learning_rate": LEARNING_RATE,
        "look_back": Range(24, 96, step=24),
    }

    def load(self, setup: Setup) -> Data:
        """Writes or reads a series, and cuts and scales windows.

        Settings: look_back (rows in a window), horizon (rows to forecast), target (the column to forecast; the first
        column of numbers if empty), calendar (whether windows hold the time of day and of the week), season (rows
        after which the series repeats itself, for the baseline; if 0 those of a day, or of a week where rows are
        daily), num_rows (of the offline series), those of `windows.SETTINGS`.

        Returns:
            Input "window": float32, shape (n, look_back, columns), scaled; y: the target in the next rows, float32,
            shape (n, horizon), scaled. In `extra`: what `windows.as_extra` says, "season" and "expectation" (the best
            possible forecasts of the offline test split, else None).

        Raises:
            DataError: If a table cannot be read or is too short.
            SettingError: If a setting is out of its range.
        """
        written: Demand | None = None
        if setup.source.path is None:
            written = write_demand(setup.positive("num_rows"), setup.seed)
            series = written.series
        else:
            series = read_series(setup.source.path, date_column=setup.str("date_column"), max_gap=setup.int("max_gap"))
        target, notes = choose_column(series, setup, "target")
        ends = window_ends(series, setup)
        scaler, values = _scaled(series, setup, target)
        train, validation, test = (_split(values, scaler, part) for part in ends.values())
        expectation = written.expectation(ends["test"], scaler.horizon) if written else None
        return Data(
            train,
            validation,
            test,
            files={SCALER: scaler},
            notes=(*series.notes, *notes, *_note_on_range(series, target)),
            extra=as_extra(series, scaler, ends, season=_season(series, setup), expectation=expectation),
        )

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model: window, float32, shape (batch, look_back, columns) -> forecast, shape (batch, horizon)."""
        keras = import_keras()
        layers, horizon = keras.layers, data.train.y.shape[1]
        window = window_input(data)
        x = read_window(window, setup)
        if setup.variant == "encoder_decoder":
            x = layers.RepeatVector(horizon, name="repeat")(x)
            x = layers.LSTM(setup.int("units"), return_sequences=True, name="decoder")(x)
            x = layers.TimeDistributed(layers.Dense(1), name="step")(x)
            forecast = layers.Reshape((horizon,), dtype="float32", name="forecast")(x)
        else:
            forecast = layers.Dense(horizon, dtype="float32", name="forecast")(x)
        return keras.Model(window, forecast, name=self.name)

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Adds noise to windows and hides their first steps, as the settings jitter and crop ask for."""
        return vary(examples, generator, setup)

    def score(self, answers: Array, y: Array, data: Data) -> dict[str, float]:
        """Scores forecasts in the units of the target: mean absolute error and its square's root."""
        scaler = data.extra["scaler"]
        return self.objective.score(scaler.unscale(answers), scaler.unscale(y))

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores simple forecasts of the test split, in the units of the target.

        "last value": it stays as it is. "a season ago": as one season before, or as many as it takes to be known.
        "linear": ridge regression on the same windows. Offline also "all but the noise known": as one forecasts who
        knows everything about the series, who will be at home tomorrow included, but the noise to come.
        """
        scaler, ends, season = data.extra["scaler"], data.extra["ends"]["test"], data.extra["season"]
        numbers = data.extra["series"].column(scaler.target)
        steps = np.arange(1, scaler.horizon + 1)
        last = np.repeat(numbers[ends][:, np.newaxis], scaler.horizon, axis=1)
        ago = ends[:, np.newaxis] + steps - season * (-(-steps // season))
        figures = {
            "last value": self._score(last, data),
            "a season ago": self._score(numbers[ago], data),
            "linear": self._score(scaler.unscale(linear_forecast(data)), data),
        }
        if data.extra["expectation"] is not None:
            figures["all but the noise known"] = self._score(data.extra["expectation"], data)
        return figures

    def illustrate(self, predict: Predict, data: Data, setup: Setup, folder: Path) -> list[Path]:
        """Draws forecasts against the truth over the beginning of the test split."""
        from edgelstm.pictures.forecast import draw_forecast

        del setup
        scaler = data.extra["scaler"]
        path = folder / "forecast.png"
        draw_forecast(
            scaler.unscale(data.test.y), scaler.unscale(predict(data.test.x)), scaler.target, path, data.extra["season"]
        )
        return [path]

    def _score(self, forecasts: Array, data: Data) -> dict[str, float]:
        return self.objective.score(forecasts, data.extra["scaler"].unscale(data.test.y))


def linear_forecast(data: Data, penalty: float = 1e-3) -> npt.NDArray[np.float64]:
    """Forecasts the test split by ridge regression on the training windows.

    Args:
        data: The task's data.
        penalty: Of the squares of the coefficients, for each example.

    Returns:
        Scaled forecasts, shape (n, horizon).
    """
    chosen = np.unique(np.linspace(0, len(data.train) - 1, _LARGEST_FIT).astype(int))
    train = data.train.take(chosen)

    def features(x: Array) -> npt.NDArray[Any]:
        flat = x.reshape(len(x), -1).astype(np.float64)
        return np.concatenate([flat, np.ones((len(x), 1))], axis=1)

    inputs = features(train.x[INPUT])
    square = inputs.T @ inputs + penalty * len(inputs) * np.eye(inputs.shape[1])
    coefficients = np.linalg.solve(square, inputs.T @ train.y.astype(np.float64))
    starts = range(0, len(data.test), _LARGEST_FIT)
    return np.concatenate(
        [features(data.test.x[INPUT][start : start + _LARGEST_FIT]) @ coefficients for start in starts]
    )


def _scaled(series: Series, setup: Setup, target: str) -> tuple[Scaler, npt.NDArray[np.float32]]:
    """Fits the scaler to the training part and scales all rows."""
    train = split_rows(len(series))["train"]
    columns = [fit_column(name, VALUE, series.column(name)[train]) for name in series.names]
    values = [series.values]
    if setup.on("calendar"):
        dates = calendar(series)
        columns += [Column(name, CALENDAR) for name in dates]
        values += [numbers[:, np.newaxis] for numbers in dates.values()]
    scaler = Scaler(tuple(columns), setup.int("look_back"), setup.int("horizon"), target, series.step_s)
    return scaler, scaler.scale(np.concatenate(values, axis=1))


def _split(values: npt.NDArray[np.float32], scaler: Scaler, ends: Array) -> Split:
    target = [column.name for column in scaler.columns].index(scaler.target)
    later = ends[:, np.newaxis] + np.arange(1, scaler.horizon + 1)
    return Split({INPUT: windows_at(values, ends, scaler.look_back)}, values[later, target])


def _season(series: Series, setup: Setup) -> int:
    """Rows in a season, at most as many as lie before the first test window's end."""
    season = setup.int("season")
    if season < 0:
        raise SettingError(f"The setting 'season' must not be negative, and {season} is.")
    step_s = series.step_s if series.is_calendar else 0
    if not season and step_s:
        season = round(_DAY_S / step_s) if step_s < _DAY_S else _rows_in_a_week(series) if step_s == _DAY_S else 1
    return min(max(1, season), int(split_rows(len(series))["test"].start))


def _rows_in_a_week(series: Series) -> int:
    """7 for daily rows, 5 for those of working days."""
    seconds = series.seconds
    assert seconds is not None
    return round(7 * _DAY_S * (len(seconds) - 1) / float(seconds[-1] - seconds[0]))


def _note_on_range(series: Series, target: str) -> tuple[str, ...]:
    """Says when much of the test part lies where training has never been: models go on poorly there."""
    parts, numbers = split_rows(len(series)), series.column(target)
    low, high = numbers[parts["train"]].min(), numbers[parts["train"]].max()
    outside = float(np.mean((numbers[parts["test"]] < low) | (numbers[parts["test"]] > high)))
    if outside <= _LEAST_OUTSIDE:
        return ()
    return (
        f"{100 * outside:.0f} % of the test rows of {target!r} lie outside the range of the training part: a model "
        "does not know how to go on there; forecast changes instead, or train on more of the range.",
    )
