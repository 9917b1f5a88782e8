"""Tables whose values stand on the grid that a converted file has for them: 255 values, or 15 of these.

The converter stores a table as int8 with one scale for all rows, max|value| / 127 (GATHER hands rows on as they are
stored, so that there is no scale for each). Values that are whole multiples of that scale, the largest 127 of them,
are stored exactly. For 4 bits, level k of -7 to 7 is the multiple of that scale nearest to 127 k / 7.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.converters.loading.keras_import import import_keras

Array = npt.NDArray[Any]

_LARGEST = 127
_LEVELS = {8: 127, 4: 7}
# Where the grid may end, as shares of the largest value: with 15 levels, cutting off a few large values pays.
_ENDS = np.linspace(1, 0.3, 36)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Values that a table may have.

    Attributes:
        bits: 8 or 4.
        end: The largest value.
    """

    bits: int
    end: float

    @property
    def step(self) -> np.float32:
        """The scale of the stored int8 values."""
        return np.float32(self.end / _LARGEST)

    def round(self, table: Array) -> Array:
        """The nearest values on the grid, int8 multiples of `step`."""
        levels = _LEVELS[self.bits]
        nearest = np.clip(np.rint(np.asarray(table, np.float64) * (levels / self.end)), -levels, levels)
        return np.rint(nearest * (_LARGEST / levels)).astype(np.int8)

    def values(self, stored: Array) -> Array:
        """The float32 values of int8 multiples."""
        return stored.astype(np.float32) * self.step

    def round_to_end(self, table: Array) -> Array:
        """The nearest values, float32, with at least one at the end: the converter takes its scale from that."""
        stored = self.round(table)
        if stored.size and np.abs(stored).max() < _LARGEST:
            largest = np.unravel_index(np.argmax(np.abs(table)), table.shape)
            stored[largest] = _LARGEST if table[largest] >= 0 else -_LARGEST
        return self.values(stored)


def fit_grid(table: Array, weights: Array, bits: int) -> Grid:
    """The grid that is nearest to a table.

    Args:
        table: Shape (rows, width).
        weights: How much the error of each row counts, shape (rows,).
        bits: 8 or 4.
    """
    largest = float(np.abs(table).max(initial=0)) or 1.0
    weights = weights if weights.sum() else np.ones(len(table))

    def error(grid: Grid) -> float:
        return float((weights[:, None] * (table - grid.values(grid.round(table))) ** 2).sum())

    return min((Grid(bits, largest * share) for share in _ENDS), key=error)


def rounded_embedding(layer: Any, grid: Grid) -> Any:
    """Returns an Embedding like another, not built, that reads its table rounded to a grid.

    It learns as if it did not round (the straight-through estimator of Y. Bengio et al., 2013).
    """
    return _rounded_class()(grid, **layer.get_config())


@functools.cache
def _rounded_class() -> Any:
    keras = import_keras()

    class RoundedEmbedding(keras.layers.Embedding):  # type: ignore[misc, name-defined]
        def __init__(self, grid: Grid, **config: Any) -> None:
            super().__init__(**config)
            self._grid = grid

        def call(self, inputs: Any) -> Any:
            ops = keras.ops
            if inputs.dtype not in ("int32", "int64"):
                inputs = ops.cast(inputs, "int32")
            rows = ops.take(self.embeddings, inputs, axis=0)
            levels = _LEVELS[self._grid.bits]
            nearest = ops.clip(ops.round(rows * (levels / self._grid.end)), -levels, levels)
            rounded = ops.round(nearest * (_LARGEST / levels)) * self._grid.step
            return ops.cast(rows + ops.stop_gradient(rounded - rows), self.compute_dtype)

    return RoundedEmbedding
