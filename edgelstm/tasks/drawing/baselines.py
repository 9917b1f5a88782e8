"""Simple ways to tell pixels, to be compared with an LSTM; each counts in the training split alone."""

from __future__ import annotations

import numpy as np

from edgelstm.tasks.base import Array

NUM_NEIGHBOURS = 10
_MOST_CONTEXT_LEVELS = 4


def independent(train: Array, test: Array, levels: int) -> Array:
    """How often a pixel at this place has each value, whatever the others are.

    Args:
        train: Values, int, shape (n, height, width).
        test: The same, shape (m, height, width).
        levels: Number of values.

    Returns:
        Probabilities, shape (m, height, width, levels). Counts begin at 1 (Laplace).
    """
    counts = np.stack([(train == value).sum(axis=0) for value in range(levels)], axis=-1) + 1.0
    shares = counts / counts.sum(axis=-1, keepdims=True)
    return np.broadcast_to(shares, (len(test), *shares.shape))


def contexts(train: Array, test: Array, levels: int) -> Array:
    """How often each value follows on the pixels to the left, above to the left, above, and above to the right.

    More than four values are seen in four groups there. Arguments and result as for `independent`.
    """
    counts = np.ones((5**4, levels))
    np.add.at(counts, (_contexts(train, levels).reshape(-1), train.reshape(-1)), 1)
    shares: Array = counts / counts.sum(axis=-1, keepdims=True)
    return shares[_contexts(test, levels)]


def nearest(train: Array, test: Array, levels: int, known_rows: int) -> Array:
    """What the training pictures have there whose known rows differ least. Else as `independent`."""
    known = [images[:, :known_rows].reshape(len(images), -1).astype(np.float32) for images in (train, test)]
    answers = []
    for picture in known[1]:
        distances = np.square(known[0] - picture).sum(axis=1)
        neighbours = train[np.argsort(distances, kind="stable")[:NUM_NEIGHBOURS]]
        answers.append(independent(neighbours, picture[np.newaxis], levels)[0])
    return np.stack(answers)


def _contexts(images: Array, levels: int) -> Array:
    """Numbers of contexts, shape of the images; outside of the picture is a value of its own."""
    coarse = images if levels <= _MOST_CONTEXT_LEVELS else images * _MOST_CONTEXT_LEVELS // levels
    padded = np.pad(coarse, ((0, 0), (1, 0), (1, 1)), constant_values=4)
    left, corner, above, other = padded[:, 1:, :-2], padded[:, :-1, :-2], padded[:, :-1, 1:-1], padded[:, :-1, 2:]
    numbers: Array = left + 5 * corner + 25 * above + 125 * other
    return numbers
