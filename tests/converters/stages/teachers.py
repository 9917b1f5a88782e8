"""Teachers for tests of distillation, and examples for them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from tests.converters.stages.workshop import TinyWorkshop
from tests.converters.tiny import floats, functional

Array = NDArray[Any]
TIME, FEATURES, CLASSES, WORDS = 6, 4, 3, 20


def tagger() -> keras.Model:
    """Tags each word, and leaves padding out."""
    ids = keras.Input((TIME,), name="ids", dtype="int32")
    y = layers.Bidirectional(layers.LSTM(5, return_sequences=True, name="l"), name="both")(
        layers.Embedding(WORDS, 8, mask_zero=True, name="table")(ids)
    )
    return functional(ids, layers.TimeDistributed(layers.Dense(CLASSES, activation="softmax"), name="tags")(y))


def mixed() -> keras.Model:
    """Words with a transformer over them, a sequence that is normalized, and plain features; several tags."""
    ids = keras.Input((TIME,), name="ids", dtype="int32")
    x, plain = keras.Input((TIME, FEATURES), name="x"), keras.Input((3,), name="plain")
    words = layers.Embedding(WORDS, 8, name="table")(ids)
    words = layers.LayerNormalization()(words + layers.MultiHeadAttention(2, 4, name="attention")(words, words))
    normal = layers.Normalization(mean=[1.0] * FEATURES, variance=[4.0] * FEATURES, name="normal")(x)
    y = layers.LSTM(6, name="lstm")(layers.Concatenate()([words, normal]))
    return functional(
        [ids, x, plain], layers.Dense(4, activation="sigmoid", name="tags")(layers.Concatenate()([y, plain]))
    )


def forecaster() -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.LSTM(6, name="second")(layers.LSTM(5, return_sequences=True, name="first")(x))
    return functional(x, layers.Dense(2, name="ahead")(y))


def examples(model: keras.Model, count: int = 40, **arguments: Any) -> TinyWorkshop:
    """Random examples for one of the teachers."""
    rng = np.random.default_rng(4)
    ids = rng.integers(1, WORDS, (count, TIME)) * (np.arange(TIME) < rng.integers(2, TIME + 1, count)[:, None])
    x = {"ids": ids.astype("int32"), "x": floats(count, TIME, FEATURES), "plain": floats(count, 3, seed=5)}
    names = {tensor.name for tensor in model.inputs}
    labels = {
        "sparse_categorical_crossentropy": rng.integers(0, CLASSES, (count, *model.output_shape[1:-1])),
        "binary_crossentropy": rng.integers(0, 2, (count, 4)).astype("float32"),
        "mean_squared_error": floats(count, 2, seed=6),
    }
    last = {"tags": "sparse_categorical_crossentropy", "ahead": "mean_squared_error"}
    loss = "binary_crossentropy" if model.output_shape[1:] == (4,) else last[model.output_names[0]]
    return TinyWorkshop({name: x[name] for name in names}, labels[loss], loss_name=loss, **arguments)


TEACHERS = {"tagger": tagger, "mixed": mixed, "forecaster": forecaster}
