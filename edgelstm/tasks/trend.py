"""Trend: will the price be higher some steps from now?

Offline data: a price of 20,000 days whose drift depends on a hidden state of the market
(`edgelstm.tasks.series.market`). The model sees how the logarithm of the price changed over 30 days and says how
probably it is higher 5 days later.

Chance plays the larger part, here as in real prices, and real ones are harder still: a real market keeps no such fixed
states, and a model that is right in 55 % of cases is rare. Nothing here is advice to trade.

A good score is 69 %: with the default settings the seeds 0, 1 and 2 reached an accuracy of 68.3 %, 70.9 % and 68.7 %
(int8: 68.5 %, 70.9 % and 68.8 %), after some 25 s of processor time. The best possible answers reach 68.7 %, 71.1 % and
69.7 %, the more frequent direction 59.1 %, 56.9 % and 55.9 %, momentum 60.9 %, 62.7 % and 57.4 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from edgelstm.errors import DataError
from edgelstm.tasks.base import OFFLINE, Array, Data, Setup, Split, Task, Variant
from edgelstm.tasks.objectives import BinaryClassification
from edgelstm.tasks.series.market import Market, write_market
from edgelstm.tasks.series.models import probability_model
from edgelstm.tasks.series.reading import Series, read_series
from edgelstm.tasks.series.windows import (
    INPUT,
    LOG_CHANGE,
    SCALER,
    SETTINGS,
    VALUE,
    Scaler,
    as_extra,
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

LABELS = ("down", "up")
_USUAL = ("price", "close", "adj close", "adj_close", "value")


class TrendTask(Task):
    """Direction of a price."""

    name = "trend"
    title = "up or down: the direction of a price"
    objective = BinaryClassification()
    variants: ClassVar[dict[str, Variant]] = {
        "lstm": Variant("LSTM 32 with dropout 0.2"),
        "stacked": Variant("two LSTMs 32 with dropout 0.2"),
        "cnn": Variant("convolution over time and pooling, LSTM 32 with dropout 0.2"),
    }
    sources: ClassVar[dict[str, str]] = {OFFLINE: "a price in a market of two hidden states, written from a seed"}
    reads = "a CSV file with one row for each time, a column of dates and a column of prices"
    defaults: ClassVar[dict[str, Setting]] = {
        "look_back": 30,
        "horizon": 5,
        "price": "",
        "num_rows": 20_000,
        "units": 32,
        "dropout": 0.2,
        "filters": 32,
        "kernel_size": 5,
        **SETTINGS,
    }
    training: ClassVar[dict[str, Setting]] = {"epochs": 15, "batch_size": 256, "patience": 4, "learning_rate": 0.003}
    space: ClassVar[dict[str, Range]] = {
        "units": UNITS,
        "learning_rate": LEARNING_RATE,
        "look_back": Range(10, 60, step=10),
    }

    def load(self, setup: Setup) -> Data:
        """Writes or reads a series, and cuts and scales windows.

        Settings: look_back (rows in a window), horizon (rows after it at which the price is looked at), price (its
        column; "price" or "close" or the first column of numbers if empty), num_rows (of the offline series), those of
        `windows.SETTINGS`.

        Returns:
            Input "window": float32, shape (n, look_back, columns), scaled, first the change of the price's logarithm
            from row to row, then the other columns; y: int32, shape (n,), 1 if the price is higher. In `extra`: what
            `windows.as_extra` says, "momentum" (how the price's logarithm changed over each test window) and "chance"
            (the true probability of a rise for each test window, offline data only, else None).

        Raises:
            DataError: If a table cannot be read or is too short, or a price is not above 0.
            SettingError: If a setting is out of its range.
        """
        market: Market | None = None
        if setup.source.path is None:
            market = write_market(setup.positive("num_rows"), setup.seed)
            series = market.series
        else:
            series = read_series(setup.source.path, date_column=setup.str("date_column"), max_gap=setup.int("max_gap"))
        price, notes = choose_column(series, setup, "price", _USUAL)
        logs = _logs(series, price, setup)
        # The first row has no change, so no window may reach it.
        look_back, horizon = setup.int("look_back"), setup.int("horizon")
        ends = window_ends(series, setup, is_usable=np.arange(len(series)) >= look_back)
        scaler, values = _scaled(series, setup, price, logs)
        splits, ties = [], 0
        for some in ends.values():
            rises = logs[some + horizon] - logs[some]
            ties += int((rises == 0).sum())
            splits.append(Split({INPUT: windows_at(values, some, look_back)}, (rises > 0).astype(np.int32)))
        if ties:
            notes += (f"The price was the same after {horizon} steps in {ties} windows, which count as 'down'.",)
        train, validation, test = splits
        last = ends["test"]
        return Data(
            train,
            validation,
            test,
            labels=LABELS,
            files={SCALER: scaler},
            notes=(*series.notes, *notes),
            extra=as_extra(
                series,
                scaler,
                ends,
                momentum=logs[last] - logs[last - look_back],
                chance=market.chance(horizon)[last] if market else None,
            ),
        )

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model: window, float32, shape (batch, look_back, columns) -> up, shape (batch, 1)."""
        return probability_model(setup, data, self.name, "up")

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Adds noise to windows and hides their first steps, as the settings jitter and crop ask for."""
        return vary(examples, generator, setup)

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores simple answers on the test split.

        "majority": what is more frequent in the training split. "momentum": as over the window. Offline also "best
        possible": the more probable direction given all changes so far and how the series is made.
        """
        usual = float(data.train.y.mean() > 0.5)
        answers: dict[str, Array] = {
            "majority": np.full(len(data.test), usual),
            "momentum": (data.extra["momentum"] > 0).astype(np.float64),
        }
        if data.extra["chance"] is not None:
            answers["best possible"] = data.extra["chance"]
        return {name: self.objective.score(some[:, np.newaxis], data.test.y) for name, some in answers.items()}


def _logs(series: Series, price: str, setup: Setup) -> npt.NDArray[np.float64]:
    prices = series.column(price)
    if (prices <= 0).any():
        row = int(np.flatnonzero(prices <= 0)[0])
        raise DataError(
            f"{setup.source} has {prices[row]:g} in column {price!r} of row {row + 1}, counted by time: a price "
            "must be above 0. Choose the column with the setting price."
        )
    logs: npt.NDArray[np.float64] = np.log(prices)
    return logs


def _scaled(
    series: Series, setup: Setup, price: str, logs: npt.NDArray[np.float64]
) -> tuple[Scaler, npt.NDArray[np.float32]]:
    """Fits the scaler to the training part and scales all rows; that of the first change is never used."""
    rows = split_rows(len(series))["train"]
    changes = np.diff(logs, prepend=logs[:1])
    others = [name for name in series.names if name != price]
    columns = [fit_column(price, LOG_CHANGE, changes[rows][1:])]
    columns += [fit_column(name, VALUE, series.column(name)[rows]) for name in others]
    scaler = Scaler(tuple(columns), setup.int("look_back"), setup.int("horizon"), step_s=series.step_s)
    return scaler, scaler.scale(np.stack([changes, *(series.column(name) for name in others)], axis=1))
