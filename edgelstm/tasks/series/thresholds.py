"""The probability above which an alarm is raised."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

HALF = 0.5


def best_threshold(probabilities: npt.ArrayLike, y: npt.NDArray[Any]) -> float:
    """Finds the threshold with the highest f1.

    Args:
        probabilities: Of 1, n of them in any shape.
        y: 0 or 1, shape (n,).

    Returns:
        A threshold between two probabilities that occur, the lowest one of the best; a half if y is never 1 or there
        is nothing to choose from. It is meant for: probability > threshold.
    """
    values = np.asarray(probabilities, np.float64).reshape(-1)
    is_event = np.asarray(y).astype(bool)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    # After how many of the highest ones a threshold fits in between.
    counts = np.flatnonzero(np.diff(ranked) < 0) + 1
    if not is_event.any() or not len(counts):
        return HALF
    hits = np.cumsum(is_event[order])[counts - 1]
    f1 = 2 * hits / (counts + is_event.sum())
    best = int(counts[len(f1) - 1 - np.argmax(f1[::-1])])
    return float((ranked[best - 1] + ranked[best]) / 2)


def move_threshold(probabilities: npt.ArrayLike, threshold: float) -> npt.NDArray[np.float64]:
    """Stretches probabilities from 0 to 1 so that those above a threshold, between 0 and 1, are above a half.

    Their order stays, so figures of order, such as the area under the ROC curve, stay too.
    """
    values = np.asarray(probabilities, np.float64)
    above = HALF + HALF * (values - threshold) / (1 - threshold)
    return np.where(values > threshold, above, HALF * values / threshold)
