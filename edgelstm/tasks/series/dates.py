"""Columns of dates in tables of the user's: which one it is, and in what form it is written."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.errors import DataError
from edgelstm.tasks.tables import import_pandas, require_columns

NAMES = ("date", "datetime", "date_time", "timestamp", "time", "day", "month", "ds", "datum", "zeit")
"""Names, in lower case, of columns that hold dates."""

ISO = "ISO8601"
_DAYS = ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d-%m-%Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
FORMS = (ISO, *(day + clock for day, clock in itertools.product(_DAYS, _CLOCKS)))
"""Forms that dates are read in: 2024-03-31T14:00+01:00 and its parts, 31.03.2024, 03/31/2024, 31/03/2024 and so on."""

_NUM_TRIED = 50


@dataclass(frozen=True)
class Dates:
    """A column of dates.

    Attributes:
        column: Its name.
        seconds: Seconds since 1970, float64, shape (n,); whatever the column counts if it holds no dates.
        is_calendar: Whether these are dates, and not steps that are merely counted.
        notes: Sentences that the user should know.
    """

    column: str
    seconds: npt.NDArray[np.float64]
    is_calendar: bool
    notes: tuple[str, ...] = ()


def read_dates(table: Any, path: Path, column: str = "") -> Dates | None:
    """Reads the column of dates of a table.

    Dates without an offset from UTC are taken as they are written; dates with one are turned into UTC. Numbers are
    seconds or milliseconds since 1970, or days such as 20240331, where they can be; else they count steps.

    Args:
        table: A pandas DataFrame.
        path: Its file, for messages.
        column: Name of the column; if empty, the first one that is named like one (`NAMES`) or holds dates as text.

    Returns:
        The dates, or None if no column was named and none is there.

    Raises:
        DataError: If a date is missing or cannot be read.
    """
    if column:
        require_columns(table, path, [column])
    else:
        named = [name for name in table.columns if name.lower() in NAMES]
        column = next(iter(named), "") or next((name for name in table.columns if _looks_like_dates(table[name])), "")
    if not column:
        return None
    values = table[column]
    missing = np.flatnonzero(values.isna().to_numpy())
    if len(missing):
        raise DataError(f"The table {path} has no date in row {missing[0] + 1}, column {column!r}: fill it in.")
    if values.dtype.kind in "iuf":
        return _from_numbers(column, values)
    return _from_text(column, values.astype(str), path)


def _looks_like_dates(values: Any) -> bool:
    if values.dtype.kind in "iufb":
        return False
    some = values.dropna().astype(str).head(_NUM_TRIED)
    return len(some) > 0 and any(_parse(some, form).notna().mean() > 0.5 for form in FORMS)


def _from_numbers(column: str, values: Any) -> Dates:
    pandas, numbers = import_pandas(), values.to_numpy(np.float64)
    low, high = numbers.min(), numbers.max()
    if low >= 19000101 and high <= 21001231 and (numbers == numbers.astype(np.int64)).all():
        days = pandas.to_datetime(pandas.Series(numbers.astype(np.int64).astype(str)), format="%Y%m%d", errors="coerce")
        if days.notna().all():
            return Dates(column, _seconds(days), is_calendar=True)
    for per_second in (1, 1000):
        # From 1990 to 2100.
        if low / per_second >= 631152000 and high / per_second <= 4102444800:
            return Dates(column, numbers / per_second, is_calendar=True)
    return Dates(column, numbers, is_calendar=False, notes=(f"Column {column!r} holds no dates, so it counts steps.",))


def _from_text(column: str, texts: Any, path: Path) -> Dates:
    likely = [form for form in FORMS if _parse(texts.head(_NUM_TRIED), form).notna().any()]
    read = {form: _parse(texts, form) for form in likely}
    good = {form: _seconds(dates) for form, dates in read.items() if dates.notna().all()}
    if not good:
        best = max(read.values(), key=lambda dates: dates.notna().sum(), default=None)
        row = 0 if best is None else int(np.flatnonzero(best.isna().to_numpy())[0])
        raise DataError(
            f"The table {path} has {texts.iloc[row]!r} in row {row + 1}, column {column!r}, which cannot be read as a "
            "date: write dates as 2024-03-31 or 2024-03-31 14:00."
        )
    # Days and months confused make time jump back and forth.
    form = min(good, key=lambda name: (np.sum(np.diff(good[name]) < 0), _spread(good[name])))
    notes: tuple[str, ...] = ()
    if len({seconds.tobytes() for seconds in good.values()}) > 1:
        order = "the day" if form.startswith("%d") else "the month"
        notes = (f"Dates in column {column!r} could be read in two ways and were read with {order} first.",)
    return Dates(column, good[form], is_calendar=True, notes=notes)


def _spread(seconds: npt.NDArray[np.float64]) -> float:
    return float(np.std(np.diff(seconds))) if len(seconds) > 1 else 0.0


def _parse(texts: Any, form: str) -> Any:
    return import_pandas().to_datetime(texts.str.strip(), format=form, errors="coerce", utc=True)


def _seconds(dates: Any) -> npt.NDArray[np.float64]:
    pandas = import_pandas()
    seconds: npt.NDArray[np.float64] = (
        (pandas.to_datetime(dates, utc=True) - pandas.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(np.float64)
    )
    return seconds
