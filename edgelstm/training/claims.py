"""Claims: whether a training may use a folder, go on in it, or throw away what is in it.

Only files that a training wrote are ever deleted: those with the names below, and those that run.json lists.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edgelstm.errors import LoadError, OutputError
from edgelstm.training.folders import PROBE, check_writable, make_folder

MODEL, RUN, METRICS, HISTORY, CALIBRATION, LABELS, CHECKPOINT = (
    *("model.keras", "run.json", "metrics.json", "history.csv", "calibration.npz", "labels.txt", "checkpoint.npz"),
)
CURVES, ARCHITECTURE, CONFUSION = "curves.png", "architecture.png", "confusion.png"

_NAMES = (MODEL, RUN, METRICS, HISTORY, CALIBRATION, LABELS, CHECKPOINT, CURVES, ARCHITECTURE, CONFUSION)
_KEYS = {"task", "variant", "source", "seed", "settings", "finished"}


def check_claim(folder: Path, described: Mapping[str, Any], *, restart: bool) -> None:
    """Makes sure that a folder is new, or holds the beginning of the same training; changes no file.

    Args:
        folder: The folder; created if it is not there.
        described: What distinguishes the training from others, as `Run.describe` returns it.
        restart: Whether the folder may hold any training.

    Raises:
        OutputError: If it holds something else, or cannot be written to.
        LoadError: If its run.json cannot be read.
    """
    make_folder(folder)
    check_writable(folder)
    if all(is_leftover(path) for path in folder.iterdir()):
        return
    document = read_json(folder / RUN) if (folder / RUN).is_file() else {}
    if not set(document) >= _KEYS:
        raise OutputError(f"The folder {folder} holds other files. Choose a new one for -o.")
    if restart:
        return
    difference = _difference(document, described)
    if difference:
        raise OutputError(
            f"The folder {folder} holds a training with {difference}. Choose a new folder for -o, or train anew with "
            "--restart."
        )
    if document["finished"]:
        raise OutputError(
            f"The training in {folder} is finished. Choose a new folder for -o, or train anew with --restart."
        )


def clear(folder: Path, *, everything: bool) -> None:
    """Deletes what killed trainings left half-written, and on demand all that a training wrote.

    Args:
        folder: A folder that `check_claim` has let pass.
        everything: Whether to delete all files of the training that it holds.

    Raises:
        OutputError: If a file cannot be deleted.
    """
    names = {path.name for path in folder.iterdir() if is_leftover(path)}
    if everything and (folder / RUN).is_file():
        names |= {*_NAMES, *_listed(read_json(folder / RUN))} - {RUN}
    try:
        for path in (folder / name for name in sorted(names)):
            if path.is_file() or path.is_symlink():
                path.unlink()
        if everything:  # last: an interruption before leaves a folder that is still known as ours
            (folder / RUN).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot delete {error.filename}: {error.strerror or error}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        LoadError: If it cannot be read or is no object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"Cannot read {path}: {error}.") from error
    if not isinstance(document, dict):
        raise LoadError(f"Cannot read {path}: it is no JSON object.")
    return document


def is_leftover(path: Path, names: Collection[str] = _NAMES) -> bool:
    """Whether it is a temporary file of `folders.write_complete`, for one of these names, whose process was killed."""
    process, _, name = path.name.partition("-")
    return process[:1] == "." and process[1:].isdigit() and name in (*names, PROBE) and path.is_file()


def _listed(document: Mapping[str, Any]) -> set[str]:
    """The names that run.json lists, those alone that lie in the folder itself."""
    files = document.get("files")
    return {name for name in files if isinstance(name, str) and Path(name).name == name} if files else set()


def _difference(document: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    """The first thing in which a folder's training differs, as "units 8, not 16"; empty if there is none."""
    for name, here in described.items():
        there = document.get(name)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            difference = _difference(there, here)
            if difference:
                return difference
        elif there != here:
            return f"{name} {there}, not {here}"
    return ""
