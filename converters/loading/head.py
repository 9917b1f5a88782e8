"""The first bytes of a file, which tell its kind."""

from __future__ import annotations

from pathlib import Path

from edgelstm.errors import LoadError

HEAD_BYTES = 4096
"""How much of a file's beginning tells its kind: HDF5 may begin behind a user block of up to 2048 bytes."""


def is_folder(path: Path) -> bool:
    """Tells whether a path is a folder; what is wrong with it otherwise, `read_head` tells."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_head(path: Path) -> bytes:
    """Returns the first bytes of a regular file that is not empty.

    Raises:
        LoadError: If there is no such file, or it cannot be read.
    """
    try:
        if not path.exists():
            raise LoadError(f"Cannot load {path}: there is no such file. Check the path and the current folder.")
        if not path.is_file():
            raise LoadError(f"Cannot load {path}: it is not a regular file.")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except PermissionError as error:
        raise LoadError(
            f"Cannot load {path}: you may not read it (permission denied). Change its permissions or copy it."
        ) from error
    except (OSError, ValueError) as error:
        raise LoadError(f"Cannot load {path}: {getattr(error, 'strerror', None) or error}.") from error
    if not head:
        raise LoadError(f"Cannot load {path}: the file is empty. Copy or save it again.")
    return head
