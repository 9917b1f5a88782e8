"""Small pictures of coloured shapes, each with a question about one of them, from a seed; the answer is its colour.

A picture shows a ring and a square side by side, of two different colours out of four, on a grey, noisy ground. A
question names one of them by its form ("what colour is the ring?") or by its place ("what colour is the shape on the
left?"). A third of the questions also name the one that is not meant, before or after it: "not the ring but the shape
on the left, what colour?" There the order of the words decides.

Both shapes are equally likely to be meant, and colours are dealt at random. So the question alone says nothing about
the colour (chance is 1/4), and the picture alone only which two colours can be meant (1/2).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import numpy as np

from edgelstm.errors import SettingError
from edgelstm.tasks.base import Array

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.15, 0.15),
    "green": (0.15, 0.7, 0.2),
    "blue": (0.2, 0.3, 0.9),
    "yellow": (0.9, 0.85, 0.2),
}
FORMS = ("ring", "square")
PLACES = ("on the left", "on the right")
THINGS = ("shape", "one", "thing", "figure")

PLAIN = (
    "what colour is the {meant}?",
    "which colour has the {meant}?",
    "tell me the colour of the {meant}",
)
CORRECTED = (
    "not the {other} but the {meant}, what colour?",
    "the {meant}, not the {other}, what colour?",
    "what colour is the {meant}, not the {other}?",
)
CORRECTED_SHARE = 1 / 3

# In shares of the picture's side.
_RADII = (0.15, 0.2)
_HEIGHTS = (0.25, 0.75)
_JITTER = 0.03


@dataclasses.dataclass(frozen=True)
class Shape:
    """A shape: its form, the name of its colour, and where its middle is, in shares of the picture's side."""

    form: str
    colour: str
    x: float
    y: float
    radius: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture's shapes, a question, and the colour that it asks for.

    Attributes:
        shapes: The shapes from left to right.
        question: The question.
        colour: The right answer.
        corrected: Whether the question also names a shape that is not meant.
    """

    shapes: tuple[Shape, ...]
    question: str
    colour: str
    corrected: bool


def write_scenes(num_scenes: int, seed: int, split: str) -> list[Scene]:
    """Writes scenes.

    Args:
        num_scenes: How many.
        seed: The same seed writes the same scenes.
        split: Another name gives other scenes.

    Raises:
        SettingError: If num_scenes is below 1.
    """
    if num_scenes < 1:
        raise SettingError(f"num_{split}={num_scenes}: at least 1 picture is needed.")
    generator = random.Random(f"scenes {seed} {split}")
    return [_scene(generator) for _ in range(num_scenes)]


def draw_scene(shapes: Sequence[Shape], size: int, generator: np.random.Generator) -> Array:
    """Draws shapes on a noisy grey ground.

    Args:
        shapes: What to draw; later ones cover earlier ones.
        size: Pixels of a side.
        generator: Draws the brightness of the ground, the noise and the variation of the colours.

    Returns:
        Red, green and blue, uint8, shape (size, size, 3).
    """
    picture = np.full((size, size, 3), generator.uniform(0.2, 0.6))
    rows, columns = np.mgrid[:size, :size]
    x, y = (columns + 0.5) / size, (rows + 0.5) / size
    for shape in shapes:
        picture[_covered(shape, x, y)] = np.array(COLOURS[shape.colour]) + generator.uniform(-0.06, 0.06, 3)
    picture += generator.normal(0, 0.03, picture.shape)
    pixels: Array = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
    return pixels


def _scene(generator: random.Random) -> Scene:
    forms, colours = generator.sample(FORMS, len(FORMS)), generator.sample(tuple(COLOURS), len(FORMS))
    shapes = tuple(
        Shape(
            form,
            colour,
            (column + 0.5) / len(FORMS) + generator.uniform(-_JITTER, _JITTER),
            generator.uniform(*_HEIGHTS),
            generator.uniform(*_RADII),
        )
        for column, (form, colour) in enumerate(zip(forms, colours, strict=True))
    )
    meant, other = generator.sample(range(len(shapes)), 2)
    corrected = generator.random() < CORRECTED_SHARE
    question = generator.choice(CORRECTED if corrected else PLAIN).format(
        meant=_naming(shapes, meant, generator), other=_naming(shapes, other, generator)
    )
    return Scene(shapes, question, shapes[meant].colour, corrected)


def _naming(shapes: Sequence[Shape], number: int, generator: random.Random) -> str:
    """Names a shape by its place or by its form."""
    if generator.random() < 0.5:
        return f"{generator.choice(THINGS)} {PLACES[number]}"
    return shapes[number].form


def _covered(shape: Shape, x: Array, y: Array) -> Array:
    """Which pixels a shape covers: of a ring all but the inner half of its radius."""
    across, down, radius = np.abs(x - shape.x), np.abs(y - shape.y), shape.radius
    if shape.form == "ring":
        distance = np.hypot(across, down)
        covered: Array = (distance <= radius) & (distance > 0.5 * radius)
    else:
        covered = np.maximum(across, down) <= 0.9 * radius
    return covered
