"""Drawing without a screen, with one style."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgelstm.errors import MissingExtraError
from edgelstm.training.folders import write_complete

BLUE, ORANGE, GREEN, GREY = "#2a6f97", "#d9822b", "#4c8c4a", "#8a8f98"


def new_figure(width: float, height: float) -> Any:
    """Returns an empty figure that is drawn into files only.

    Args:
        width: In inches, at 100 dots each.
        height: The same.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError('Pictures need matplotlib: pip install "edgelstm[train]".') from error
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure as PNG.

    Raises:
        OutputError: If it cannot be written.
    """
    write_complete(path, lambda file: figure.savefig(file, format="png"))
