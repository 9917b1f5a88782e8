"""Short clips of a moving shape, made from a seed; the class is how it moves.

A bright shape of random form, colour and size goes left, right, up or down, circles clockwise or counterclockwise, or
grows or shrinks, over a dark background that shades from one colour to another, with noise. What leaves
the picture on one side comes back on the other, and what has grown or shrunk to the limit begins anew. So place and
size are equally distributed in every class and at every time: no single frame tells the class, and no set of frames
without its order tells left from right.
"""

from __future__ import annotations

import numpy as np

from edgelstm.tasks.base import Array

MOTIONS = ("left", "right", "up", "down", "clockwise", "counterclockwise", "growing", "shrinking")

_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
# In pixels of a picture of 32 pixels, per frame where it is a speed.
_SIDE = 32
_RADIUS = (3.0, 7.0)
_SPEED = (1.0, 2.0)
_ORBIT = (6.0, 9.0)
_TURN = (0.2, 0.4)  # radians
_GROWTH = (0.25, 0.5)
_NOISE = 6.0  # of 255


def write_clips(count: int, seed: tuple[int, ...], frames: int, size: int) -> tuple[Array, Array]:
    """Draws clips, each class as often as the others.

    Args:
        count: Clips.
        seed: Numbers that everything random follows from.
        frames: Frames of a clip.
        size: Side of a frame in pixels.

    Returns:
        Pixels, uint8, shape (count, frames, size, size, 3), and the numbers of the motions, int32, shape (count,).
    """
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.arange(count) % len(MOTIONS)).astype(np.int32)
    clips = np.empty((count, frames, size, size, 3), np.uint8)
    for number, motion in enumerate(y):
        clips[number] = _draw(MOTIONS[motion], generator, frames, size)
    return clips, y


def _draw(motion: str, generator: np.random.Generator, frames: int, size: int) -> Array:
    """One clip, uint8, shape (frames, size, size, 3)."""
    centers, radii = _path(motion, generator, frames)
    cover = _cover(int(generator.integers(4)), centers, radii, size)[..., np.newaxis]
    picture = (1 - cover) * _background(generator, size) + cover * generator.uniform(130, 255, 3)
    noisy = picture + generator.normal(0, _NOISE, picture.shape)
    pixels: Array = np.clip(noisy, 0, 255).astype(np.uint8)
    return pixels


def _path(motion: str, generator: np.random.Generator, frames: int) -> tuple[Array, Array]:
    """Centers (x, y), shape (frames, 2), and radii, shape (frames,), of the moving shape."""
    time = np.arange(frames)
    low, high = _RADIUS
    start = generator.uniform(0, _SIDE, 2)
    radius = generator.uniform(low, high)
    speed, orbit, turn, growth = (generator.uniform(*limits) for limits in (_SPEED, _ORBIT, _TURN, _GROWTH))
    angle = generator.uniform(0, 2 * np.pi)
    centers, radii = np.broadcast_to(start, (frames, 2)), np.full(frames, radius)
    if motion in _DIRECTIONS:
        centers = start + np.outer(time * speed, _DIRECTIONS[motion])
    elif motion in ("clockwise", "counterclockwise"):
        # y points down, so growing angles go clockwise.
        angles = angle + time * (turn if motion == "clockwise" else -turn)
        centers = start + orbit * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    else:
        growth = growth if motion == "growing" else -growth
        radii = low + (radius - low + time * growth) % (high - low)
    return centers, radii


def _cover(form: int, centers: Array, radii: Array, size: int) -> Array:
    """How much of each pixel a disc, square, diamond or ring covers, from 0 to 1, shape (frames, size, size)."""
    middles = (np.arange(size) + 0.5) * _SIDE / size
    # Distances around the edges: what leaves on one side comes back on the other.
    x, y = ((middles - centers[:, axis, np.newaxis] + _SIDE / 2) % _SIDE - _SIDE / 2 for axis in (0, 1))
    x, y = np.abs(x)[:, np.newaxis, :], np.abs(y)[:, :, np.newaxis]
    radius = radii[:, np.newaxis, np.newaxis]
    round_distance = np.sqrt(x**2 + y**2)
    distance = (
        round_distance - radius,
        np.maximum(x, y) - 0.9 * radius,
        (x + y) / np.sqrt(2) - 0.9 * radius,
        np.abs(round_distance - 0.75 * radius) - 0.3 * radius,
    )[form]
    covered: Array = np.clip(0.5 - distance * size / _SIDE, 0, 1)
    return covered


def _background(generator: np.random.Generator, size: int) -> Array:
    """A dark picture that shades from one colour to another, shape (size, size, 3)."""
    first, second = generator.uniform(0, 60, (2, 3))
    angle = generator.uniform(0, 2 * np.pi)
    place = (np.arange(size) + 0.5) / size - 0.5
    slope = np.cos(angle) * place[np.newaxis, :] + np.sin(angle) * place[:, np.newaxis]
    share = (slope / np.sqrt(2) + 0.5)[..., np.newaxis]
    picture: Array = (1 - share) * first + share * second
    return picture
