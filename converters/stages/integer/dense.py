"""Dense layers as TensorFlow Lite's int8 FULLY_CONNECTED: weights in 255 steps for each output, a range on the result.

Biases stay float: their int32 steps are those of the accumulator, far below a step of the output. So does the
rounding of the accumulator to the output, which differs from the kernels' by one step at most.
"""

from __future__ import annotations

from typing import Any

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.integer.ranges import FIXED, FixedRange, Range
from edgelstm.converters.stages.integer.straight_through import int8_weight, weight_scale

FUSED = ("linear", "relu")  # activations that the operator computes before it rounds


class DenseSimulation:
    """What stands in for the call of a Keras Dense layer.

    Args:
        layer: The Dense layer; its `call` becomes this object.
        x: Range of its input.
        last: Whether its answer is one of the model's. Then a softmax or sigmoid is left unrounded: the loss of a
            rounded probability of zero has no gradient, and there is nothing to learn of a fixed scale.

    Attributes:
        output: Range of what the operator gives out: the answer, or what goes into an activation that is not fused.
        activated: Range of the answer; None where it is left unrounded.
    """

    def __init__(self, layer: Any, x: Range, *, last: bool) -> None:
        self.layer, self.x = layer, x
        self.output = Range(int(layer.units))
        name = activation_name(layer)
        self.fused = name in FUSED
        self.activated: Range | None = self.output if self.fused else None
        if name in FIXED and not last:
            self.activated = FixedRange(*FIXED[name])
        layer.call = self

    def __call__(self, inputs: Any, training: bool = False) -> Any:
        """Computes the layer.

        Args:
            inputs: Shape (..., features).
            training: Of no effect.
        """
        import tensorflow as tf

        del training
        kernel = tf.cast(tf.convert_to_tensor(self.layer.kernel), tf.float32)
        if not self.output.observing:
            scale = weight_scale(kernel, 0)
            kernel = int8_weight(kernel, scale) * tf.cast(scale, tf.float32)
        x = self.x.quantized(tf.cast(inputs, tf.float32))
        result = tf.tensordot(x, kernel, [[-1], [0]])
        if self.layer.bias is not None:
            result = result + tf.cast(tf.convert_to_tensor(self.layer.bias), tf.float32)
        if self.fused:
            return tf.cast(self.output.quantized(self._activate(result)), self.layer.compute_dtype)
        result = self._activate(self.output.quantized(result))
        return tf.cast(self.activated.quantized(result) if self.activated else result, self.layer.compute_dtype)

    def ranges(self) -> list[Range]:
        """The ranges of what comes out."""
        return [self.output, *([self.activated] if self.activated and not self.fused else [])]

    def _activate(self, value: Any) -> Any:
        return value if self.layer.activation is None else self.layer.activation(value)


def activation_name(layer: Any) -> str:
    """Keras' name of a layer's activation."""
    keras = import_keras()
    activation = layer.activation
    return "linear" if activation is None else str(keras.activations.serialize(activation))
