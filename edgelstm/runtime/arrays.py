"""Arrays by name in an .npz file, for the worker."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays to an .npz file. Not `numpy.savez`, whose own parameter `file` no array can be named after.

    Args:
        path: The file to write.
        arrays: Arrays of numbers by name.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
