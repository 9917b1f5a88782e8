"""Pictures of architectures: layers as boxes, from inputs at the top to outputs at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.pictures.base import BLUE, GREEN, GREY, ORANGE, new_figure, save_figure
from edgelstm.pictures.layout import Edge, Point, place

_BOX_WIDTH, _BOX_HEIGHT = 2.2, 0.62
_COLUMN, _ROW = 2.4, 0.95
"""Inches: of a box, and from one box to the next."""

_LINE = 33
"""Characters in a line of a box, at most."""

_NARROWEST = 3.2

_RECURRENT = ("LSTM", "Bidirectional", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


@dataclass(frozen=True)
class Box:
    """A layer where it is called.

    Attributes:
        name: Its name.
        kind: Its class; for a layer around another one both.
        shape: Of its output, the batch left out.
        num_parameters: Its own, 0 where a layer is called again.
        color: Of its border.
    """

    name: str
    kind: str
    shape: str
    num_parameters: int
    color: str

    @property
    def lines(self) -> tuple[str, str, str]:
        """What is written into the box."""
        parameters = f" · {self.num_parameters:,} parameters" if self.num_parameters else ""
        return _shorten(self.name), _shorten(self.kind), _shorten(f"{self.shape}{parameters}")


def draw_architecture(model: Any, path: Path) -> None:
    """Draws the layers of a functional model with their output shapes and numbers of parameters.

    Masks, which Keras passes along by itself, are not drawn; a model inside the model is one box.

    Args:
        model: A built functional Keras model.
        path: The PNG.
    """
    boxes, edges = read_graph(model)
    places, passing = place(len(boxes), edges)
    points = [*places, *(point for chain in passing.values() for point in chain)]
    left = min(x for x, _ in points) - 0.5
    columns, rows = max(x for x, _ in points) + 0.5 - left, max(y for _, y in points) + 1
    figure = new_figure(max(columns * _COLUMN + 0.2, _NARROWEST), rows * _ROW + 0.65)
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set_xlim(left * _COLUMN, (left + columns) * _COLUMN)
    axis.set_ylim((rows - 0.5) * _ROW, -_ROW / 2)
    axis.set_aspect("equal")
    for edge in edges:
        _draw_arrow(axis, [places[edge[0]], *passing[edge], places[edge[1]]])
    for box, where in zip(boxes, places, strict=True):
        _draw_box(axis, box, where)
    title = f"{_shorten(model.name)}\n{model.count_params():,} parameters"
    figure.suptitle(title, fontsize=10, color="#222222")
    save_figure(figure, path)


def read_graph(model: Any) -> tuple[list[Box], list[Edge]]:
    """Reads what leads to the outputs of a functional model.

    Returns:
        Calls of layers, each after those whose results it takes; and pairs of their numbers.
    """
    boxes: list[Box] = []
    numbers: dict[int, int] = {}
    edges: list[Edge] = []
    seen: set[int] = set()
    outputs = {id(tensor._keras_history.operation) for tensor in model.outputs}

    def visit(tensor: Any) -> int:
        layer, index, _ = tensor._keras_history
        node = layer._inbound_nodes[index]
        if id(node) not in numbers:
            sources = sorted({visit(source) for source in _sources(node)})
            numbers[id(node)] = number = len(boxes)
            edges.extend((source, number) for source in sources)
            own = 0 if id(layer) in seen else _num_parameters(layer)
            seen.add(id(layer))
            shape = _shape([output.shape for output in node.output_tensors])
            boxes.append(Box(layer.name, _kind(layer), shape, own, _color(layer, id(layer) in outputs)))
        return numbers[id(node)]

    for tensor in (*model.inputs, *model.outputs):
        visit(tensor)
    return boxes, edges


def _sources(node: Any) -> list[Any]:
    """What a call takes, without masks."""
    masks = {id(mask) for mask in _flat(node.arguments.kwargs.get("mask"))}
    given = {id(tensor) for tensor in _flat(node.arguments.args)}
    return [tensor for tensor in node.arguments.keras_tensors if id(tensor) not in masks or id(tensor) in given]


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [item for each in value for item in _flat(each)]
    return [] if value is None else [value]


def _num_parameters(layer: Any) -> int:
    return int(layer.count_params()) if hasattr(layer, "count_params") else 0


def _kind(layer: Any) -> str:
    inner = getattr(layer, "forward_layer", None) or getattr(layer, "layer", None)
    kind = type(layer).__name__
    if kind in ("Functional", "Sequential"):
        return f"model of {len(layer.layers)} layers"
    if kind == "InputLayer":
        return f"input, {layer.dtype}"
    return f"{kind}({_kind(inner)})" if inner is not None else kind


def _shape(shapes: Sequence[Sequence[int | None]]) -> str:
    texts = [" x ".join("any" if size is None else str(size) for size in shape[1:]) or "1" for shape in shapes]
    return ", ".join(dict.fromkeys(texts))


def _color(layer: Any, is_output: bool) -> str:
    if type(layer).__name__ == "InputLayer":
        return GREEN
    if is_output:
        return ORANGE
    return BLUE if _kind(layer).partition("(")[0] in _RECURRENT else GREY


def _draw_box(axis: Any, box: Box, where: Point) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y = where[0] * _COLUMN, where[1] * _ROW
    corner = (x - _BOX_WIDTH / 2, y - _BOX_HEIGHT / 2)
    style: dict[str, Any] = {
        "boxstyle": "round,pad=0,rounding_size=0.06",
        "facecolor": "white",
        "linewidth": 1.3,
        "zorder": 2,
    }
    axis.add_patch(FancyBboxPatch(corner, _BOX_WIDTH, _BOX_HEIGHT, edgecolor=box.color, **style))
    for line, offset, weight in zip(box.lines, (-0.19, 0.0, 0.19), ("bold", "normal", "normal"), strict=True):
        axis.text(x, y + offset, line, ha="center", va="center", fontsize=8, weight=weight, color="#333333", zorder=3)


def _draw_arrow(axis: Any, points: Sequence[Point]) -> None:
    """From the lower border of the first box, straight through the points between, to the upper border of the last."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Line

    corners = [(points[0][0] * _COLUMN, points[0][1] * _ROW + _BOX_HEIGHT / 2)]
    for x, y in points[1:-1]:
        corners += [(x * _COLUMN, (y - 0.35) * _ROW), (x * _COLUMN, (y + 0.35) * _ROW)]
    corners.append((points[-1][0] * _COLUMN, points[-1][1] * _ROW - _BOX_HEIGHT / 2))
    style: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 9,
        "color": GREY,
        "linewidth": 1,
        "joinstyle": "round",
    }
    axis.add_patch(FancyArrowPatch(path=Line(corners), shrinkA=0, shrinkB=0, zorder=1, **style))


def _shorten(text: str) -> str:
    return text if len(text) <= _LINE else text[: _LINE - 1] + "…"
