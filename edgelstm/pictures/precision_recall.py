"""Precision against recall."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.pictures.base import BLUE, GREY, ORANGE, new_figure, save_figure


def draw_precision_recall(y: npt.NDArray[Any], probabilities: npt.NDArray[Any], threshold: float, path: Path) -> None:
    """Draws what precision goes with which recall, and where a threshold stands.

    Args:
        y: 0 or 1, shape (n,), 1 at least once.
        probabilities: Of 1, shape (n,).
        threshold: Where the alarm is raised: probability > threshold.
        path: The PNG.
    """
    order = np.argsort(-probabilities, kind="stable")
    last = np.append(np.diff(probabilities[order]) < 0, True)
    hits, counts = np.cumsum(y[order] == 1)[last], np.flatnonzero(last) + 1
    total = max(1, int((y == 1).sum()))
    figure = new_figure(4.6, 4.2)
    axis = figure.subplots()
    axis.step(hits / total, hits / counts, where="post", color=BLUE, label="model")
    axis.axhline(total / len(y), color=GREY, linestyle=":", label="always an alarm")
    alarms = probabilities > threshold
    if alarms.any():
        right = int((y[alarms] == 1).sum())
        label = f"threshold {threshold:.3f}"
        axis.plot(right / total, right / alarms.sum(), "o", color=ORANGE, label=label)
    axis.set_xlim(0, 1.02)
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("recall")
    axis.set_ylabel("precision")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    save_figure(figure, path)
