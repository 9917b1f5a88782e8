"""Encoders: transformers that turn ids of words into features of each word, which an LSTM reads on.

The small one is made here of stock layers: embeddings of words and places, then blocks of attention and two dense
layers, each with a residual and layer normalisation (the original order of Vaswani et al., 2017). It learns its
features without labels: some words of a text are hidden, and it guesses them from the others (the masked-token
objective of BERT, Devlin et al., 2019). Of the words to guess every second one is left as it is, many more than BERT's
one in ten: features then keep telling their own word among all the others, and only so an LSTM learns from them.

Attention is written out instead of taken from `keras.layers.MultiHeadAttention`, whose scores of padding are so low
(-3e38) that no int8 scale can hold them beside the others. Here they are -20: e^-20 is 2e-9, so that padding
has no share in an answer that could be seen in float32.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import DataError, LoadError, MissingExtraError, SettingError
from edgelstm.tasks.base import Array, Setup
from edgelstm.tasks.texts.models import padding_scores
from edgelstm.tasks.texts.vocabulary import PADDING, START, UNKNOWN, Vocabulary

SMALL = "small"
"""Name of the encoder that is made here."""

GUESSED_SHARE = 0.3
"""Share of the words that are to be guessed."""

KEPT_SHARE, RANDOM_SHARE = 0.5, 0.05
"""Shares of them that are left as they are, and that become another word; the others become the unknown word."""

_PRETRAINING_RATE = 2e-3


@dataclasses.dataclass(frozen=True)
class Found:
    """An encoder of the user's.

    Attributes:
        model: A Keras model: ids, shape (batch, length) -> features, shape (batch, length, features).
        vocabulary: Of the texts it was made for.
        length: Ids that it takes; None for any number.
    """

    model: Any
    vocabulary: Vocabulary
    length: int | None


def build_small(setup: Setup, num_words: int, length: int) -> Any:
    """Builds the small encoder: ids, int32, shape (batch, length) -> features, shape (batch, length, width).

    Args:
        setup: Used are encoder_width, encoder_heads and encoder_blocks.
        num_words: Ids of the vocabulary.
        length: Ids of a text.

    Raises:
        SettingError: If the heads cannot share the width alike.
    """
    width, heads, blocks = (setup.int(f"encoder_{name}") for name in ("width", "heads", "blocks"))
    if min(width, heads, blocks) < 1 or width % heads:
        raise SettingError(
            f"encoder_width={width}, encoder_heads={heads}, encoder_blocks={blocks}: all must be at least 1, and the "
            "width a multiple of the heads."
        )
    keras = import_keras()
    layers, operations = keras.layers, keras.ops
    ids = keras.Input((length,), dtype="int32", name="ids")
    places = operations.cumsum(operations.ones_like(ids), axis=1) - 1
    words = layers.Embedding(num_words, width, name="words")(ids)
    x = layers.Add()([words, layers.Embedding(length, width, name="places")(places)])
    present = operations.cast(operations.not_equal(ids, PADDING), x.dtype)
    for number in range(blocks):
        attended = _attention(x, present, heads, f"attention_{number}")
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x, attended]))
        hidden = layers.Dense(2 * width, activation="relu")(x)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x, layers.Dense(width)(hidden)]))
    return keras.Model(ids, x, name="encoder")


def _attention(x: Any, present: Any, heads: int, name: str) -> Any:
    """Scaled dot-product attention of several heads.

    Args:
        x: Features, shape (batch, length, width).
        present: 1 for a word, 0 for padding, shape (batch, length).
        heads: How many.
        name: Of its layers.

    Returns:
        Shape (batch, length, width).

    Source: Vaswani et al., "Attention is all you need", 2017, section 3.2.
    """
    keras = import_keras()
    layers, operations = keras.layers, keras.ops
    length, width = x.shape[1:]

    def split(part: str) -> Any:
        projected = layers.Dense(width, name=f"{name}_{part}")(x)
        return layers.Permute((2, 1, 3))(layers.Reshape((length, heads, width // heads))(projected))

    query, key, value = split("query"), split("key"), split("value")
    scores = operations.matmul(query * (width // heads) ** -0.5, operations.transpose(key, (0, 1, 3, 2)))
    seen = operations.reshape(present, (-1, 1, 1, length))
    scores = scores * seen + padding_scores(seen)
    met = operations.matmul(layers.Softmax()(scores), value)
    joined = layers.Reshape((length, width))(layers.Permute((2, 1, 3))(met))
    return layers.Dense(width, name=f"{name}_output")(joined)


def pretrain(encoder: Any, ids: Array, num_words: int, setup: Setup) -> list[float]:
    """Teaches an encoder to guess hidden words; labels are not looked at.

    Args:
        encoder: Built by `build_small`; changed in place.
        ids: Training texts, int32, shape (n, length).
        num_words: Ids of the vocabulary.
        setup: Used are pretrain_epochs, batch_size and the seed.

    Returns:
        The loss of each epoch: mean cross-entropy of a hidden word, in nats.
    """
    keras = import_keras()
    layers = keras.layers
    num_guessed = max(1, round(GUESSED_SHARE * ids.shape[1]))
    chosen = keras.Input((num_guessed, 1), dtype="int32", name="chosen")
    features = keras.ops.take_along_axis(encoder(encoder.inputs[0]), chosen, axis=1)
    guesses = layers.Dense(num_words, activation="softmax", dtype="float32")(features)
    guesser = keras.Model([encoder.inputs[0], chosen], guesses)
    guesser.compile(keras.optimizers.Adam(_PRETRAINING_RATE), loss="sparse_categorical_crossentropy", jit_compile=False)
    losses = []
    for epoch in range(setup.int("pretrain_epochs")):
        generator = np.random.default_rng((setup.seed, epoch))
        texts = ids[generator.permutation(len(ids))]
        seen, places, weights = hide_words(texts, num_guessed, num_words, generator)
        hidden = np.take_along_axis(texts, places, axis=1)
        history = guesser.fit(
            [seen, places[..., np.newaxis]],
            hidden,
            sample_weight=weights,
            batch_size=setup.int("batch_size"),
            shuffle=False,
            verbose=0,
        )
        losses.append(float(history.history["loss"][0] * weights.size / max(weights.sum(), 1)))
    return losses


def hide_words(
    ids: Array, num_guessed: int, num_words: int, generator: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Chooses the words to guess, and hides some of them.

    Args:
        ids: Texts, int32, shape (n, length).
        num_guessed: Most words to guess in a text; in short texts there are fewer.
        num_words: Ids of the vocabulary.
        generator: Draws them.

    Returns:
        The texts with hidden words, int32, shape (n, length); the places of words to guess, int32, shape
        (n, num_guessed); and 1.0 where a place counts, else 0.0, the same shape.
    """
    is_word = ~np.isin(ids, (PADDING, START, UNKNOWN))
    order = np.where(is_word, generator.random(ids.shape), 2.0)
    places = order.argsort(axis=1)[:, :num_guessed].astype(np.int32)
    allowed = np.ceil(GUESSED_SHARE * is_word.sum(axis=1, keepdims=True))
    counts = np.arange(num_guessed) < allowed
    others = generator.integers(UNKNOWN + 1, max(num_words, UNKNOWN + 2), places.shape)
    words = np.take_along_axis(ids, places, axis=1)
    lot = generator.random(places.shape)
    hidden = np.where(lot < KEPT_SHARE, words, np.where(lot < KEPT_SHARE + RANDOM_SHARE, others, UNKNOWN))
    seen = ids.copy()
    np.put_along_axis(seen, places, np.where(counts, hidden, words).astype(np.int32), axis=1)
    return seen, places, counts.astype(np.float32)


def read_encoder(path: Path) -> Found:
    """Reads an encoder and the vocabulary.txt beside it.

    Raises:
        DataError: If it is no encoder, or the vocabulary is missing, damaged or too large for it.
    """
    from edgelstm.converters.loading import load_model

    if not path.is_file():
        raise DataError(f"There is no encoder {path}.")
    words = path.with_name("vocabulary.txt")
    try:
        model, vocabulary = load_model(path).model, Vocabulary.load(words)
    except LoadError as error:
        raise DataError(f"The encoder {path} needs a Keras model and {words.name} beside it: {error}") from error
    inputs, outputs = ([tuple(tensor.shape) for tensor in tensors] for tensors in (model.inputs, model.outputs))
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]) != 2 or len(outputs[0]) != 3:
        raise DataError(
            f"{path} is no encoder: it makes {outputs} of {inputs}, and an encoder makes (batch, length, features) of "
            "ids (batch, length)."
        )
    sizes = [layer.input_dim for layer in model._flatten_layers() if hasattr(layer, "input_dim")]
    if sizes and max(sizes) < len(vocabulary):
        raise DataError(f"{words} has {len(vocabulary)} words, and the encoder {path} knows {max(sizes)}.")
    return Found(model, vocabulary, inputs[0][1])


class Preset:
    """A pretrained encoder of KerasHub.

    Args:
        name: Name of the preset, such as "bert_tiny_en_uncased", or the folder of one.

    Raises:
        MissingExtraError: If KerasHub is not installed.
    """

    def __init__(self, name: str) -> None:
        try:
            keras_hub = importlib.import_module("keras_hub")
        except ImportError as error:
            raise MissingExtraError(
                f"The encoder {name!r} is no file, and presets come with KerasHub: pip install keras-hub."
            ) from error
        self.name = name
        self._models = keras_hub.models

    def encode(self, texts: list[str], length: int) -> tuple[Array, int]:
        """Turns texts into ids, as the encoder was trained.

        Returns:
            Ids, int32, shape (n, length), and the id of padding.

        Raises:
            DataError: If the preset is unknown or cannot be downloaded.
        """
        preprocessor = self._load(self._models.TextClassifierPreprocessor, sequence_length=length)
        encoded = preprocessor(texts)
        ids = np.asarray(encoded["token_ids"] if isinstance(encoded, dict) else encoded, np.int32)
        return ids, int(preprocessor.tokenizer.pad_token_id)

    def features(self, ids: Any, padding: int, *, frozen: bool) -> Any:
        """Returns features of each id, shape (batch, length, features).

        Args:
            ids: A Keras tensor, shape (batch, length).
            padding: The id of padding.
            frozen: Whether the encoder keeps its weights.

        Raises:
            DataError: If the preset is unknown or cannot be downloaded, or has other inputs than texts.
        """
        operations = import_keras().ops
        backbone = self._load(self._models.Backbone)
        backbone.trainable = not frozen
        given = {
            "token_ids": ids,
            "padding_mask": operations.cast(operations.not_equal(ids, padding), "int32"),
            "segment_ids": operations.zeros_like(ids),
        }
        names = list(backbone.input) if isinstance(backbone.input, dict) else ["token_ids"]
        if not set(names) <= set(given):
            raise DataError(f"The encoder {self.name!r} takes {', '.join(names)}, and texts give {', '.join(given)}.")
        inputs = {name: given[name] for name in names}
        outputs = backbone(inputs if isinstance(backbone.input, dict) else ids, training=False if frozen else None)
        return outputs["sequence_output"] if isinstance(outputs, dict) else outputs

    def _load(self, kind: Any, **options: Any) -> Any:
        try:
            return kind.from_preset(self.name, **options)
        except Exception as error:  # of KerasHub, of what it downloads with, of the network
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(
                f"The encoder {self.name!r} is neither a file nor a preset that can be read or downloaded: {reason}"
            ) from error
