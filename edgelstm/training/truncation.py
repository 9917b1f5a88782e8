"""Truncated back-propagation through time: gradients end at the border of a chunk, states go on.

A step of the training takes a batch of whole sequences and runs it chunk by chunk. The states of recurrent layers go
from chunk to chunk as numbers, so a chunk's gradients reach back to its own first step alone, and only the activations
of one chunk are in memory. Where y has a value for each time step, weights are updated after each chunk; where it has
one for the sequence, after the last chunk, and the chunks before it only bring the states there.

Source: Williams and Peng, "An efficient gradient-based algorithm for on-line training of recurrent network
trajectories", Neural Computation 2 (1990), 490-501: BPTT(h; h').
"""

from __future__ import annotations

import functools
from typing import Any

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import SettingError
from edgelstm.tasks.base import Setup, Split

_OF_EACH_STEP = ("Embedding", "Dense", "Dropout", "Activation", "TimeDistributed", "LayerNormalization", "Masking")
"""Layers that look at one time step at a time."""


def truncated(model: Any, setup: Setup, examples: Split) -> Any:
    """Wraps a model so that a training step cuts gradients off; returns it as it is where nothing is to be cut.

    The wrapper has the model's weights and answers as the model does.

    Args:
        model: A model of one input and one output, whose recurrent layers are all LSTMs that run forwards.
        setup: Used are truncate and batch_size.
        examples: The training split, inputs of shape (n, time, ...).

    Raises:
        SettingError: If the length is no multiple of the chunk's, or the model looks at other steps otherwise than by
            LSTMs.
    """
    chunk = setup.int("truncate")
    if not chunk:
        return model
    (x,) = examples.x.values() if len(examples.x) == 1 else (None,)
    length = 0 if x is None or x.ndim < 2 else x.shape[1]
    if not length or length % chunk:
        raise SettingError(
            f"The setting 'truncate' is {chunk}, and sequences have {length} steps: it must divide that number."
        )
    if length == chunk:
        return model
    per_step = _learns_from_each_step(model)
    if per_step and (examples.y.ndim < 2 or examples.y.shape[1] != length):
        raise SettingError(
            "The setting 'truncate' needs y to have a value for each step, as the model has. Set truncate=0."
        )
    return _wrapper_class()(model, setup.int("batch_size"), chunk, length // chunk, per_step)


def _learns_from_each_step(model: Any) -> bool:
    """Whether a model answers at each time step, not after the last one.

    Raises:
        SettingError: If time steps meet otherwise than in LSTMs that run forwards.
    """
    seen_last = False
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "LSTM" and not layer.go_backwards and not layer.return_state and not seen_last:
            seen_last = not layer.return_sequences
        elif kind not in ("InputLayer", *_OF_EACH_STEP) and not seen_last:
            raise SettingError(
                f"The setting 'truncate' needs a model whose time steps meet in LSTMs alone, and its layer "
                f"{layer.name!r} ({kind}) sees all of them. Set truncate=0."
            )
    return not seen_last


@functools.cache
def _wrapper_class() -> Any:
    keras = import_keras()
    import tensorflow as tf

    def with_states(layer: Any) -> Any:
        if not isinstance(layer, keras.layers.LSTM):
            return layer
        return keras.layers.RNN(layer.cell, return_sequences=layer.return_sequences, stateful=True, name=layer.name)

    def _real(x: Any, weights: Any) -> tuple[Any, Any]:
        """Number of real examples, and weights, shape (batch, 1), that make Keras' mean over the batch one over these.

        Examples that fill up a batch have the weight 0, and Keras divides by the size of the full batch.
        """
        if weights is None:
            return tf.shape(x)[0], None
        count = tf.math.count_nonzero(weights)
        factor = tf.cast(tf.shape(x)[0], weights.dtype) / tf.cast(count, weights.dtype)
        return count, tf.expand_dims(factor * weights, 1)

    base: Any = keras.Model

    class Truncated(base):  # type: ignore[misc]
        def __init__(self, inner: Any, batch: int, chunk: int, count: int, per_step: bool) -> None:
            super().__init__(name=inner.name)
            self.inner = inner
            (tensor,) = inner.inputs
            given = keras.Input((chunk, *tensor.shape[2:]), batch_size=batch, dtype=tensor.dtype, name=tensor.name)
            plain = keras.Model(tensor, inner.outputs[0])  # whether inputs were given in a list or not
            self._twin = [keras.models.clone_model(plain, input_tensors=given, clone_function=with_states)]
            self._chunk, self._count, self._per_step = chunk, count, per_step
            self.updates_per_batch = count if per_step else 1
            self.built = True

        @property
        def variables(self) -> Any:
            """Those of the model; states begin anew with each batch."""
            return self.inner.variables

        def call(self, inputs: Any, training: bool | None = None) -> Any:
            return self.inner(inputs, training=training)

        def train_step(self, data: Any) -> Any:
            x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
            (x,) = tf.nest.flatten(x)
            for layer in self._twin[0].layers:
                if getattr(layer, "stateful", False):
                    layer.reset_state()
            for index in range(self._count):
                steps = slice(index * self._chunk, (index + 1) * self._chunk)
                if self._per_step or index == self._count - 1:
                    self._learn(x[:, steps], y[:, steps] if self._per_step else y, weights)
                else:
                    self._twin[0](x[:, steps], training=True)
            return self.get_metrics_result()

        def _learn(self, x: Any, y: Any, weights: Any) -> None:
            count, shares = _real(x, weights)
            with tf.GradientTape() as tape:
                answers = self._twin[0](x, training=True)
                loss = self.compute_loss(x, y, answers, shares, training=True)
                self._loss_tracker.update_state(loss, sample_weight=count)
                scaled = self.optimizer.scale_loss(loss)
            variables = self.inner.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
            self.compute_metrics(x, y, answers, sample_weight=weights)

    return Truncated
