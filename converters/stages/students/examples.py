"""Examples without labels: those of a file, and noisy copies of the training examples. The teacher answers them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgelstm.converters.calibration import read_data
from edgelstm.converters.stages.base import Array
from edgelstm.converters.stages.students.reading import Reading
from edgelstm.errors import StageError

Inputs = dict[str, Array]

PADDING = 0
_SALT = 83


def noisy_copies(x: Mapping[str, Array], readings: list[Reading], noise: float, copies: int, seed: int) -> list[Inputs]:
    """Returns copies of examples in which something differs.

    Numbers get Gaussian noise, of the given share of their standard deviation over the examples, feature by feature;
    steps that a Masking layer leaves out stay. Of ids that an Embedding looks up, this share is replaced by ids drawn
    as often as they occur; padding stays, and is not drawn. Other whole numbers stay.

    Args:
        x: By input name, shape (n, ...).
        readings: How the model reads its inputs.
        noise: The share.
        copies: How many of each.
        seed: Of the noise.
    """
    rng = np.random.default_rng((_SALT, seed))
    by_name = {each.name: each for each in readings}

    def vary(name: str, array: Array) -> Array:
        reading = by_name.get(name)
        if reading is not None and reading.table is not None:
            return _replaced(array, noise, rng)
        if not np.issubdtype(array.dtype, np.floating):
            return array
        varied = array + noise * array.std(axis=tuple(range(array.ndim - 1))) * rng.standard_normal(array.shape)
        if reading is not None and reading.mask_value is not None:
            varied = np.where((array == reading.mask_value).all(axis=-1, keepdims=True), array, varied)
        exact: Array = varied.astype(array.dtype)
        return exact

    return [{name: vary(name, array) for name, array in x.items()} for _ in range(copies)]


def _replaced(ids: Array, share: float, rng: np.random.Generator) -> Array:
    words = ids[ids != PADDING]
    if not words.size:
        return ids
    chosen = (rng.random(ids.shape) < share) & (ids != PADDING)
    return np.where(chosen, rng.choice(words, ids.shape), ids).astype(ids.dtype)


def read_unlabelled(path: str, like: Mapping[str, Array], readings: list[Reading]) -> Inputs:
    """Reads examples without labels.

    Args:
        path: Of an .npz file with the inputs by name; the only input may be called anything.
        like: Inputs of training examples, by name.
        readings: How the model reads its inputs.

    Raises:
        CalibrationError: If the file cannot be read.
        StageError: If it does not fit the model.
    """
    given, names = read_data(path), [each.name for each in readings]
    if len(given) == len(names) == 1:
        given = dict(zip(names, given.values(), strict=True))
    missing = [name for name in names if name not in given]
    if missing:
        raise StageError(f"{path} has no input {missing[0]!r}; it has {', '.join(sorted(given))}.")
    found = {reading.name: _fitting(path, reading, given[reading.name], like[reading.name]) for reading in readings}
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise StageError(f"{path} has inputs of different numbers of examples: {shown}.")
    return found


def _fitting(path: str, reading: Reading, array: Array, like: Array) -> Array:
    if array.shape[1:] != like.shape[1:]:
        raise StageError(
            f"{path}: input {reading.name!r} has examples of shape {array.shape[1:]}, and those to learn from have "
            f"{like.shape[1:]}."
        )
    if not np.isfinite(array.astype(np.float64)).all():
        raise StageError(f"{path}: input {reading.name!r} holds NaN or infinity. Leave those examples out.")
    size = reading.table.input_dim if reading.table is not None else None
    if size is not None and array.size and not 0 <= array.min() <= array.max() < size:
        raise StageError(
            f"{path}: input {reading.name!r} has ids from {array.min()} to {array.max()}, and the model "
            f"knows those from 0 to {size - 1}."
        )
    return array.astype(like.dtype)
