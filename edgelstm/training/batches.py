"""The batches of an epoch.

Their order and their variations follow from the seed alone, so that a training can go on where it was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgelstm.errors import SettingError
from edgelstm.tasks.base import Array, Setup, Split, Task


class Batches:
    """The training split in batches.

    Args:
        task: The task, which varies the examples.
        split: The training split.
        setup: Used are batch_size, class_weights and the seed.
        whole: Whether every batch must be full: the last one is filled up with examples of weight 0.

    Raises:
        SettingError: If class_weights is on and the task has no classes.
    """

    def __init__(self, task: Task, split: Split, setup: Setup, *, whole: bool = False) -> None:
        self._task = task
        self._split = split
        self._setup = setup
        self._size = setup.int("batch_size")
        self._whole = whole
        self._weights = task.objective.class_weights(split.y) if setup.on("class_weights") else None
        if setup.on("class_weights") and self._weights is None:
            raise SettingError(f"The setting 'class_weights' needs classes, and task {task.name!r} has none.")

    def __len__(self) -> int:
        return math.ceil(len(self._split) / self._size)

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[tuple[Split, Array | None]]:
        """Yields the batches of an epoch with the weights of their examples, None where all are 1.

        Args:
            epoch: Its number from 0 on.
            first: The batch to begin with.
        """
        order = self._generator(epoch).permutation(len(self._split))
        for batch in range(first, len(self)):
            indices = order[batch * self._size : (batch + 1) * self._size]
            weights = None if self._weights is None else self._weights[indices]
            missing = self._size - len(indices)
            if self._whole and missing:
                given = np.ones(len(indices), np.float32) if weights is None else weights
                weights = np.concatenate([given, np.zeros(missing, np.float32)])
                indices = np.concatenate([indices, np.resize(order, missing)])
            generator = self._generator(epoch, batch)
            yield self._task.augment(self._split.take(indices), generator, self._setup), weights

    def _generator(self, epoch: int, batch: int = -1) -> Any:
        # Numbers from 1 on: numpy takes (seed,), (seed, 0) and (seed, 0, 0) for the same, and data has the first.
        return np.random.default_rng((self._setup.seed, epoch + 1, batch + 1))
