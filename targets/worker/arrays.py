"""Arrays in files, and in the dtypes of tensors."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .plan import PlanError, first_line, read_key, read_size
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


def feeds_of(session: Session, plan: dict[str, Any]) -> Arrays:
    """Returns the inputs of the plan of "bench" or "count": those of its file, or random ones.

    Raises:
        PlanError: If the file does not fit the model, or the sizes do not, or there are both.
    """
    path = plan.get("inputs")
    batch, length = read_size(plan, "batch"), read_size(plan, "length")
    if path is None:
        return random_feeds(session, read_key(plan, "seed", int, 0), batch, length)
    if batch is not None or length is not None:
        raise PlanError("batch and length are for random input, but the plan names inputs, which have their own")
    return read_feeds(session, path, set(session.inputs))


def sizes_of(session: Session, batch: int | None, length: int | None) -> dict[str, list[int]]:
    """Returns the shape of each input, with the batch and the length that are asked for.

    Args:
        session: The model.
        batch: First dimension of every input; None leaves it.
        length: Second dimension of every input where it is free; None where none is.

    Raises:
        PlanError: If a dimension is fixed and differs, or no length is given for one that is free.
    """
    shapes = {name: [int(size) for size in detail["shape"]] for name, detail in session.inputs.items()}
    free = {name: [int(size) < 0 for size in detail["shape_signature"]] for name, detail in session.inputs.items()}
    for name, shape in shapes.items():
        if batch is not None and shape:
            if not free[name][0] and shape[0] != batch:
                raise PlanError(_fixed("batch", batch, name, shape[0]))
            shape[0] = batch
    if length is None:
        for name in shapes:
            if free[name][1:2] == [True]:
                raise PlanError(f"input {name!r} leaves its length open: give --length N")
        return shapes
    long = {name: shape for name, shape in shapes.items() if len(shape) > 1}
    if not any(free[name][1] or shape[1] == length for name, shape in long.items()):
        for name, shape in long.items():
            raise PlanError(_fixed("length", length, name, shape[1]))
        raise PlanError("no input of the model has a length to choose")
    for name, shape in long.items():
        if free[name][1]:
            shape[1] = length
    return shapes


def _fixed(what: str, wanted: int, name: str, size: int) -> str:
    return (
        f"a {what} of {wanted} does not fit input {name!r}: its {what} is fixed at {size}: "
        f"convert it again with --{what} {wanted}"
    )


def random_feeds(session: Session, seed: int, batch: int | None = None, length: int | None = None) -> Arrays:
    """Returns one call of random input: normal floats, the full range of quantized types, 0 or 1 for integers.

    0 and 1 are valid whatever an integer stands for: an index into a table, a length, a flag. For a model that masks
    they are all 1: zeros within a sequence are a mask that cuDNN does not take.

    Args:
        session: The model.
        seed: Of the generator.
        batch: As for `sizes_of`.
        length: The same.

    Raises:
        PlanError: As `sizes_of`.
    """
    rng = np.random.default_rng(seed)
    feeds = {}
    shapes = sizes_of(session, batch, length)
    for name, detail in session.inputs.items():
        shape, dtype = (1, *shapes[name]), np.dtype(detail["dtype"])
        if dtype.kind == "f":
            feeds[name] = rng.standard_normal(shape).astype(dtype)
        elif detail["quantization"][0]:
            feeds[name] = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        else:
            feeds[name] = rng.integers(1 if session.masks() else 0, 2, shape).astype(dtype)
    return feeds
