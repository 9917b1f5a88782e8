"""Images as sequences, and back.

    rows      one row of pixels per step, from the top
    columns   one column of pixels per step, from the left
    frames    nine patches of half the side, overlapping by half, row by row

The pixels of a step stand side by side, each with its channels: red, green, blue of the first pixel, then of the
second. As planes, the steps of the red image come first, then those of the green one, then those of the blue one.
"""

from __future__ import annotations

import numpy as np

from edgelstm.tasks.base import Array

NUM_FRAMES = 9

_PLACES = [(row, column) for row in range(3) for column in range(3)]


def to_sequence(images: Array, kind: str, *, planes: bool = False) -> Array:
    """Cuts images into steps.

    Args:
        images: Square images, shape (n, size, size, channels); size a multiple of 4 for frames.
        kind: "rows", "columns" or "frames".
        planes: Whether the channels follow one another in time; rows and columns only.

    Returns:
        Shape (n, size, size * channels), as planes (n, channels * size, size), of frames
        (n, 9, size / 2, size / 2, channels).
    """
    count, size, _, channels = images.shape
    if kind == "frames":
        half, step = size // 2, size // 4
        patches = [images[:, step * r : step * r + half, step * c : step * c + half] for r, c in _PLACES]
        return np.stack(patches, axis=1)
    upright = images.swapaxes(1, 2) if kind == "columns" else images
    if planes:
        return np.ascontiguousarray(np.moveaxis(upright, 3, 1)).reshape(count, channels * size, size)
    return np.ascontiguousarray(upright).reshape(count, size, size * channels)


def to_images(sequences: Array, kind: str, channels: int, *, planes: bool = False) -> Array:
    """Undoes `to_sequence`."""
    count = len(sequences)
    if kind == "frames":
        half = sequences.shape[2]
        images = np.empty((count, 2 * half, 2 * half, channels), sequences.dtype)
        for patch, (r, c) in zip(sequences.swapaxes(0, 1), _PLACES, strict=True):
            top, left = r * half // 2, c * half // 2
            images[:, top : top + half, left : left + half] = patch
        return images
    if planes:
        size = sequences.shape[2]
        upright = np.moveaxis(sequences.reshape(count, channels, size, size), 1, 3)
    else:
        size = sequences.shape[1]
        upright = sequences.reshape(count, size, size, channels)
    return upright.swapaxes(1, 2) if kind == "columns" else upright


def vary(images: Array, generator: np.random.Generator, *, shift: int = 0, flip: bool = False) -> Array:
    """Moves each image by up to `shift` pixels, repeating its edge, and mirrors half of them from left to right.

    Args:
        images: Shape (n, height, width, channels).
        generator: Chooses.
        shift: Pixels in each direction, at most.
        flip: Whether to mirror.

    Returns:
        A copy of the same shape.
    """
    count, height, width, _ = images.shape
    varied = images.copy()
    if shift:
        padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
        for number, (top, left) in enumerate(generator.integers(0, 2 * shift + 1, (count, 2))):
            varied[number] = padded[number, top : top + height, left : left + width]
    if flip:
        mirrored = generator.random(count) < 0.5
        varied[mirrored] = varied[mirrored, :, ::-1]
    return varied
