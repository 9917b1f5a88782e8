"""Program that writes SavedModels with tf_keras, the Keras 2 that lives on, and its answers beside them.

    python write_saved_models.py FOLDER

Each model becomes FOLDER/<name>, and FOLDER/<name>.npz holds its inputs x0, x1, ... and its answers y0, y1, ...
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

TIME, FEATURES, UNITS, VOCABULARY = 6, 3, 4, 11


def lstm() -> Any:
    """Trained, so that an optimizer and metrics hang on it."""
    stack = [keras.Input((TIME, FEATURES)), layers.LSTM(UNITS), layers.BatchNormalization(), layers.Dense(2)]
    model = keras.Sequential(stack)
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((4, TIME, FEATURES)), np.ones((4, 2)), verbose=0)
    return model


def bidirectional() -> Any:
    first = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), name="both")
    second = layers.Bidirectional(layers.LSTM(5), merge_mode="sum")
    return keras.Sequential([keras.Input((None, FEATURES)), first, second, layers.Dense(2)])


def stack() -> Any:
    first = layers.LSTM(UNITS, return_sequences=True, trainable=False)
    cells = layers.RNN([layers.LSTMCell(3), layers.LSTMCell(2)], return_sequences=True)
    return keras.Sequential([keras.Input((TIME, FEATURES)), first, layers.BatchNormalization(trainable=False), cells])


def masked() -> Any:
    embedding = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)
    inner = layers.LSTM(UNITS, return_sequences=True)
    return keras.Sequential([keras.Input((TIME,), dtype="int32"), embedding, inner, layers.LSTM(3, go_backwards=True)])


def functional() -> Any:
    """Two inputs and outputs whose names sort otherwise, a shared layer, a nested model with weights of both kinds."""
    second, first = keras.Input((TIME, FEATURES), name="b"), keras.Input((TIME, FEATURES), name="a")
    encoder = layers.LSTM(UNITS, name="encoder")
    x = keras.Input((UNITS,))
    inner = keras.Model(x, layers.Dense(3)(layers.BatchNormalization()(x)), name="inner")
    difference = layers.Subtract()([encoder(second), encoder(first)])
    return keras.Model(
        [second, first], [layers.Dense(2, name="z")(difference), layers.Dense(2, name="c")(inner(difference))]
    )


def stateful() -> Any:
    x = keras.Input((TIME, FEATURES), batch_size=32)
    return keras.Model(x, layers.Dense(2)(layers.LSTM(UNITS, stateful=True)(x)))


def gru() -> Any:
    return keras.Sequential([keras.Input((TIME, FEATURES)), layers.GRU(UNITS, return_sequences=True), layers.GRU(3)])


def cudnn() -> Any:
    lstm = tf.compat.v1.keras.layers.CuDNNLSTM(UNITS)
    return keras.Sequential([keras.Input((TIME, FEATURES)), lstm, layers.Dense(2)])


def hard_gates() -> Any:
    lstm = layers.LSTM(UNITS, recurrent_activation="hard_sigmoid")
    return keras.Sequential([keras.Input((TIME, FEATURES)), lstm, layers.Dense(2)])


@keras.utils.register_keras_serializable("mine")
class Shift(layers.Layer):  # type: ignore[misc]
    """A layer that only its owner knows."""

    def build(self, shape: Any) -> None:
        self.offset = self.add_weight("offset", shape=(shape[-1],))

    def call(self, x: Any) -> Any:
        return 2 * x + self.offset


def custom_layer() -> Any:
    first, second = layers.LSTM(UNITS, return_sequences=True, name="first"), layers.LSTM(3, name="second")
    return keras.Sequential([keras.Input((TIME, FEATURES)), first, Shift(), second])


def code() -> Any:
    """Holds Python code in a Lambda."""
    masking, doubling = layers.Masking(0.0), layers.Lambda(lambda x: 2 * x + 1)
    lstm = layers.LSTM(UNITS, return_sequences=True, zero_output_for_mask=True)
    return keras.Sequential([keras.Input((TIME, FEATURES)), masking, lstm, doubling])


def time_major() -> Any:
    """Time is the first axis inside; only the graph can tell what that means."""
    x = keras.Input((TIME, FEATURES))
    turned = layers.Permute((1, 2))(x)
    swapped = layers.Lambda(lambda t: tf.transpose(t, [1, 0, 2]))(turned)
    y = layers.LSTM(UNITS, time_major=True, return_sequences=True, go_backwards=True)(swapped)
    return keras.Model(x, layers.Lambda(lambda t: tf.transpose(t, [1, 0, 2]))(y))


WHOLE = (lstm, stateful)
SERVED = (masked, functional, custom_layer, code, time_major)
"""Saved with a signature. The functions of single layers, which nobody reads, would take most of the time."""
BARE = (bidirectional, stack, gru, cudnn, hard_gates)
"""Saved without signature and functions."""


def serving(model: Any) -> Any:
    """The signature that tf.keras would write."""

    def serve(**named: Any) -> Any:
        outputs = model([named[name] for name in model.input_names], training=False)
        return dict(zip(model.output_names, tf.nest.flatten(outputs), strict=True))

    pairs = zip(model.input_names, model.inputs, strict=True)
    specs = {name: tf.TensorSpec(tensor.shape, tensor.dtype, name=name) for name, tensor in pairs}
    return tf.function(serve).get_concrete_function(**specs)


def save(model: Any, folder: Path, make: Any) -> None:
    """Saves a model, some with everything that tf.keras writes by itself."""
    if make in WHOLE:
        model.save(folder, save_format="tf")
    else:
        signatures = {"serving_default": serving(model)} if make in SERVED else None
        model.save(folder, save_format="tf", save_traces=False, signatures=signatures)


def randomize(model: Any, rng: np.random.Generator) -> None:
    """Gives every weight, and so every gate, values of its own."""
    for weight in model.weights:
        values = rng.normal(size=weight.shape) * 0.5
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)


def inputs_of(model: Any, rng: np.random.Generator) -> list[Any]:
    """Two rows or as many as the model wants, some steps of them padded."""
    arrays = []
    for tensor in model.inputs:
        batch, *sizes = tensor.shape
        shape = (batch or 2, *(size or TIME for size in sizes))
        tokens = tensor.dtype == tf.int32
        array = rng.integers(1, VOCABULARY, shape) if tokens else rng.normal(size=shape).astype(np.float32)
        array[0, 4:] = 0
        array[1, [0, 2]] = 0
        arrays.append(array)
    return arrays


def answers_of(model: Any, arrays: list[Any]) -> list[Any]:
    """What the model answers; of one that only a GPU could run, the weights."""
    if any("CuDNN" in type(layer).__name__ for layer in model.layers):
        return [weight.numpy() for weight in model.weights]
    return [np.asarray(tensor) for tensor in tf.nest.flatten(model(arrays if len(arrays) > 1 else arrays[0]))]


def main(folder: Path) -> None:
    """Writes all models."""
    rng = np.random.default_rng(0)
    for make in (*WHOLE, *SERVED, *BARE):
        model = make()
        randomize(model, rng)
        arrays = inputs_of(model, rng)
        save(model, folder / make.__name__, make)
        named = {f"x{number}": array for number, array in enumerate(arrays)}
        named |= {f"y{number}": array for number, array in enumerate(answers_of(model, arrays))}
        np.savez(folder / f"{make.__name__}.npz", **named)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
