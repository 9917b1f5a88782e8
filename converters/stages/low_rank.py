"""Matrices as products of two narrow ones: which rank, at which error.

The matrix that is least wrong for the data is sought, not the one nearest to the weights: of all W' of rank r, the one
with the least ||X (W - W')||_F for inputs X. With X'X = L L' this norm is ||L' (W - W')||_F, so that
Eckart and Young (1936) apply to L'W = U diag(s) V': the least error is sqrt(s[r]^2 + s[r+1]^2 + ...), and
W' = W V_r V_r' reaches it. Sources: C. Eckart and G. Young, The approximation of one matrix by another of lower rank,
1936; P. Chen et al., DRONE: Data-aware low-rank compression for large NLP models, 2021; Y.-C. Hsu et al., Language
model compression with weighted low-rank factorization, 2022 (the same with a diagonal X'X).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# A share of squared singular values below which nothing is left to keep: float32 weights are no more exact.
_ROUNDING = 1e-10
# Added to X'X, as a share of its mean diagonal: inputs that the data never use keep a say, however small.
_RIDGE = 1e-9


class LowRank:
    """A matrix, to be cut down to any rank.

    Args:
        matrix: Shape (rows, columns).
        moment: X'X of the inputs, shape (rows, rows), or its diagonal, shape (rows,); None for the identity, so that
            the error is that of the weights.

    Attributes:
        values: Singular values of L'W, largest first.
    """

    def __init__(self, matrix: Array, moment: Array | None = None) -> None:
        self.matrix = np.asarray(matrix, np.float64)
        _, self.values, self._basis = np.linalg.svd(_root(self.matrix, moment), full_matrices=False)

    @property
    def full(self) -> int:
        """The rank at which nothing is lost."""
        return len(self.values)

    def rank_for(self, energy: float) -> int:
        """The least rank that keeps a share of the sum of squared singular values."""
        squares = self.values**2
        if not squares.sum():
            return 1
        lost = 1 - np.cumsum(squares) / squares.sum()
        return int(np.argmax(lost <= 1 - energy + _ROUNDING)) + 1

    def error(self, rank: int) -> float:
        """The error ||X (W - W')||_F at a rank, by theory."""
        return float(np.sqrt((self.values[rank:] ** 2).sum()))

    def kept(self, rank: int) -> float:
        """The share of the sum of squared singular values that a rank keeps."""
        total = float((self.values**2).sum())
        return float((self.values[:rank] ** 2).sum()) / total if total else 1.0

    def factors(self, rank: int) -> tuple[Array, Array]:
        """The two factors: shapes (rows, rank) and (rank, columns), float64.

        Both carry the square root of the singular values. So neither one has columns much larger than others, which a
        scale common to all would otherwise have to cover once the model is quantized.
        """
        basis, values = self._basis[:rank], self.values[:rank]
        size = np.sqrt(np.maximum(values, 1e-6 * values[0])) if values[0] else np.ones(rank)
        return self.matrix @ basis.T / size, size[:, None] * basis

    def cut(self, rank: int) -> Array:
        """The matrix of a rank, W'."""
        left, right = self.factors(rank)
        return np.asarray(left @ right)


def _root(matrix: Array, moment: Array | None) -> Array:
    """L'W for X'X = L L'; sums in float32 may have given the moment squares a little below zero."""
    if moment is None:
        return matrix
    moment = np.asarray(moment, np.float64)
    ridge = _RIDGE * (moment if moment.ndim == 1 else np.diag(moment)).mean() or 1.0
    if moment.ndim == 1:
        return np.sqrt(moment + ridge)[:, None] * matrix
    squares, axes = np.linalg.eigh(moment)
    return np.asarray(np.sqrt(np.maximum(squares, 0) + ridge)[:, None] * (axes.T @ matrix))


def saves(rank: int, rows: int, columns: int) -> bool:
    """Whether two factors have fewer numbers than the matrix."""
    return rank * (rows + columns) < rows * columns


def largest_saving(rows: int, columns: int) -> int:
    """The largest rank at which two factors have fewer numbers than the matrix; 0 where there is none."""
    return (rows * columns - 1) // (rows + columns)
