"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelstm.pictures.base import BLUE, GREY, ORANGE, new_figure, save_figure

_FEW_EPOCHS = 20
"""Fewer are marked by points: a line needs two."""


def draw_curves(history: Sequence[Mapping[str, float]], best_epoch: int, objective: Any, path: Path) -> None:
    """Draws loss, metrics and gradient norm over epochs, training and validation.

    Args:
        history: Figures of each epoch, as `training.fitting.fit` returns them.
        best_epoch: The epoch whose weights were kept, from 0 on.
        objective: Of the task: its metrics are drawn.
        path: The PNG.
    """
    names = ["loss", *objective.metrics]
    figure = new_figure(4.5 * (len(names) + 1), 3.6)
    axes = figure.subplots(1, len(names) + 1)
    epochs = range(1, len(history) + 1)
    marker = "o" if len(history) < _FEW_EPOCHS else ""
    for axis, name in zip(axes, names, strict=False):
        for figure_name, color, label in ((name, BLUE, "training"), (f"val_{name}", ORANGE, "validation")):
            axis.plot(epochs, [each[figure_name] for each in history], color=color, marker=marker, ms=3, label=label)
        axis.axvline(best_epoch + 1, color=GREY, linestyle=":", label="weights kept")
        axis.set_title(name.replace("_", " "))
        axis.legend(frameon=False)
    norms = axes[-1]
    for name, color, label in (("gradient_norm", BLUE, "median"), ("gradient_norm_max", ORANGE, "maximum")):
        norms.plot(epochs, [figures[name] for figures in history], color=color, marker=marker, ms=3, label=label)
    if any(figures["gradient_norm_max"] > 0 for figures in history):
        norms.set_yscale("log")
        for formatter in (norms.yaxis.set_major_formatter, norms.yaxis.set_minor_formatter):
            formatter(_write_tick)
    norms.set_title("global norm of gradients")
    norms.legend(frameon=False)
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.set_xlim(0.5, len(history) + 0.5)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _write_tick(value: float, _: int) -> str:
    """Labels 1, 2 and 5 of each order of magnitude."""
    digits = f"{value:.3e}"
    return f"{value:g}" if digits[0] in "125" and digits[1:5] == ".000" else ""
