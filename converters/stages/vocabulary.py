"""Fewer ids: which stay, what becomes of the others, and which rows of a table are left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.errors import StageError

Array = npt.NDArray[Any]


def count_ids(arrays: Iterable[Array], rows: int, where: str) -> Array:
    """How often each id occurs, shape (rows,), int64.

    Args:
        arrays: Ids of any shape; floats are cut off to whole numbers, as an Embedding does.
        rows: Of the table.
        where: Names the table in the message of an error.

    Raises:
        StageError: If an id is outside the table.
    """
    counts = np.zeros(rows, np.int64)
    for array in arrays:
        ids = np.asarray(array).astype(np.int64).ravel()
        if ids.size and not 0 <= ids.min() <= ids.max() < rows:
            wrong = ids.min() if ids.min() < 0 else ids.max()
            raise StageError(f"The training examples have the id {wrong}, but {where} has the rows 0 to {rows - 1}.")
        counts += np.bincount(ids, minlength=rows)
    return counts


def renumber(counts: Array, *, special: int, unknown: int, vocabulary: int, min_count: int) -> Array:
    """The new id of each old one, shape (rows,), int32.

    Args:
        counts: How often each id occurs, shape (rows,).
        special: So many first ids stay as they are.
        unknown: What dropped ids become, one of the special ones.
        vocabulary: Keep at most so many ids, special ones included, the most frequent ones; 0 for any number.
        min_count: Keep ids that occur at least so often.
    """
    ids = np.arange(len(counts))
    kept = (ids < special) | (counts >= min_count)
    if vocabulary:
        frequent = np.lexsort((ids, -counts))  # of equally frequent ones, the lower id
        others = [token for token in frequent if kept[token] and token >= special]
        kept[others[max(vocabulary - special, 0) :]] = False
    new = np.cumsum(kept) - 1
    return np.where(kept, new, unknown).astype(np.int32)


def kept_ids(new_ids: Array, unknown: int) -> Array:
    """The old ids that stay, in order, as `renumber` numbers them."""
    return np.flatnonzero((new_ids != unknown) | (np.arange(len(new_ids)) == unknown))


def shrink_rows(table: Array, counts: Array, new_ids: Array, unknown: int, *, merge: bool) -> tuple[Array, Array]:
    """The rows and counts of the ids that stay.

    With `merge`, the row of unknown words becomes the mean of its own and all dropped rows, weighted by their counts:
    what the model would have read on average.

    Args:
        table: Shape (rows, width).
        counts: Shape (rows,).
        new_ids: Of `renumber`.
        unknown: The id of dropped words.
        merge: Whether dropped rows go into the row of unknown words.
    """
    kept = kept_ids(new_ids, unknown)
    rows = np.array(table[kept], np.float64)
    joined = np.flatnonzero(new_ids == unknown)
    weights = counts[joined]
    if merge and len(joined) > 1 and weights.sum():
        rows[unknown] = np.average(table[joined], axis=0, weights=weights)
    new_counts = np.bincount(new_ids, weights=counts, minlength=len(kept))
    return rows, new_counts
