"""Opening HDF5 files that nobody has vouched for."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.converters import scripts
from edgelstm.converters.loading import hdf5_probe
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.reasons import reason
from edgelstm.errors import LoadError

MAX_EXPANSION = 20
"""How many times larger than their file arrays may be. Trained weights hardly compress; bombs do, a thousandfold."""
FREE_BYTES = 64 << 20
"""Below this size nothing is called a bomb."""
PROBE_TIMEOUT_S = 20.0
PROBE_BYTES_PER_S = 20e6
"""Time for a first look at a file: that of starting Python, and far more than a slow disk takes."""

Array = npt.NDArray[Any]


@contextmanager
def open_hdf5(source: Path | BytesIO, path: Path) -> Iterator[Any]:
    """Opens an HDF5 file for reading, after a look at everything in it.

    Args:
        source: The file, or its content.
        path: The file that the user gave, for messages.

    Yields:
        The `h5py.File`.

    Raises:
        LoadError: If it is damaged, refers to data outside itself or declares arrays out of proportion, and if
            reading it fails within the `with` block.
    """
    import_keras()
    import h5py

    size = source.getbuffer().nbytes if isinstance(source, BytesIO) else source.stat().st_size
    _probe(source, size, path)
    try:
        with h5py.File(source, "r") as file:
            _check_datasets(file, size, path)
            yield file
    except LoadError:
        raise
    except Exception as error:  # h5py raises whatever fits: OSError, KeyError, ValueError, RuntimeError, ...
        raise LoadError(
            f"Cannot load {path}: its HDF5 content is damaged or incomplete ({reason(error)}). Copy or save it again."
        ) from error


def datasets(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the paths and datasets below a group, refusing links that lead elsewhere.

    Raises:
        ValueError: If there is a soft or external link, or groups nest too deep, as in a circle.
    """
    import h5py

    if prefix.count("/") > hdf5_probe.MAX_DEPTH:
        raise ValueError("its groups nest too deep")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{prefix}{name} is a link to elsewhere")
        value = group[name]
        if isinstance(value, h5py.Group):
            yield from datasets(value, f"{prefix}{name}/")
        elif isinstance(value, h5py.Dataset):
            yield prefix + name, value


def read_array(dataset: Any) -> Array:
    """Returns a dataset's values, of the type that Keras meant."""
    values: Array = np.asarray(dataset)
    if values.dtype.kind == "V" and values.dtype.itemsize == 2:  # bfloat16, which HDF5 does not have
        import ml_dtypes

        return values.view(ml_dtypes.bfloat16)
    return values


def _probe(source: Path | BytesIO, size: int, path: Path) -> None:
    """Has a process of its own read the whole file first, because the HDF5 library hangs on some damaged files."""
    content = source.getvalue() if isinstance(source, BytesIO) else b""
    arguments = [] if isinstance(source, BytesIO) else [source.absolute()]
    timeout_s = PROBE_TIMEOUT_S + size / PROBE_BYTES_PER_S
    try:
        done = scripts.start(
            hdf5_probe.__file__, str(_max_bytes(size)), *arguments, timeout_s=timeout_s, content=content
        )
        problem = f"reading it ended with signal {-done.returncode}" if done.returncode < 0 else None
    except subprocess.TimeoutExpired:
        problem = f"reading it did not end within {timeout_s:.0f} seconds"
    if problem:
        raise LoadError(f"Cannot load {path}: its HDF5 content is damaged ({problem}). Copy or save it again.")


def _max_bytes(size: int) -> int:
    """Returns how many bytes the arrays in a file of `size` bytes may take."""
    return max(FREE_BYTES, MAX_EXPANSION * size)


def _check_datasets(file: Any, size: int, path: Path) -> None:
    total = 0
    for name, dataset in datasets(file):
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{name} has its values in another file")
        total += math.prod(dataset.shape or ()) * dataset.dtype.itemsize
        if total > _max_bytes(size):
            raise LoadError(
                f"Cannot load {path}: its arrays would take more than {MAX_EXPANSION} times the space of the file "
                f"({total >> 20} MiB up to {name!r}), so it looks like a decompression bomb. Save the model again with "
                "model.save()."
            )
