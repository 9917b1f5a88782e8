"""Files of a run's folder: written complete or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgelstm.errors import OutputError

PROBE = "probe"


def make_folder(folder: Path) -> None:
    """Creates a folder if it is not there.

    Raises:
        OutputError: If it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot write to the folder {folder}: {error.strerror or error}.") from error


def check_writable(folder: Path) -> None:
    """Makes sure, before hours of work, that files can be written to a folder.

    Raises:
        OutputError: If they cannot.
    """
    probe = folder / f".{os.getpid()}-{PROBE}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"Cannot write to the folder {folder}: {error.strerror or error}.") from error


def write_complete(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a file beside the path, then gives it its name.

    Args:
        path: The file.
        write: Takes the path of a file to fill, whose name ends as that of the file does.

    Raises:
        OutputError: If it cannot be written.
    """
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, document: Any) -> None:
    """Writes a JSON document.

    Raises:
        OutputError: If it cannot be written.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_complete(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_lines(path: Path, lines: list[str]) -> None:
    """Writes a text, one line for each.

    Raises:
        OutputError: If it cannot be written.
    """
    write_complete(path, lambda file: file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8"))
