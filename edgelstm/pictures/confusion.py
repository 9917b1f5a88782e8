"""Confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.pictures.base import new_figure, save_figure

_LONGEST = 24
"""Characters of a label."""


def draw_confusion(y: npt.NDArray[Any], decisions: npt.NDArray[Any], labels: Sequence[str], path: Path) -> None:
    """Draws how often each class was taken for each other one.

    Args:
        y: Class numbers, shape (n,).
        decisions: What was decided, shape (n,).
        labels: Names of the classes.
        path: The PNG.
    """
    count = len(labels)
    matrix = np.zeros((count, count), int)
    np.add.at(matrix, (y, decisions), 1)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    size = min(12.0, 2.5 + 0.5 * count) + min(_LONGEST, max(map(len, labels))) / 14
    figure = new_figure(size + 0.6, size)
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axis, fraction=0.046, label="share of the class")
    names = [_shorten(label) for label in labels]
    axis.set_xticks(range(count), names, rotation=45 if count > 2 else 0, ha="right" if count > 2 else "center")
    axis.set_yticks(range(count), names)
    axis.set_xlabel("decided")
    axis.set_ylabel("is")
    if count <= 20:
        for row, column in np.ndindex(count, count):
            color = "white" if shares[row, column] > 0.5 else "black"
            if not matrix[row, column]:
                continue
            axis.text(column, row, matrix[row, column], ha="center", va="center", color=color, fontsize=8)
    save_figure(figure, path)


def _shorten(label: str) -> str:
    """Cuts out the middle: names of classes often begin alike."""
    half = _LONGEST // 2
    return label if len(label) <= _LONGEST else f"{label[: half - 1]}…{label[-half:]}"
