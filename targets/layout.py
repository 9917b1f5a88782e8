"""Lines of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 80
_LABEL_WIDTH = 14


def wrapped(text: str) -> list[str]:
    """Returns a text as lines; those after the first are indented."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def indented(text: str) -> list[str]:
    """Returns a text as indented lines."""
    return [f"  {line}" for line in textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False, break_long_words=False)]


def entry(label: str, text: str) -> list[str]:
    """Returns a text that begins behind a label, and goes on below its beginning."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"  {label}".ljust(_LABEL_WIDTH),
        subsequent_indent=_LABEL_WIDTH * " ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def table(rows: Sequence[Sequence[str]], num_titles: int = 1) -> list[str]:
    """Aligns cells.

    Args:
        rows: A header, then at least one row.
        num_titles: How many cells at the beginning of a row tell what it is about. They get a line of their own where
            the table would be too wide.
    """
    lines = aligned(rows)
    if max(map(len, lines)) <= WIDTH:
        return lines
    titles = ["", *(", ".join(filter(None, row[:num_titles])) for row in rows[1:])]
    cells = [line[2:] for line in aligned([("  ", *row[num_titles:]) for row in rows])]
    return [line for title, row in zip(titles, cells, strict=True) for line in (*indented(title), row)]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns rows as lines with aligned columns, the first to the left; empty columns are left out."""
    rows = without_empty(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def without_empty(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Returns a table without the columns that are empty below their header."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return list(zip(*columns, strict=True))
