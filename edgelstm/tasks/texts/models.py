"""Architectures that read ids of words: from ids, int32, shape (batch, length), to features of the text.

Padding must say nothing, or the same text would be answered differently in a longer row. Keras passes a mask on from
the embedding, which LSTMs, normalisation and wrappers respect. Other layers drop it or use it in a way that no
int8 file can hold (`keras.layers.Attention` adds -1e9 to masked scores). There the padding is kept out by plain
arithmetic, with `present`, 1 for a word and 0 for padding, shape (batch, length, 1):

- *conv*: embeddings of padding are 0, as at the border of the text, and so are its convolutions, which the relu keeps
  from being the largest of a window. Windows without a word are masked for the LSTM.
- *attention*: one more feature makes scores of padded keys -20, and those of a valid step with itself are never below
  0, so all padding together weighs less than length * e^-20. Pooling takes the largest value over words alone.
- *permute*: scores of padding are -20, and its features are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.tasks.base import Setup
from edgelstm.tasks.texts.vocabulary import PADDING

PADDED_SCORE = -20.0
"""Score of padding before a softmax: e^-20 is 2e-9."""

Body = Callable[[Any, Setup, int], Any]


def lstm(ids: Any, setup: Setup, vocabulary_size: int) -> Any:
    """Embedding -> LSTM."""
    return _lstm(setup)(_embed(ids, setup, vocabulary_size))


def bidirectional(ids: Any, setup: Setup, vocabulary_size: int) -> Any:
    """Embedding -> LSTM in both directions, one after the other in the features."""
    return import_keras().layers.Bidirectional(_lstm(setup))(_embed(ids, setup, vocabulary_size))


def stacked(ids: Any, setup: Setup, vocabulary_size: int) -> Any:
    """Embedding -> LSTM -> LSTM of half the units."""
    x = _lstm(setup, return_sequences=True)(_embed(ids, setup, vocabulary_size))
    return _lstm(setup, setup.int("units") // 2)(x)


def normalized(ids: Any, setup: Setup, vocabulary_size: int) -> Any:
    """Embedding -> LSTM -> layer normalisation -> LSTM -> batch normalisation -> LSTM."""
    layers = import_keras().layers
    x = _lstm(setup, return_sequences=True)(_embed(ids, setup, vocabulary_size))
    x = layers.LayerNormalization()(x)
    x = _lstm(setup, return_sequences=True)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return _lstm(setup)(x)


def conv(ids: Any, setup: Setup, vocabulary_size: int) -> Any:
    """Embedding -> Conv1D of width 3 -> MaxPooling1D of 2 -> LSTM."""
    keras = import_keras()
    layers, ops = keras.layers, keras.ops
    _, present = _present(ids)
    x = layers.Multiply()([_embed(ids, setup, vocabulary_size, mask=False), present])
    x = layers.Conv1D(setup.int("filters"), 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling1D(2, padding="same")(layers.Multiply()([x, present]))
    windows = layers.MaxPooling1D(2, padding="same")(present)
    return _lstm(setup)(x, mask=ops.squeeze(ops.greater(windows, 0.5), axis=-1))


def attention(ids: Any, setup: Setup, vocabulary_size: int) -> Any:
    """Embedding -> LSTM -> each step's attention over all steps -> largest value of each feature over the words."""
    keras = import_keras()
    layers = keras.layers
    valid, present = _present(ids)
    x = _embed(ids, setup, vocabulary_size, mask=False)
    x = layers.Multiply()([_lstm(setup, return_sequences=True)(x, mask=valid), present])
    queries = layers.Concatenate()([x, present])
    keys = layers.Concatenate()([x, padding_scores(present)])
    x = layers.Attention()([queries, x, keys])
    # Values are means of hidden states, which are never below -1.
    # Subtracted, not added: with a batch of 1, Keras adds this shape by an operation that no file can hold.
    return layers.GlobalMaxPooling1D()(layers.Subtract()([layers.Multiply()([x, present]), 1.0 - present]))


def permute(ids: Any, setup: Setup, vocabulary_size: int) -> Any:
    """Embedding -> LSTM -> a softmax over the steps for each feature, from a dense layer -> weighted sum."""
    keras = import_keras()
    layers = keras.layers
    valid, present = _present(ids)
    x = _embed(ids, setup, vocabulary_size, mask=False)
    x = layers.Multiply()([_lstm(setup, return_sequences=True)(x, mask=valid), present])
    scores = layers.Dense(ids.shape[1])(layers.Permute((2, 1))(x))
    present_row = layers.Permute((2, 1))(present)
    scores = layers.Add()([layers.Multiply()([scores, present_row]), padding_scores(present_row)])
    weights = layers.Permute((2, 1))(layers.Softmax()(scores))
    return keras.ops.sum(layers.Multiply()([x, weights]), axis=1)


BODIES: Mapping[str, Body] = {
    "lstm": lstm,
    "plain": lstm,
    "bidirectional": bidirectional,
    "stacked": stacked,
    "conv": conv,
    "attention": attention,
    "permute": permute,
    "normalized": normalized,
}


def _embed(ids: Any, setup: Setup, vocabulary_size: int, *, mask: bool = True) -> Any:
    return import_keras().layers.Embedding(vocabulary_size, setup.int("embedding"), mask_zero=mask)(ids)


def _lstm(setup: Setup, units: int = 0, *, return_sequences: bool = False) -> Any:
    return import_keras().layers.LSTM(
        units or setup.int("units"),
        dropout=setup.float("dropout"),
        recurrent_dropout=setup.float("recurrent_dropout"),
        return_sequences=return_sequences,
    )


def _present(ids: Any) -> tuple[Any, Any]:
    """Whether an id is no padding, bool, shape (batch, length), and 1 or 0, float32, shape (batch, length, 1)."""
    ops = import_keras().ops
    valid = ops.not_equal(ids, PADDING)
    return valid, ops.expand_dims(ops.cast(valid, "float32"), -1)


def padding_scores(present: Any) -> Any:
    """0 for a word, `PADDED_SCORE` for padding."""
    return (1.0 - present) * PADDED_SCORE
