"""A small model of words for tests."""

from __future__ import annotations

import keras
from keras import layers

TIME, COUNT = 7, 30


def words_model(width: int, units: int) -> keras.Model:
    """Ids of TIME words, of COUNT different ones -> Embedding "words" -> LSTM "lstm" -> two classes, seeded weights."""
    keras.utils.set_random_seed(0)
    ids = layers.Input((TIME,), name="ids")
    x = layers.LSTM(units, name="lstm")(layers.Embedding(COUNT, width, name="words")(ids))
    return keras.Model(ids, layers.Dense(2, activation="softmax", name="answer")(x), name="texts")
