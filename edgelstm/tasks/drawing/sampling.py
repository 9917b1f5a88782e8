"""Draws pictures with a converted file, one call for each pixel. Needs numpy and a runtime, no TensorFlow."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import LoadError, SettingError
from edgelstm.tasks.base import Array
from edgelstm.tasks.drawing.bits import as_probabilities
from edgelstm.tasks.drawing.canvas import FILE, Canvas

Step = Callable[[Array], Array]
"""Takes what the next step sees, float32, shape (batch, features); returns answers, shape (batch, levels or 1)."""

GAP = 128
"""Grey of the lines between pictures, 0 to 255."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Pictures that were drawn.

    Attributes:
        images: Values of pixels, int32, shape (count, height, width).
        values: Values in the order of drawing, int32, shape (count, steps).
        probabilities: What the model said before each pixel was drawn, float64, shape (count, steps, levels).
        levels: Number of values of a pixel.
    """

    images: Array
    values: Array
    probabilities: Array
    levels: int

    def save(self, path: Path) -> None:
        """Writes them side by side into a PNG file, in a grid that is about square.

        Raises:
            OutputError: If it cannot be written.
        """
        from edgelstm.training.folders import write_complete

        grey = np.rint(self.images * (255 / (self.levels - 1))).astype(np.uint8)
        content = png(grid(grey))
        write_complete(path, lambda file: file.write_bytes(content))


def draw_samples(
    folder: str | Path, file: str | Path, *, count: int = 16, seed: int = 0, temperature: float = 1.0
) -> Samples:
    """Draws pictures with a streaming file of a run of the task "pixels".

    Args:
        folder: The run's folder, whose canvas.json tells what is drawn.
        file: The .tflite file, converted with --streaming.
        count: How many pictures.
        seed: Seed of the chances; a picture depends on it and on its own number, not on how many are drawn.
        temperature: 1 draws values as probable as the model says; less prefers probable ones, 0 takes the most
            probable one always; more evens them out.

    Raises:
        LoadError: If the folder or the file cannot be read, or they do not fit.
        SettingError: If count or temperature is impossible.
    """
    import edgelstm

    canvas = Canvas.load(Path(folder) / FILE)
    model = edgelstm.load(file)
    batch = _checked_batch(model, canvas, file)
    (source,), (output,) = model.inputs, model.outputs

    def begin() -> Step:
        model.reset()
        return step

    def step(x: Array) -> Array:
        answer = model({source.name: x[:, np.newaxis]})[output.name][:, 0]
        return answer if output.scale is None else output.dequantize(answer)

    return draw(canvas, begin, batch, count=count, seed=seed, temperature=temperature)


def draw(
    canvas: Canvas, begin: Callable[[], Step], batch: int, *, count: int, seed: int, temperature: float
) -> Samples:
    """Draws pictures with anything that answers step by step.

    Args:
        canvas: What is drawn.
        begin: Puts states to zero and returns the function that does a step.
        batch: Pictures that it draws at a time; superfluous ones of the last time are dropped.
        count: As for `draw_samples`.
        seed: The same.
        temperature: The same.

    Raises:
        SettingError: If count or temperature is impossible.
    """
    if count < 1:
        raise SettingError(f"count is {count}, but at least 1 picture must be drawn.")
    if not (np.isfinite(temperature) and temperature >= 0):
        raise SettingError(f"temperature is {temperature}, but must be 0 or more.")
    values = np.zeros((count, canvas.num_steps), np.int32)
    probabilities = np.zeros((count, canvas.num_steps, canvas.levels))
    chances = np.stack([np.random.default_rng((seed, index)).random(canvas.num_steps) for index in range(count)])
    for first in range(0, count, batch):
        rows = np.arange(first, min(first + batch, count))
        padded = np.resize(rows, batch)
        step = begin()
        for index in range(canvas.num_steps):
            answers = step(canvas.inputs(values[padded])[:, index])
            probabilities[rows, index] = as_probabilities(answers)[: len(rows)]
            values[rows, index] = _choose(probabilities[rows, index], chances[rows, index], temperature)
    return Samples(canvas.images(values), values, probabilities, canvas.levels)


def grid(pictures: Array, columns: int | None = None) -> Array:
    """Returns pictures side by side, enlarged to at least 64 pixels, with lines between them.

    Args:
        pictures: Grey values, uint8, shape (count, height, width).
        columns: Pictures in a row; about as many as rows if None.

    Returns:
        uint8, shape (rows, columns).
    """
    count, height, width = pictures.shape
    factor = max(1, -(-64 // max(height, width)))
    large = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    large = np.pad(large, ((0, 0), (2, 2), (2, 2)), constant_values=GAP)
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    missing = np.full((rows * columns - count, *large.shape[1:]), GAP, np.uint8)
    cells = np.concatenate([large, missing]).reshape(rows, columns, *large.shape[1:])
    joined: Array = cells.transpose(0, 2, 1, 3).reshape(rows * large.shape[1], columns * large.shape[2])
    return joined


def png(picture: Array) -> bytes:
    """Returns a grey picture as the content of a PNG file.

    Args:
        picture: uint8, shape (height, width).

    Source: W3C, "Portable Network Graphics (PNG) Specification", sections 5 and 11.2: 8 bits, grey, no filter.
    """
    height, width = picture.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = np.pad(picture, ((0, 0), (1, 0))).tobytes()  # each line begins with the number of its filter, 0
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


def _choose(probabilities: Array, chances: Array, temperature: float) -> Array:
    """Values for chances from 0 to 1."""
    if temperature == 0:
        most: Array = probabilities.argmax(axis=-1)
        return most
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities) / temperature
    weights = np.exp(logs - logs.max(axis=-1, keepdims=True))
    sums = weights.cumsum(axis=-1)
    chosen: Array = (chances[:, np.newaxis] * sums[:, -1:] >= sums).sum(axis=-1)
    least: Array = np.minimum(chosen, probabilities.shape[-1] - 1)
    return least


def _checked_batch(model: Any, canvas: Canvas, file: str | Path) -> int:
    """The batch size of a file that fits a canvas."""
    if not model.streaming:
        raise LoadError(
            f"{file} takes whole sequences, and drawing needs one step at a time: convert it with --streaming."
        )
    shapes = [info.shape for info in (*model.inputs, *model.outputs)]
    expected = [(1, canvas.num_features), (1, 1 if canvas.levels == 2 else canvas.levels)]
    if [shape[1:] for shape in shapes] != expected:
        raise LoadError(
            f"{file} is no file of this run with one step per call: its inputs and outputs are {shapes}, and "
            f"{[(1, *shape) for shape in expected]} are needed."
        )
    return max(1, int(shapes[0][0]))
