"""Rounding that passes gradients on: forwards the integers of the kernel, backwards the float formula behind them.

Source: the straight-through estimator of Bengio, Léonard, Courville, "Estimating or Propagating Gradients Through
Stochastic Neurons for Conditional Computation" (2013); beyond the ends of a range the gradient is zero.
"""

from __future__ import annotations

from typing import Any

from edgelstm.converters.graph import Array
from edgelstm.converters.stages.integer.fixed_point import INT16_MAX, INT16_MIN


def with_gradient_of(value: Any, exact: Any) -> Any:
    """`exact` in `value`'s type, with the gradient of `value`."""
    import tensorflow as tf

    return tf.stop_gradient(tf.cast(exact, value.dtype)) + (value - tf.stop_gradient(value))


def half_away(value: Any) -> Any:
    """Rounded to whole numbers, halves away from zero."""
    import tensorflow as tf

    return tf.sign(value) * tf.floor(tf.abs(value) + 0.5)


def rounded(value: Any) -> Any:
    """Rounded to whole numbers, halves to even ones, with the gradient of the value."""
    import tensorflow as tf

    return with_gradient_of(value, tf.round(value))


def weight_scale(weight: Any, axis: Any) -> Any:
    """The scale of symmetric int8, 1/127 of the largest absolute value; of zeros 1/127. float64, without gradient.

    Args:
        weight: float32.
        axis: Axes that share a scale; they keep size 1.
    """
    import tensorflow as tf

    largest = tf.reduce_max(tf.abs(tf.stop_gradient(weight)), axis=axis, keepdims=True)
    return tf.cast(tf.where(largest > 0, largest, tf.ones_like(largest)), tf.float64) / 127


def int8_weight(weight: Any, scale: Any) -> Any:
    """A weight in steps of a scale, whole numbers of -127 to 127 in float32."""
    import tensorflow as tf

    return rounded(weight / tf.cast(scale, tf.float32))


class Factor:
    """A factor on whole numbers, which rounds twice as the kernels do (`fixed_point.multiply`).

    float64 holds the products of accumulators below 2^29 with the 24 bits of a float32 factor.

    Args:
        value: float32, positive.
    """

    def __init__(self, value: Any) -> None:
        import tensorflow as tf

        self._smooth = value
        value = tf.stop_gradient(value)
        exponent = tf.bitwise.right_shift(tf.bitcast(value, tf.int32), 23) - 126  # value = fraction * 2^exponent
        power, two = tf.cast(exponent, tf.float64), tf.constant(2.0, tf.float64)
        self._second = tf.pow(two, tf.minimum(power, 0.0))
        self._first = tf.cast(value, tf.float64) / self._second

    def exact(self, numbers: Any) -> Any:
        """Returns products as whole numbers, without gradient.

        Args:
            numbers: Whole numbers, float64.
        """
        import tensorflow as tf

        return half_away(tf.floor(tf.stop_gradient(numbers) * self._first + 0.5) * self._second)

    def __call__(self, numbers: Any) -> Any:
        """Returns products as whole numbers in float32, with the gradient of products that are not rounded.

        Args:
            numbers: Whole numbers, float32 or float64.
        """
        import tensorflow as tf

        smooth = tf.cast(numbers, tf.float32) * self._smooth
        return with_gradient_of(smooth, self.exact(tf.cast(numbers, tf.float64)))


def look_up(table: Array, value: Any) -> Any:
    """Entries of a table of 65536 for whole numbers in float32, as Q0.15 in [-1, 1); any entry for NaN."""
    import tensorflow as tf

    entries = tf.constant(table.astype("float32") / 2.0**15)
    return tf.gather(entries, tf.clip_by_value(tf.cast(value, tf.int32), INT16_MIN, INT16_MAX) - INT16_MIN)
