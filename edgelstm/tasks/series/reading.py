"""Time series in tables of the user's: rows of numbers in the order of time.

Whatever had to be mended is told in a note; what cannot be mended is refused in one sentence that names the row. Rows
are counted from 1, without the heading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.errors import DataError
from edgelstm.tasks.series.dates import read_dates
from edgelstm.tasks.tables import import_pandas, read_csv, require_columns

GAP = 1.5
"""Two rows are apart by more than the usual step if they are apart by so many of it."""


@dataclass(frozen=True)
class Series:
    """Rows in the order of time.

    Attributes:
        names: Names of the columns of numbers.
        values: The numbers, float64, shape (n, columns).
        seconds: When each row was, seconds since 1970, float64, shape (n,); None if nothing is known of time.
        is_calendar: Whether `seconds` are dates.
        words: Columns that were asked for as they are, by name: objects, shape (n,).
        notes: Sentences that the user should know.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64] | None = None
    is_calendar: bool = False
    words: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def step_s(self) -> float:
        """The usual time from row to row in seconds; 0 if nothing is known of time."""
        return float(np.median(np.diff(self.seconds))) if self.seconds is not None and len(self) > 1 else 0.0

    @property
    def follows_gap(self) -> npt.NDArray[np.bool_]:
        """Whether more than the usual step lies before each row, shape (n,)."""
        if self.seconds is None:
            return np.zeros(len(self), bool)
        return np.diff(self.seconds, prepend=self.seconds[:1]) > GAP * self.step_s

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """Returns the numbers of one column."""
        return self.values[:, self.names.index(name)]


def read_series(path: Path, *, date_column: str = "", max_gap: int = 3, words: Sequence[str] = ()) -> Series:
    """Reads a time series from a CSV file.

    Args:
        path: The file: a heading, one row for each time, one column for each quantity, and a column of dates if any.
        date_column: Name of the column of dates; found if empty.
        max_gap: How many missing numbers in a row are filled with the last one before them.
        words: Columns to be read as they are.

    Raises:
        DataError: If the file cannot be read, dates or numbers are missing or wrong, two rows have the same date, or
            no column of numbers is there.
        MissingExtraError: If pandas is not installed.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder: give the path of one CSV file.")
    table, notes = read_csv(path)
    require_columns(table, path, words)
    dates = read_dates(table, path, date_column)
    seconds = None
    if dates is None:
        notes += ("No column holds dates, so rows are taken in the order of the file.",)
    else:
        table, seconds, more = _in_order(table, dates.seconds, path, dates.column)
        notes += (*dates.notes, *more)
    skipped = {*words, *([dates.column] if dates else [])}
    columns, more = _number_columns(table.drop(columns=list(skipped)), path)
    notes += more
    if not columns:
        raise DataError(f"The table {path} has no column of numbers beside {', '.join(sorted(skipped)) or 'text'}.")
    for name, values in columns.items():
        columns[name], more = _filled(values, max_gap, name, path, table.index.to_numpy())
        notes += more
    series = Series(
        tuple(columns),
        np.stack(list(columns.values()), axis=1),
        seconds,
        dates is not None and dates.is_calendar,
        {name: table[name].to_numpy(object) for name in words},
    )
    return Series(**{**vars(series), "notes": (*notes, *_notes_on_gaps(series))})


def _in_order(
    table: Any, seconds: npt.NDArray[np.float64], path: Path, column: str
) -> tuple[Any, npt.NDArray[np.float64], tuple[str, ...]]:
    """Sorts rows by date and drops repeated ones; the index keeps their places in the file."""
    notes: tuple[str, ...] = ()
    if (np.diff(seconds) < 0).any():
        notes = ("Rows were not in the order of their dates and were sorted.",)
    order = np.argsort(seconds, kind="stable")
    table, seconds = table.iloc[order], seconds[order]
    again = np.concatenate([[False], np.diff(seconds) == 0])
    if again.any():
        same = table.duplicated().to_numpy()
        differing = np.flatnonzero(again & ~same)
        if len(differing):
            row = int(differing[0])
            first, second = sorted(int(table.index[place]) + 1 for place in (row - 1, row))
            raise DataError(
                f"The table {path} has {table[column].iloc[row]!s} in column {column!r} twice, in rows {first} and "
                f"{second}, with different values: give each row a time of its own (date and hour in one column, local "
                "times with their offset from UTC) and each series a file of its own."
            )
        notes += (f"{_count(int(again.sum()), 'row')} stood in the table twice and counted once.",)
        table, seconds = table[~again], seconds[~again]
    return table, seconds, notes


def _number_columns(table: Any, path: Path) -> tuple[dict[str, npt.NDArray[np.float64]], tuple[str, ...]]:
    """Turns columns into numbers, NaN where missing; columns of text are left out."""
    pandas = import_pandas()
    columns, notes = {}, []
    for name in table.columns:
        values = table[name]
        numbers = pandas.to_numeric(values, errors="coerce")
        is_wrong = (numbers.isna() & values.notna()).to_numpy()
        if is_wrong.any():
            with_points = values.astype(str).str.replace(r"^([+-]?\d+),(\d+)$", r"\1.\2", regex=True)
            repaired = pandas.to_numeric(with_points.where(values.notna()), errors="coerce")
            if not (repaired.isna() & values.notna()).any():
                notes.append(f"Column {name!r} writes decimals with a comma and was read so.")
                numbers, is_wrong = repaired, np.zeros(len(table), bool)
        if values.isna().all() or is_wrong.sum() > values.notna().sum() / 2:
            notes.append(f"Column {name!r} holds {'nothing' if values.isna().all() else 'text'} and was left out.")
            continue
        array = numbers.to_numpy(np.float64)
        is_wrong = is_wrong | np.isinf(array)
        if is_wrong.any():
            row = int(np.flatnonzero(is_wrong)[0])
            raise DataError(
                f"The table {path} has {str(values.iloc[row])!r} in row {int(table.index[row]) + 1}, column {name!r}, "
                "where a number should be: correct it, or leave it empty if it is unknown."
            )
        columns[name] = array
    return columns, tuple(notes)


def _filled(
    values: npt.NDArray[np.float64], max_gap: int, name: str, path: Path, places: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Fills missing numbers with the last one before them."""
    is_missing = np.isnan(values)
    if not is_missing.any():
        return values, ()
    rows = np.arange(len(values))
    last = np.maximum.accumulate(np.where(is_missing, -1, rows))
    too_long = np.flatnonzero((last < 0) | (rows - last > max_gap))
    if len(too_long):
        row = int(too_long[0])
        begins = int(last[row]) + 1
        length = int(np.argmin(is_missing[begins:])) or len(values) - begins
        raise DataError(
            f"The table {path} has {_count(length, 'missing number')} from row {int(places[begins]) + 1} on in column "
            f"{name!r}, and at most {max_gap} after a known one are filled: fill them in, remove the rows, or set "
            "max_gap."
        )
    count = int(is_missing.sum())
    return values[last], (f"{_count(count, 'missing number')} in column {name!r} took the last one before.",)


def _notes_on_gaps(series: Series) -> tuple[str, ...]:
    gaps = np.flatnonzero(series.follows_gap)
    if series.seconds is None or not len(gaps):
        return ()
    largest = np.diff(series.seconds).max() / series.step_s
    return (
        f"Rows are not evenly spaced: {_count(len(gaps), 'time')} more than the usual step lies between two rows, at "
        f"most {largest:.0f} steps. Set skip_gaps=true to leave out windows across them.",
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
