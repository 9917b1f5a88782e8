"""What is learnt where the answer is a distribution over the values of each pixel: bits per pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.tasks.base import Array
from edgelstm.tasks.objectives import Objective

NOT_ASKED = -1
"""In y: the pixel is given, so it is neither learnt nor scored."""

EVEN_SHARE = 1 / 512
"""How much of the even distribution is mixed into answers before they are scored.

An int8 file rounds probabilities to 1/256, and a pixel that it calls impossible would cost infinitely many bits. The
mixture is a distribution too, so figures stay lengths of a code; it costs at most 0.003 bits per pixel.
"""

_SMALLEST = 1e-7


class BitsPerPixel(Objective):
    """Values of pixels: y is the number of the value, int, shape (n, ...), or `NOT_ASKED`.

    Answers are probabilities of each value, shape (n, ..., levels), or of 1, shape (n, ..., 1), for two levels.
    """

    main = "bits_per_pixel"
    higher_is_better = False

    @staticmethod
    def loss(y: Any, answers: Any) -> Any:
        """Returns the mean of -ln p over the pixels asked for, in nats, shape (n,)."""
        ops = import_keras().ops
        if len(answers.shape) == len(y.shape):
            answers = ops.expand_dims(answers, -1)  # Keras takes off a last axis of 1
        if answers.shape[-1] == 1:
            answers = ops.concatenate([1 - answers, answers], axis=-1)
        chosen = ops.one_hot(ops.cast(y, "int32"), answers.shape[-1])  # zeros for pixels not asked for
        logs = ops.log(ops.clip(answers, _SMALLEST, 1.0))
        axes = tuple(range(1, len(answers.shape)))
        return -ops.sum(chosen * logs, axis=axes) / ops.sum(chosen, axis=axes)

    def score(self, answers: Array, y: Array) -> dict[str, float]:
        """Returns the mean of -log2 p over the pixels asked for, and the share whose most probable value is right."""
        values = np.asarray(answers, np.float64)
        if values.ndim != y.ndim + 1 or values.shape[:-1] != y.shape or not values.size:
            raise ValueError(f"Answers of shape {values.shape} do not fit pixels of shape {y.shape}.")
        if not np.isfinite(values).all():
            raise ValueError("The answers contain NaN or infinity, so they cannot be scored.")
        probabilities, asked = as_probabilities(values), y != NOT_ASKED
        if not asked.any() or y.max() >= probabilities.shape[-1]:
            raise ValueError(f"Answers for {probabilities.shape[-1]} values do not fit pixels up to {y.max()}.")
        mixed = (1 - EVEN_SHARE) * probabilities + EVEN_SHARE / probabilities.shape[-1]
        right = np.take_along_axis(mixed, np.maximum(y, 0)[..., np.newaxis], axis=-1)[..., 0]
        return {
            "bits_per_pixel": float(-np.log2(right[asked]).mean()),
            "accuracy": float((probabilities.argmax(axis=-1) == y)[asked].mean()),
        }


def as_probabilities(answers: Array) -> Array:
    """Returns probabilities of each value that add up to 1, float64.

    Args:
        answers: Of a model, shape (..., levels), or (..., 1) for the probability of 1.
    """
    values = np.clip(np.asarray(answers, np.float64), 0, 1)
    if values.shape[-1] == 1:
        return np.concatenate([1 - values, values], axis=-1)
    total = values.sum(axis=-1, keepdims=True)
    even = np.full_like(values, 1 / values.shape[-1])
    shares: Array = np.divide(values, total, out=even, where=total > 0)
    return shares
