"""What commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TextIO

import click

WIDTH = 80
"""Columns that text for people keeps to."""


def print_error(message: str) -> None:
    """Prints an error on stderr, as one line whatever the message holds."""
    click.echo(f"edgelstm: error: {' '.join(message.split())}", err=True)


def print_warning(message: str) -> None:
    """Prints a warning on stderr, wrapped."""
    text = f"edgelstm: warning: {' '.join(message.split())}"
    click.echo(textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False), err=True)


def wrapped(text: str, indent: str, first: str | None = None) -> list[str]:
    """Returns a text as lines of at most 80 columns; the first one may have an indent of its own."""
    head = indent if first is None else first
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False)


def two_columns(rows: Mapping[str, str]) -> list[str]:
    """Returns names and texts as lines, the texts wrapped in a column of their own."""
    width = max(map(len, rows)) + 2
    return [line for name, text in rows.items() for line in wrapped(text, "  " + " " * width, f"  {name:<{width}}")]


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Returns rows as lines with aligned columns, those whose indices are in `right` to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def print_json(document: Any) -> None:
    """Prints one JSON document; numbers that JSON does not know (NaN, infinities) become null."""
    click.echo(json.dumps(_json_value(document), indent=2, ensure_ascii=False, allow_nan=False))


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def working() -> Iterator[Callable[[str], None] | None]:
    """Keeps the terminal tidy and stdout free for the result while the library works.

    Yields:
        What `progress` yields.
    """
    with hidden_native_noise(), reserved_stdout(), progress() as report:
        yield report


@contextlib.contextmanager
def reserved_stdout() -> Iterator[None]:
    """Sends to stderr what anyone, native code and child processes included, writes to stdout meanwhile."""
    with contextlib.redirect_stdout(sys.stderr), _redirected(1, 2):
        yield


@contextlib.contextmanager
def hidden_native_noise() -> Iterator[None]:
    """Drops what native code and child processes write to stderr meanwhile, unless the user asks for tracebacks.

    TensorFlow's libraries report on the machine, at length, before any setting of theirs can tell them not to. What
    Python writes to stderr is still seen.
    """
    context = click.get_current_context(silent=True)
    if context is not None and getattr(context.obj, "traceback", False):
        yield
        return
    with contextlib.ExitStack() as stack:
        if _descriptor(sys.stderr) == 2:
            # Loggers may keep this stream for as long as the process lives, so it is never closed.
            stream = open(os.dup(2), "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
            stack.enter_context(contextlib.redirect_stderr(stream))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        stack.enter_context(_redirected(2, nowhere))
        yield


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None] | None]:
    """Shows what is being done in one line of the terminal, which is gone in the end.

    Yields:
        A function that takes what is done now, None if stderr is no terminal.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    columns = shutil.get_terminal_size().columns

    def report(message: str) -> None:
        click.echo(f"\r\x1b[K{message[: columns - 1]}", nl=False, err=True)

    try:
        yield report
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


@contextlib.contextmanager
def _redirected(descriptor: int, target: int) -> Iterator[None]:
    """Makes an open file descriptor stand for another one meanwhile; does nothing if either is closed."""
    try:
        saved = os.dup(descriptor)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            os.dup2(target, descriptor)
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return stream.fileno() if stream else None
    except (OSError, ValueError):
        return None
