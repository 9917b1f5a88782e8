"""Tables of the user's: CSV files, read with pandas, whose faults become one sentence."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgelstm.errors import DataError, MissingExtraError

ENCODINGS = ("utf-8-sig", "utf-16", "cp1252")
"""Tried one after the other: UTF-8 with or without its mark, UTF-16 with its mark, what Windows writes."""

_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_csv(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Reads a CSV file, whatever its encoding and separator (comma, semicolon, tab).

    Returns:
        The table, a pandas DataFrame, and sentences that the user should know.

    Raises:
        DataError: If it cannot be read or has no rows.
        MissingExtraError: If pandas is not installed.
    """
    pandas = import_pandas()
    text, encoding = read_text(path)
    lines = text.splitlines()
    separator = max(",;\t", key=lines[0].count) if lines else ","
    try:
        table = pandas.read_csv(io.StringIO(text), sep=separator, skipinitialspace=True)
    except (ValueError, pandas.errors.ParserError) as error:
        raise DataError(f"Cannot read the table {path}: {' '.join(str(error).split())}.") from error
    if not len(table):
        raise DataError(f"The table {path} has no rows.")
    table.columns = [str(column).strip() for column in table.columns]
    return table, notes_on_encoding(path, encoding)


def read_text(path: Path) -> tuple[str, str]:
    """Reads a text file of unknown encoding.

    Returns:
        The text and the encoding that it was read in.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    if b"\0" in content and not content.startswith(_MARKS):
        raise DataError(f"Cannot read {path}: it holds binary data, not text.")
    for encoding in ENCODINGS:
        if encoding == "utf-16" and not content.startswith(_MARKS):
            continue
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1"), "latin-1"


def notes_on_encoding(path: Path, encoding: str) -> tuple[str, ...]:
    """What to tell the user about the encoding of a file: nothing if it is UTF-8."""
    if encoding in ENCODINGS[:2]:
        return ()
    return (f"{path} is not in UTF-8 and was read as {encoding}: save it in UTF-8 if letters look wrong.",)


def require_columns(table: Any, path: Path, columns: Sequence[str]) -> None:
    """Makes sure that columns are there.

    Raises:
        DataError: If one is missing; the message names those that are there.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"The table {path} has no column {missing[0]!r}. Its columns are {', '.join(table.columns)}.")


def import_pandas() -> Any:
    """Imports pandas.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError('Tables are read with pandas: pip install "edgelstm[train]".') from error
    return pandas
