"""Arrays in files, and in the dtypes of tensors."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .plan import PlanError, first_line
from .session import Arrays, Session


def read_npz(path: str) -> Arrays:
    """Reads all arrays of an .npz file, without pickled objects.

    Raises:
        PlanError: If it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise PlanError(f"cannot read the arrays in {path}: {first_line(error)}") from error


def write_npz(path: str, arrays: Arrays) -> None:
    """Writes arrays to an .npz file that is complete as soon as it has its name.

    Not `numpy.savez`, whose own parameter `file` no array can be named after.

    Raises:
        PlanError: If it cannot be written.
    """
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PlanError(f"cannot write {path}: {first_line(error)}") from error


def read_feeds(session: Session, path: str, names: set[str]) -> Arrays:
    """Reads inputs of all calls.

    Args:
        session: The model.
        path: The .npz file.
        names: The inputs that it is to hold.

    Returns:
        By input name, arrays of shape (calls, *tensor shape) in the tensor's dtype.

    Raises:
        PlanError: If names, shapes, dtypes or numbers of calls do not fit.
    """
    arrays = read_npz(path)
    if set(arrays) != names:
        raise PlanError(f"{path} holds {sorted(arrays)}, but the inputs of the model are {sorted(names)}")
    calls = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(calls.values())) != 1 or 0 in calls.values():
        raise PlanError(f"the first axis of every input counts the calls, but {path} holds {calls}")
    return {name: fit_input(name, array, session.inputs[name]) for name, array in sorted(arrays.items())}


def fit_input(name: str, array: Any, detail: dict[str, Any]) -> Any:
    """Returns the array, shape (calls, *tensor shape), in the tensor's dtype; see the module for what is cast.

    Raises:
        PlanError: If the shape or the dtype does not fit.
    """
    signature, dtype = [int(size) for size in detail["shape_signature"]], np.dtype(detail["dtype"])
    shape = list(array.shape[1:])
    if len(shape) != len(signature) or any(signature[k] not in (-1, shape[k]) for k in range(len(shape))):
        raise PlanError(f"input {name!r} has shape {signature} per call (-1: any size), not {shape}")
    scale, zero_point = detail["quantization"]
    if array.dtype == dtype:
        return array
    if scale and array.dtype.kind == "f":
        return quantize(name, array, dtype, scale, zero_point)
    integers = array.dtype.kind in "iub" and dtype.kind in "iu" and not scale
    if integers and np.iinfo(dtype).min <= array.min() and array.max() <= np.iinfo(dtype).max:
        return array.astype(dtype)
    if array.dtype.kind in "fiub" and dtype.kind == "f":
        return array.astype(dtype)
    raise PlanError(f"input {name!r} is {dtype.name}, and these {array.dtype.name} values do not fit into it")


def quantize(name: str, array: Any, dtype: Any, scale: float, zero_point: int) -> Any:
    """Returns round(array / scale) + zero_point, saturated to the dtype.

    Raises:
        PlanError: If a value is not a number.
    """
    if np.isnan(array).any():
        raise PlanError(f"input {name!r} holds a NaN, which {dtype.name} cannot express")
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array / scale) + zero_point, limits.min, limits.max).astype(dtype)


def random_feeds(session: Session, seed: int) -> Arrays:
    """Returns one call of random input: normal floats, the full range of quantized types, 0 or 1 for integers.

    0 and 1 are valid whatever an integer stands for: an index into a table, a length, a flag.
    """
    rng = np.random.default_rng(seed)
    feeds = {}
    for name, detail in session.inputs.items():
        shape, dtype = (1, *(int(size) for size in detail["shape"])), np.dtype(detail["dtype"])
        if dtype.kind == "f":
            feeds[name] = rng.standard_normal(shape).astype(dtype)
        elif detail["quantization"][0]:
            feeds[name] = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        else:
            feeds[name] = rng.integers(0, 2, shape).astype(dtype)
    return feeds
