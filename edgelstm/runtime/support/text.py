"""Lays the support matrix out for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from edgelstm.runtime.support.entries import Support

MIN_WIDTH = 40
_INDENT = "  "
_RIGHT = {"yes": "yes", "reset": "only after a reset", "no": "no", "unknown": "not known"}
_LOADS = {"yes": "yes", "no": "no", "unknown": "not known"}
_BASES = {
    "run": "run: this file was run on it here.",
    "rule": "rule: told from what is in the file; the tests of edgelstm check that on the runtime.",
}


def format_support(entries: Sequence[Support], width: int = 80) -> str:
    """Returns the support matrix as text for a terminal.

    Args:
        entries: What `find_support` returned.
        width: Columns of the terminal; at least 40 are used. No line is longer.

    Returns:
        Lines without a final line end.
    """
    width = max(width, MIN_WIDTH)
    runtimes, delegates, platforms = (
        [entry for entry in entries if entry.kind == kind] for kind in ("runtime", "delegate", "platform")
    )
    sections = (
        _table(runtimes),
        ["Reasons", *reasons] if (reasons := _reasons(runtimes, width)) else [],
        ["Delegates of the Interpreter (documented, not tried)", *_reasons(delegates, width)],
        ["Platforms", *_platforms(platforms, width)],
        _legend(runtimes, width),
    )
    lines = "\n\n".join("\n".join(section) for section in sections if section).split("\n")
    return "\n".join("".join(c if c.isprintable() else "?" for c in line).rstrip()[:width] for line in lines)


def _table(runtimes: Sequence[Support]) -> list[str]:
    head = ("Runtimes", "loads", "right on every call", "known by")
    rows = [(_INDENT + entry.title, *_cells(entry), entry.basis) for entry in runtimes]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]


def _cells(entry: Support) -> tuple[str, str]:
    return _LOADS[entry.loads], "-" if entry.loads == "no" else _RIGHT[entry.right]


def _reasons(runtimes: Sequence[Support], width: int) -> list[str]:
    """Says why, once for all runtimes with the same reason."""
    titles: dict[str, list[str]] = {}
    for entry in runtimes:
        if entry.why:
            titles.setdefault(entry.why, []).append(entry.title)
    return [line for why, names in titles.items() for line in _wrapped(f"{', '.join(names)}: {why}.", width)]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT * 2, break_on_hyphens=False)


def _platforms(platforms: Sequence[Support], width: int) -> list[str]:
    column = len(_INDENT) + max((len(entry.title) for entry in platforms), default=0) + 2
    lines = []
    for entry in platforms:
        first = f"{_INDENT}{entry.title}".ljust(column)
        lines += textwrap.wrap(_platform(entry), width, initial_indent=first, subsequent_indent=" " * column)
    return lines


def _platform(entry: Support) -> str:
    if not entry.is_usable:
        return "not known" if entry.right == "unknown" else "none of its runtimes"
    return f"{', '.join(entry.runtimes)}{', after a reset' if entry.right == 'reset' else ''}"


def _legend(runtimes: Sequence[Support], width: int) -> list[str]:
    bases = {entry.basis for entry in runtimes}
    lines = [line for basis, text in _BASES.items() if basis in bases for line in textwrap.wrap(text, width)]
    cures = list(dict.fromkeys(entry.cure for entry in runtimes if entry.cure))
    if cures:
        choices = " or ".join([", ".join(cures[:-1]), cures[-1]] if len(cures) > 1 else cures)
        text = f"For a file that runs right there: edgelstm convert --runtime {choices}."
        lines += textwrap.wrap(text, width, break_on_hyphens=False)
    return lines
