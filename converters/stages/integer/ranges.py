"""Ranges of int8 activations: observed first, learned then.

The gradients are those of LSQ (Esser et al., "Learned Step Size Quantization", ICLR 2020), for both ends as in LSQ+
(Bhalgat et al., 2020): within the range that of the rounding error, beyond it one for the end. The variables are
logarithms of factors on the observed ends, so that a step of an optimizer is relative to the range (Jain et al.,
"Trained Quantization Thresholds", MLSys 2020) and an end that is zero stays zero.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgelstm.converters.graph import Array
from edgelstm.converters.stages.integer.straight_through import half_away, with_gradient_of

STEPS = 255
SMALLEST_SPAN = 1e-6  # as of the exporter's own ranges


class Grid:
    """The 256 values of an int8 tensor.

    Args:
        scale: float32.
        zero_point: float32.

    Attributes:
        scale: Distance of two values.
    """

    def __init__(self, scale: Any, zero_point: Any) -> None:
        self.scale = scale
        self._least, self._most = -128 - zero_point, 127 - zero_point

    def placed(self, steps: Any) -> Any:
        """Whole steps from zero, clipped to the grid, as real values."""
        import tensorflow as tf

        return self.scale * tf.minimum(tf.maximum(steps, self._least), self._most)


class Range:
    """The range of one tensor, and the int8 scale that follows from it.

    While `observing`, values pass unchanged and their ends are recorded.

    Attributes:
        features: Numbers in the last axis of the tensor, for the size of gradients.
        observing: Whether values are recorded instead of quantized.
        low, high: Ends seen so far; zero always lies within.
    """

    def __init__(self, features: int) -> None:
        self.features = features
        self.observing = True
        self.low, self.high = 0.0, 0.0
        self._factors: Any = None

    def observe(self, value: Any) -> None:
        """Records an eager tensor."""
        array: Array = np.asarray(value)
        self.low, self.high = min(self.low, float(array.min())), max(self.high, float(array.max()))

    def start(self, layer: Any, name: str, *, learn: bool) -> None:
        """Ends observing; the range is a weight of a layer from now on.

        Args:
            layer: A built layer.
            name: Of the weight.
            learn: Whether training moves the ends.
        """
        if self.high - self.low <= SMALLEST_SPAN:
            self.high = self.low + 1.0
        layer._tracker.unlock()  # Keras closes a built layer to new weights
        self._factors = layer.add_weight(
            shape=(2,), initializer="zeros", dtype="float32", trainable=learn, autocast=False, name=name
        )
        layer._tracker.lock()
        self.observing = False

    def ends(self) -> tuple[Any, Any]:
        """The ends as float32 tensors, with gradients as LSQ scales them."""
        import tensorflow as tf

        factors = tf.convert_to_tensor(self._factors)
        size = 1 / math.sqrt(self.features * 127)
        factors = with_gradient_of(factors * size, factors)
        return self.low * tf.exp(factors[0]), self.high * tf.exp(factors[1])

    def limits(self) -> tuple[float, float]:
        """The ends as the exporter takes them."""
        low, high = self.ends()
        return float(low), float(high)

    def parameters(self) -> tuple[Any, Any]:
        """Scale and zero point, float32 with gradients; rounded as `lowering.integer.asymmetric` does."""
        import tensorflow as tf

        low, high = self.ends()
        low64, high64 = tf.cast(low, tf.float64), tf.cast(high, tf.float64)
        span = (high64 - low64) / STEPS
        from_low, from_high = -128 - low64 / span, 127 - high64 / span
        better = tf.where(128 + tf.abs(low64 / span) < 127 + tf.abs(high64 / span), from_low, from_high)
        scale = with_gradient_of((high - low) / STEPS, span)
        return scale, with_gradient_of(-128 - low / scale, tf.clip_by_value(tf.round(better), -128.0, 127.0))

    def quantized(self, value: Any) -> Any:
        """Returns a float tensor on the grid of the range, clipped to it."""
        import tensorflow as tf

        if self.observing:
            self.observe(value)
            return value
        grid = self.grid()
        steps = tf.cast(value, tf.float32) / grid.scale
        return tf.cast(grid.placed(with_gradient_of(steps, half_away(steps))), value.dtype)

    def grid(self) -> Grid:
        """The grid that follows from the range."""
        return Grid(*self.parameters())


class FixedRange(Range):
    """The range that TensorFlow Lite fixes for an operator's output.

    Args:
        scale: Its scale.
        zero_point: Its zero point.
    """

    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__(1)
        self.low, self.high = scale * (-128 - zero_point), scale * (127 - zero_point)
        self._parameters = scale, float(zero_point)

    def observe(self, value: Any) -> None:
        """Records nothing."""

    def start(self, layer: Any, name: str, *, learn: bool) -> None:
        """Ends observing; there is nothing to learn."""
        del layer, name, learn
        self.observing = False

    def limits(self) -> tuple[float, float]:
        """Its ends."""
        return self.low, self.high

    def parameters(self) -> tuple[Any, Any]:
        """Scale and zero point, float32."""
        import tensorflow as tf

        scale, zero_point = self._parameters
        return tf.constant(scale, tf.float32), tf.constant(zero_point, tf.float32)


FIXED = {"sigmoid": (1 / 256, -128), "softmax": (1 / 256, -128), "tanh": (1 / 128, 0)}
"""Scale and zero point of activations whose range TensorFlow Lite fixes."""
