"""Sliding windows over time series: cut, scaled, varied, without a look into the future.

The rows are split by time: the first 70 % are the training part, then 15 % validation, then 15 % test. A window and
the rows after it that it is asked about lie within one part, so no part sees rows of another. What is fitted (means,
scales) is fitted to the rows of the training part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.errors import DataError, LoadError, SettingError
from edgelstm.tasks.base import Array, Setup, Split
from edgelstm.tasks.series.reading import Series
from edgelstm.tasks.settings import Setting
from edgelstm.training.folders import write_json

INPUT = "window"
"""Name of the models' input."""

SCALER = "scaler.json"
TEST_SHARE = 0.15
VALIDATION_SHARE = 0.15

SETTINGS: dict[str, Setting] = {"date_column": "", "max_gap": 3, "skip_gaps": False, "jitter": 0.0, "crop": 0.0}
"""Settings of every task with windows.

date_column: Name of the column of dates in a table of the user's; found if empty.
max_gap: How many missing numbers in a row are filled with the last one before them.
skip_gaps: Leave out windows across times that are missing.
jitter: Standard deviation of the noise on training windows, in units of scaled columns; 0 for none.
crop: Largest share of a training window, from its first step on, that is hidden: it takes the value of the first step
    that is left. 0 for none.
"""

VALUE, CALENDAR, LOG_CHANGE = "value", "calendar", "log_change"
"""What a column of a window is made from: the number itself; the date; log(number / number of the row before)."""

_DAY_S, _WEEK_S = 86400, 7 * 86400
# 1970-01-01 was a Thursday.
_MONDAY_S = 4 * _DAY_S


@dataclass(frozen=True)
class Column:
    """One column of the windows. Scaled, it is (number - mean) / scale.

    Attributes:
        name: Its name in the table, or "sin_day", "cos_day", "sin_week", "cos_week".
        source: `VALUE`, `CALENDAR` or `LOG_CHANGE`.
        mean, scale: Of the training part; 0 and 1 where nothing is scaled.
    """

    name: str
    source: str = VALUE
    mean: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Scaler:
    """What an app needs to make a window and to read the answer; scaler.json.

    Attributes:
        columns: Of the window, in their order.
        look_back: Rows in a window.
        horizon: Rows after it that the answer is about.
        target: Name of the column that is forecast; empty where the answer is a probability.
        step_s: Seconds from row to row; 0 if nothing is known of time.
    """

    columns: tuple[Column, ...]
    look_back: int
    horizon: int
    target: str = ""
    step_s: float = 0.0

    def scale(self, values: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Scales columns.

        Args:
            values: Numbers, shape (..., columns).
        """
        mean, scale = (np.array([getattr(column, name) for column in self.columns]) for name in ("mean", "scale"))
        scaled: npt.NDArray[np.float32] = ((np.asarray(values, np.float64) - mean) / scale).astype(np.float32)
        return scaled

    def unscale(self, answers: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Turns scaled numbers of the target, of any shape, into its units.

        Raises:
            ValueError: If there is no target.
        """
        found = [column for column in self.columns if column.name == self.target]
        if not found:
            raise ValueError(f"There is no column {self.target!r} to turn answers into: the answer is no such number.")
        numbers: npt.NDArray[np.float64] = np.asarray(answers, np.float64) * found[0].scale + found[0].mean
        return numbers

    def save(self, path: Path) -> None:
        """Writes it as JSON, complete or not at all.

        Raises:
            OutputError: If it cannot be written.
        """
        document = {name: value for name, value in vars(self).items() if name != "columns"}
        write_json(path, {**document, "columns": [vars(column) for column in self.columns]})

    @classmethod
    def load(cls, path: str | Path) -> Scaler:
        """Reads what `save` wrote.

        Raises:
            LoadError: If it cannot be read or is something else.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            columns = tuple(
                Column(str(each["name"]), str(each["source"]), float(each["mean"]), float(each["scale"]))
                for each in document["columns"]
            )
            look_back, horizon = int(document["look_back"]), int(document["horizon"])
            return cls(columns, look_back, horizon, str(document["target"]), float(document["step_s"]))
        except OSError as error:
            raise LoadError(f"Cannot read the scaler {path}: {error.strerror or error}.") from error
        except (KeyError, TypeError, ValueError) as error:
            raise LoadError(f"{path} is no scaler: {type(error).__name__} {error}.") from error


def fit_column(name: str, source: str, values: Array) -> Column:
    """Measures a column.

    Args:
        name: Its name.
        source: `VALUE` or `LOG_CHANGE`.
        values: Its numbers in the training part, shape (n,); a scale of 1 is taken where they are all the same.
    """
    mean, spread = float(np.mean(values)), float(np.std(values))
    return Column(name, source, mean, spread if spread > 1e-12 * max(1.0, abs(mean)) else 1.0)


def calendar(series: Series) -> dict[str, npt.NDArray[np.float64]]:
    """Tells the time of day and of the week as points on a circle.

    Returns:
        sin and cos of 2 pi times the share of the day that has passed, and of the week since Monday 0:00: the day if
        rows are less than a day apart, the week if less than a week, nothing without dates.
    """
    if series.seconds is None or not series.is_calendar:
        return {}
    columns = {}
    for name, period_s, start_s in (("day", _DAY_S, 0), ("week", _WEEK_S, _MONDAY_S)):
        if 0 < series.step_s < period_s:
            angle = 2 * np.pi * ((series.seconds - start_s) % period_s) / period_s
            columns[f"sin_{name}"], columns[f"cos_{name}"] = np.sin(angle), np.cos(angle)
    return columns


def split_rows(num_rows: int) -> dict[str, slice]:
    """Splits rows by time into the parts "train", "validation" and "test"."""
    test = round(num_rows * (1 - TEST_SHARE))
    validation = round(num_rows * (1 - TEST_SHARE - VALIDATION_SHARE))
    return {"train": slice(0, validation), "validation": slice(validation, test), "test": slice(test, num_rows)}


def window_ends(series: Series, setup: Setup, is_usable: npt.NDArray[np.bool_] | None = None) -> dict[str, Array]:
    """Finds the windows of each part.

    Args:
        series: The rows.
        setup: Used are look_back, horizon and skip_gaps.
        is_usable: Whether a window may end with a row, shape (rows,).

    Returns:
        Numbers of the last rows of the windows, by part: window and horizon lie within the part.

    Raises:
        SettingError: If look_back or horizon is less than 1.
        DataError: If a part is too short.
    """
    look_back, horizon = setup.positive("look_back"), setup.positive("horizon")
    gaps = np.cumsum(series.follows_gap)
    ends = {}
    for part, rows in split_rows(len(series)).items():
        last = np.arange(rows.start + look_back - 1, rows.stop - horizon)
        has_room = len(last) >= 2
        if setup.on("skip_gaps"):
            last = last[gaps[last + horizon] == gaps[last - look_back + 1]]
        if is_usable is not None:
            last = last[is_usable[last]]
        if len(last) < 2:
            why = "" if has_room else f", and a window needs {look_back + horizon}"
            raise DataError(
                f"{setup.source}: the {part} part, {max(0, rows.stop - rows.start)} of {len(series)} rows, has fewer "
                f"than 2 windows that can be used{why}: bring more rows, or set look_back and horizon lower"
                f"{', or skip_gaps=false' if setup.on('skip_gaps') else ''}."
            )
        ends[part] = last
    return ends


def windows_at(values: Array, ends: Array, look_back: int) -> Array:
    """Cuts windows.

    Args:
        values: Scaled columns, shape (rows, columns).
        ends: Number of the last row of each window, shape (n,).
        look_back: Rows in a window.

    Returns:
        Shape (n, look_back, columns); not copied, and not to be written to, where the windows follow one another.
    """
    views = np.lib.stride_tricks.sliding_window_view(values, look_back, axis=0).transpose(0, 2, 1)
    first = ends - look_back + 1
    follow = first[-1] - first[0] + 1 == len(first)
    return views[first[0] : first[-1] + 1] if follow else views[first]


def vary(examples: Split, generator: np.random.Generator, setup: Setup, *, shift: int = 0) -> Split:
    """Varies training windows as the settings jitter and crop ask for.

    Args:
        examples: A batch, windows of shape (n, look_back, columns).
        generator: What is random.
        setup: Used are jitter and crop.
        shift: How many steps a window is moved back at most: its last steps are hidden, and it begins with repeats of
            its first one.

    Raises:
        SettingError: If jitter, crop or shift is out of its range.
    """
    x = examples.x[INPUT]
    num_windows, look_back, _ = x.shape
    jitter, crop = setup.float("jitter"), setup.float("crop")
    if jitter < 0 or not 0 <= crop < 1 or not 0 <= shift < look_back:
        raise SettingError(
            f"The settings jitter={jitter}, crop={crop}, shift={shift} are out of range: jitter is at least 0, crop at "
            f"least 0 and less than 1, shift at least 0 and less than look_back, {look_back}."
        )
    steps = np.broadcast_to(np.arange(look_back), (num_windows, look_back))
    if shift:
        steps = np.maximum(steps - generator.integers(0, shift + 1, (num_windows, 1)), 0)
    if crop:
        steps = np.maximum(steps, generator.integers(0, int(crop * look_back) + 1, (num_windows, 1)))
    if shift or crop:
        x = np.take_along_axis(x, steps[:, :, np.newaxis], axis=1)
    if jitter:
        x = x + generator.normal(0, jitter, x.shape).astype(np.float32)
    return Split({**examples.x, INPUT: x}, examples.y)


def choose_column(series: Series, setup: Setup, name: str, usual: Sequence[str] = ()) -> tuple[str, tuple[str, ...]]:
    """Finds a column of numbers that a setting names.

    Args:
        series: The rows.
        setup: Everything that was chosen.
        name: The setting; if its value is empty, a column of a usual name is taken, else the first one.
        usual: Usual names, in lower case, the best one first.

    Returns:
        Its name, and sentences that the user should know.

    Raises:
        DataError: If there is no such column.
    """
    wanted = setup.str(name)
    if wanted:
        if wanted not in series.names:
            raise DataError(
                f"{setup.source} has no column of numbers {wanted!r}. Its columns of numbers are "
                f"{', '.join(series.names)}."
            )
        return wanted, ()
    lower: Mapping[str, str] = {each.lower(): each for each in reversed(series.names)}
    found = next((lower[each] for each in usual if each in lower), series.names[0])
    if len(series.names) == 1 or setup.source.path is None:
        return found, ()
    return found, (f"Column {found!r} was taken as {name}: set {name} for another one.",)


def as_extra(series: Series, scaler: Scaler, ends: Mapping[str, Array], **more: Any) -> dict[str, Any]:
    """What every task with windows keeps beside them: "series", "scaler" and "ends" by part."""
    return {"series": series, "scaler": scaler, "ends": dict(ends), **more}
