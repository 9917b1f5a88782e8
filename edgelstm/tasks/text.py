"""Text: is a review positive or negative?

Offline data: `edgelstm.tasks.texts.reviews`, short reviews written from a seed. Words become ids with a vocabulary made
from the training split, the start id first, padded at the end; no model is told anything by padding
(`edgelstm.tasks.texts.models`).

A good score is 98 % (docs/tasks.md has measured ones). Words alone do not suffice: a logistic regression on the counts
of words reaches 65 %, on words and pairs of words 72 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgelstm.errors import DataError
from edgelstm.tasks.base import OFFLINE, Array, Data, Setup, Variant
from edgelstm.tasks.objectives import BinaryClassification
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, UNITS, Range
from edgelstm.tasks.texts.encoding import (
    TEXT_SETTINGS,
    Sizes,
    encode,
)
from edgelstm.tasks.texts.imdb import load_imdb
from edgelstm.tasks.texts.loading import load_classes, write_splits
from edgelstm.tasks.texts.reviews import SYNONYMS, Review, write_reviews
from edgelstm.tasks.texts.task import WordsTask

if TYPE_CHECKING:
    import keras

IMDB = "imdb"
LABELS = ("negative", "positive")


class TextTask(WordsTask):
    """Sentiment of reviews."""

    name = "text"
    title = "sentiment of reviews"
    objective = BinaryClassification()
    variants: ClassVar[dict[str, Variant]] = {
        "lstm": Variant("embedding 128, LSTM 64 with dropout 0.2"),
        "plain": Variant(
            "embedding 32, LSTM 100",
            # It stands still for some epochs before it learns what the others learn at once.
            {"embedding": 32, "units": 100, "dropout": 0.0, "recurrent_dropout": 0.0, "epochs": 25, "patience": 8},
        ),
        "bidirectional": Variant("LSTM 64 in both directions"),
        "stacked": Variant("LSTM 128, then LSTM 64", {"units": 128}),
        "conv": Variant("Conv1D 64 of width 3, pooling, LSTM 100", {"units": 100, "filters": 64}),
        "attention": Variant("LSTM 64, self-attention over its steps, pooling"),
        "permute": Variant("LSTM 64, a softmax over its steps for each feature"),
        "normalized": Variant("three LSTM 64 with layer and batch normalisation between them"),
    }
    sources: ClassVar[dict[str, str]] = {
        OFFLINE: "short reviews written from a seed",
        IMDB: "50,000 film reviews (keras.datasets.imdb)",
    }
    reads = "a folder with a sub-folder of .txt files for each of two classes, or a CSV file with texts and labels"
    defaults: ClassVar[dict[str, Setting]] = {
        "num_train": 6000,
        "num_validation": 600,
        "num_test": 1500,
        **TEXT_SETTINGS,
        "label_column": "label",
        "embedding": 128,
        "units": 64,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
    }
    training: ClassVar[dict[str, Setting]] = {"epochs": 10, "patience": 3, "learning_rate": 0.003}
    space: ClassVar[dict[str, Range]] = {"units": UNITS, "dropout": DROPOUT, "learning_rate": LEARNING_RATE}

    offline_sizes = Sizes(250, 64)

    def load(self, setup: Setup) -> Data:
        """Writes or reads the texts and encodes them.

        Returns:
            Input "ids": int32, shape (n, length); y: 1 for the second label. In `extra`, unless the source is "imdb":
            "texts" (by split); offline also "test_has_turn" and "test_has_unseen_pattern" (bool, shape (num_test,)).

        Raises:
            DataError: If texts cannot be read, or are not of two classes.
            SettingError: If a setting is impossible.
        """
        if setup.source.name == IMDB:
            return load_imdb(setup, self.sizes(setup))
        if setup.source.path is not None:
            data = load_classes(setup, self.sizes(setup))
            _require_two(data.labels, setup.source.path)
            return data
        return _offline(setup, self.sizes(setup))

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model: ids, int32, shape (batch, length) -> probability of the second label, shape (batch, 1)."""
        return self.classifier(setup, data, 1, "sigmoid", "positive")


def _require_two(labels: Sequence[str], path: Path) -> None:
    if len(labels) != 2:
        raise DataError(
            f"The texts in {path} are of {len(labels)} classes, {', '.join(labels[:5])}, and this task tells two "
            "apart: the task 'topic' takes any number."
        )


def _offline(setup: Setup, sizes: Sizes) -> Data:
    reviews = write_splits(write_reviews, setup, at_least=len(LABELS))
    return encode(
        {split: [review.text for review in some] for split, some in reviews.items()},
        {split: _labels(some) for split, some in reviews.items()},
        setup,
        sizes,
        SYNONYMS,
        labels=LABELS,
        extra={
            "test_has_turn": np.array([review.has_turn for review in reviews["test"]]),
            "test_has_unseen_pattern": np.array([review.has_unseen_pattern for review in reviews["test"]]),
        },
    )


def _labels(reviews: Sequence[Review]) -> Array:
    return np.array([review.label for review in reviews], np.int32)
