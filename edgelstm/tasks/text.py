"""Text: is a short review positive or negative?

Data: `edgelstm.tasks.reviews`, written from a seed, no network needed. Words become ids with a vocabulary made from
the training split, the start id first, padded at the end. The model is Embedding -> LSTM -> Dense(1, sigmoid), with
the padding masked.

A good score is 99 %: with the default settings (6,000 reviews to learn from, 1,500 to be tested on) the seeds 0, 1 and
2 reached 99.6 %, 99.6 % and 98.9 %; reviews with a contrast and reviews with patterns that training never sees came to
99 %. Ten epochs take 50 s of processor time, half a minute on two free cores. Words alone do not suffice: a logistic
regression on the counts of words reaches 64.9 % on the same split (seed 0), on words and pairs of words 72.4 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.tasks.base import Data, Setting, Task
from edgelstm.tasks.reviews import Review, write_reviews
from edgelstm.tasks.vocabulary import Vocabulary

if TYPE_CHECKING:
    import keras

LABELS = ("negative", "positive")


class TextTask(Task):
    """Sentiment of short reviews."""

    name = "text"
    defaults: ClassVar[dict[str, Setting]] = {
        "num_train": 6000,
        "num_validation": 600,
        "num_test": 1500,
        "vocabulary_size": 250,
        "length": 64,
        "embedding": 128,
        "units": 64,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "learning_rate": 0.003,
        "epochs": 10,
        "batch_size": 64,
        "patience": 3,
    }

    def data(self, seed: int = 0, **settings: Setting) -> Data:
        """Writes the reviews of the three splits and encodes them.

        Args:
            seed: Seed of the reviews.
            **settings: See `defaults`; used are num_train, num_validation, num_test, vocabulary_size, length.

        Returns:
            Inputs: ids, int32, shape (n, length). In `extra`: "vocabulary" (Vocabulary), "labels" (names), "texts"
            (the reviews' texts by split), "test_has_turn" and "test_has_unseen_pattern" (bool, shape (num_test,)).

        Raises:
            ValueError: If a setting is unknown or too small.
        """
        chosen = self.resolve(settings)
        length = int(chosen["length"])
        sizes = {split: int(chosen[f"num_{split}"]) for split in ("train", "validation", "test")}
        for split, size in sizes.items():
            if size < 2:
                raise ValueError(f"num_{split}={size}: at least 2 reviews are needed, one of each class.")
        seen = write_reviews(sizes["train"] + sizes["validation"], seed)
        splits = {
            "train": seen[: sizes["train"]],
            "validation": seen[sizes["train"] :],
            "test": write_reviews(sizes["test"], seed, for_test=True),
        }
        texts = {split: [review.text for review in reviews] for split, reviews in splits.items()}
        vocabulary = Vocabulary.from_texts(texts["train"], int(chosen["vocabulary_size"]))
        return Data(
            x_train=vocabulary.encode(texts["train"], length),
            y_train=_labels(splits["train"]),
            x_validation=vocabulary.encode(texts["validation"], length),
            y_validation=_labels(splits["validation"]),
            x_test=vocabulary.encode(texts["test"], length),
            y_test=_labels(splits["test"]),
            extra={
                "vocabulary": vocabulary,
                "labels": LABELS,
                "texts": texts,
                "test_has_turn": np.array([review.has_turn for review in splits["test"]]),
                "test_has_unseen_pattern": np.array([review.has_unseen_pattern for review in splits["test"]]),
            },
        )

    def build(self, **settings: Setting) -> keras.Model:
        """Builds the model: ids, int32, shape (batch, length) -> probability of "positive", shape (batch, 1).

        Args:
            **settings: See `defaults`; used are vocabulary_size, length, embedding, units, dropout,
                recurrent_dropout, learning_rate.

        Raises:
            ValueError: If a setting is unknown.
        """
        chosen = self.resolve(settings)
        keras = import_keras()
        layers = keras.layers
        ids = keras.Input((int(chosen["length"]),), dtype="int32", name="ids")
        x = layers.Embedding(int(chosen["vocabulary_size"]), int(chosen["embedding"]), mask_zero=True)(ids)
        x = layers.LSTM(int(chosen["units"]), dropout=chosen["dropout"], recurrent_dropout=chosen["recurrent_dropout"])(
            x
        )
        positive = layers.Dense(1, activation="sigmoid", name="positive")(x)
        model = keras.Model(ids, positive, name="text")
        model.compile(keras.optimizers.Adam(chosen["learning_rate"]), "binary_crossentropy", metrics=["accuracy"])
        return model


def _labels(reviews: Sequence[Review]) -> np.ndarray:
    return np.array([review.label for review in reviews], np.int32)
