"""Which channels of a model's tensors must go or stay together."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Axes = dict[int, Ids]


class Ties:
    """Numbers for channels, from 1 on, and what was found out about them; 0 is a channel that cannot be cut.

    A union-find: tied channels have one root.
    """

    def __init__(self) -> None:
        self._parents = [0]
        self._reasons: dict[int, str] = {}

    def new(self, count: int) -> Ids:
        """Returns numbers for new channels, shape (count,)."""
        ids = np.arange(len(self._parents), len(self._parents) + count)
        self._parents.extend(ids.tolist())
        return ids

    def tie(self, first: Ids, second: Ids, reason: str) -> None:
        """Ties channels in pairs.

        Args:
            first: Shape (n,).
            second: Shape (n,).
            reason: Why a channel paired with 0 must stay, a clause.
        """
        for left, right in set(zip(first.tolist(), second.tolist(), strict=True)):
            if left and right:
                self._parents[self._root(left)] = self._root(right)
            elif left or right:
                self._reasons.setdefault(left or right, reason)

    def keep(self, ids: Ids, reason: str) -> None:
        """Notes that channels must stay, and why, a clause."""
        for each in set(ids.tolist()) - {0}:
            self._reasons.setdefault(each, reason)

    def roots(self) -> Ids:
        """Returns the root of every number, shape (numbers,)."""
        return np.array([self._root(each) for each in range(len(self._parents))])

    def reasons(self) -> dict[int, str]:
        """Returns why channels must stay, by root; the first reason where there are several."""
        found: dict[int, str] = {0: "it is no unit"}
        for each, reason in self._reasons.items():
            found.setdefault(self._root(each), reason)
        return found

    def all_stay(self, ids: Ids) -> bool:
        """Whether it is known of all of these channels that they must stay."""
        stay = {self._root(each) for each in self._reasons} | {0}
        return {self._root(each) for each in set(ids.tolist())} <= stay

    def _root(self, each: int) -> int:
        while self._parents[each] != each:
            self._parents[each] = each = self._parents[self._parents[each]]
        return each


def ids_or_zeros(axes: Axes, axis: int, size: Any) -> Ids:
    """Returns the numbers along an axis, zeros where it has none."""
    return axes[axis] if axis in axes else np.zeros(size, np.int64)
