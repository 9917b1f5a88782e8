"""Where a SavedModel is put: whole folders that are complete before they get their name."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgelstm.artifact import check_place, temporary_name
from edgelstm.errors import OutputError

GRAPH = "saved_model.pb"
PARTS = (GRAPH, "fingerprint.pb", "variables", "assets", "assets.extra")


def check_folder(folder: Path) -> None:
    """Finds out, before long work, whether a SavedModel can be written.

    Raises:
        OutputError: If the folder around it is missing or may not be written to, or there is something else at that
            path than an empty folder or a SavedModel with nothing beside it.
    """
    if folder.name in ("", ".."):
        raise OutputError(
            f"Cannot write {folder}: a SavedModel needs a folder of its own, with a name: {folder / 'served'}, say."
        )
    try:
        check_place(folder)
        _check_replaceable(folder)
    except OSError as error:
        raise _not_written(folder, error) from error


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"Cannot write {folder}: a SavedModel is a folder, and this is a file. Name another folder.")
    names = sorted(entry.name for entry in folder.iterdir())
    foreign = [name for name in names if name not in PARTS]
    if names and GRAPH not in names:
        raise OutputError(
            f"Cannot write {folder}: that folder exists and holds something else than a SavedModel ({names[0]}). Name "
            "another one."
        )
    if foreign:
        raise OutputError(
            f"Cannot write {folder}: besides a SavedModel that folder holds {foreign[0]}, which would be lost. Name "
            "another one."
        )


@contextlib.contextmanager
def placed_folder(source: Path, folder: Path) -> Iterator[None]:
    """Puts a copy of a finished SavedModel where it belongs, for good if what is done meanwhile succeeds.

    Args:
        source: The SavedModel.
        folder: Its place. A SavedModel that is there is replaced, and comes back if anything fails.

    Raises:
        OutputError: As `check_folder`, and if writing fails.
    """
    check_folder(folder)
    target = Path(os.path.realpath(folder))
    temporary, old = temporary_name(target.parent), temporary_name(target.parent)
    try:
        try:
            shutil.copytree(source, temporary)
            if target.exists():
                target.rename(old)
            temporary.rename(target)
        except OSError as error:
            raise _not_written(folder, error) from error
        try:
            yield
        except BaseException:
            target.rename(temporary)
            raise
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)


def _not_written(folder: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    if isinstance(error, shutil.Error):  # a list of (source, target, why)
        reason = str(error.args[0][0][2]).partition("] ")[2].partition(": '")[0] or "copying failed"
    return OutputError(f"Cannot write {folder}: {reason.lower()}. Free space there, or name another folder.")
