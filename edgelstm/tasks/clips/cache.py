"""What was computed from clips, kept on disk: one .npy file each.

Its name is a hash of all that it depends on, and the number of frames that the clip has.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgelstm.errors import OutputError
from edgelstm.tasks.base import Array
from edgelstm.training.folders import make_folder, write_complete


def default_folder() -> Path:
    """The folder edgelstm/clips where the system keeps caches of the user's."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgelstm" / "clips"


class ClipCache:
    """Arrays on disk.

    Args:
        folder: Where they lie; created when something is kept.
        shape: Of every array.
        dtype: Of every array.

    Attributes:
        num_read: How many were found.
        problem: Why nothing is kept any more; empty if all is well.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: type) -> None:
        self.num_read = 0
        self.problem = ""
        self._folder, self._shape, self._dtype = folder, shape, np.dtype(dtype)

    def get(self, parts: tuple[str, ...], compute: Callable[[], tuple[Array, int]]) -> tuple[Array, int]:
        """Returns what is kept, or else computes and keeps it.

        Args:
            parts: Everything that the array depends on.
            compute: Returns the array and the number of frames of its clip; called if nothing is kept, or what is kept
                is damaged.
        """
        name = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        folder = self._folder / name[:2]
        for path in folder.glob(f"{name}-*.npy"):
            kept = self._read(path)
            if kept is not None:
                self.num_read += 1
                return kept, int(path.stem.partition("-")[2])
        array, count = compute()
        if not self.problem:
            self._write(folder / f"{name}-{count}.npy", array)
        return array, count

    def _read(self, path: Path) -> Array | None:
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        fits = isinstance(array, np.ndarray) and array.shape == self._shape and array.dtype == self._dtype
        return array if fits and np.isfinite(array).all() else None

    def _write(self, path: Path, array: Array) -> None:
        try:
            make_folder(path.parent)
            write_complete(path, lambda file: np.save(file, array))
        except OutputError as error:
            self.problem = str(error)
