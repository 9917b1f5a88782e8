"""How a picture becomes a sequence of pixels, in training and when it is drawn. Needs numpy alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from edgelstm.errors import LoadError
from edgelstm.tasks.base import Array

FILE = "canvas.json"
"""The file in a run's folder."""

START = -1.0
"""What stands for a pixel that is outside the picture or not drawn yet; pixels are from 0 to 1."""


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A picture drawn pixel by pixel, row by row.

    Attributes:
        height: In pixels.
        width: In pixels.
        levels: Number of values of a pixel; 0 is black, levels - 1 white.
        above: Whether a step sees the pixel above the one to be drawn, beside the one before it.
        scales: 2 if a picture of half the height and width is drawn first, and then a step sees its pixel at the same
            place; else 1.
    """

    height: int
    width: int
    levels: int
    above: bool
    scales: int

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each picture that is drawn, the one that counts last."""
        small = (-(-self.height // 2), -(-self.width // 2))
        return ((small,) if self.scales == 2 else ()) + ((self.height, self.width),)

    @property
    def num_steps(self) -> int:
        """Pixels of all pictures that are drawn."""
        return sum(height * width for height, width in self.shapes)

    @property
    def num_features(self) -> int:
        """Numbers that a step sees: the pixel before, the one above, the one of the small picture."""
        return 1 + int(self.above) + (self.scales - 1)

    def values(self, images: Array) -> Array:
        """Returns the values that are drawn one after the other.

        Args:
            images: Values from 0 to levels - 1, shape (n, height, width).

        Returns:
            int32, shape (n, num_steps): of the small picture, if there is one, then of the image.
        """
        parts = [images.reshape(len(images), -1)]
        if self.scales == 2:
            parts.insert(0, self._halved(images).reshape(len(images), -1))
        return np.concatenate(parts, axis=1).astype(np.int32)

    def images(self, values: Array) -> Array:
        """Returns the images in what `values` returned."""
        return values[:, -self.height * self.width :].reshape(len(values), self.height, self.width)

    def inputs(self, values: Array) -> Array:
        """Returns what each step sees; a step sees values of earlier steps only.

        Args:
            values: Shape (n, num_steps); those that are not drawn yet may be anything.

        Returns:
            float32, shape (n, num_steps, num_features).
        """
        brightness = values.astype(np.float32) / np.float32(self.levels - 1)
        parts, first, small = [], 0, None
        for height, width in self.shapes:
            drawn = brightness[:, first : first + height * width].reshape(-1, height, width)
            parts.append(self._inputs_of(drawn, small))
            small, first = drawn, first + height * width
        return np.concatenate(parts, axis=1)

    def _inputs_of(self, drawn: Array, small: Array | None) -> Array:
        count, height, width = drawn.shape
        features = np.full((count, height * width, self.num_features), START, np.float32)
        flat = drawn.reshape(count, -1)
        features[:, 1:, 0] = flat[:, :-1]
        if self.above:
            features[:, width:, 1] = flat[:, :-width]
        if small is not None:
            enlarged = small.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
            features[:, :, -1] = enlarged.reshape(count, -1)
        return features

    def _halved(self, images: Array) -> Array:
        """Rounded means of 2 x 2 pixels; an odd last row or column counts twice."""
        (height, width), _ = self.shapes
        padding = ((0, 0), (0, 2 * height - self.height), (0, 2 * width - self.width))
        padded = np.pad(images, padding, mode="edge")
        means = padded.reshape(-1, height, 2, width, 2).mean(axis=(2, 4))
        halved: Array = np.floor(means + 0.5)
        return halved

    def save(self, path: Path) -> None:
        """Writes it as JSON.

        Raises:
            OutputError: If it cannot be written.
        """
        from edgelstm.training.folders import write_json

        write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> Canvas:
        """Reads what `save` wrote.

        Raises:
            LoadError: If it is missing or damaged.
        """
        try:
            canvas = cls(**json.loads(path.read_text(encoding="utf-8")))
            sizes = (canvas.height, canvas.width, canvas.levels - 1, canvas.scales)
            if not all(type(size) is int and size >= 1 for size in sizes) or canvas.scales > 2:
                raise ValueError("a number in it is impossible")
        except OSError as error:
            raise LoadError(
                f"{path} cannot be read ({error.strerror or error}): give the folder of edgelstm train pixels, variant "
                "next or multiscale."
            ) from error
        except (TypeError, ValueError) as error:
            raise LoadError(f"{path} is damaged ({error}). Train anew.") from error
        return canvas
