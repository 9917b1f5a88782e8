"""Forecasts against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.pictures.base import BLUE, GREY, ORANGE, new_figure, save_figure

_NUM_SEASONS = 10
_LARGEST, _SMALLEST = 400, 100


def draw_forecast(y: npt.NDArray[Any], forecasts: npt.NDArray[Any], target: str, path: Path, season: int = 1) -> None:
    """Draws the first stretch of a split: what happened, and what had been forecast.

    Args:
        y: What happened, shape (n, horizon), example by example one step later.
        forecasts: The same shape.
        target: Name of the quantity.
        path: The PNG.
        season: Steps in a season; ten of them are shown, within limits.
    """
    horizon = y.shape[1]
    shown = min(len(y), max(_SMALLEST, min(_LARGEST, _NUM_SEASONS * season)))
    figure = new_figure(11, 3.6)
    axis = figure.subplots()
    axis.plot(np.arange(shown), y[:shown, 0], color=GREY, label="actual")
    if horizon == 1:
        axis.plot(np.arange(shown), forecasts[:shown, 0], color=BLUE, label="forecast one step before")
    else:
        # One forecast after the other, each from the step at which it was made.
        for start in range(0, shown, horizon):
            steps = np.arange(start, min(start + horizon, shown))
            color, label = (BLUE, ORANGE)[start // horizon % 2], f"forecast {horizon} steps at once"
            axis.plot(steps, forecasts[start, : len(steps)], color=color, label=label if start < horizon else None)
            axis.axvline(start, color=GREY, linewidth=0.4)
    axis.set_xlabel("step of the test split")
    axis.set_ylabel(target)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    save_figure(figure, path)
