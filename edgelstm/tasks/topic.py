"""Topic: which of ten topics is a note about?

Offline data: `edgelstm.tasks.texts.topics`, short notes written from a seed, in which other topics are named, too.

A good score is 99 % (docs/tasks.md has measured ones). Words alone do not suffice: a logistic regression on the counts
of words takes one of the topics that are named, and reaches 55 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgelstm.tasks.base import OFFLINE, Data, Setup, Variant
from edgelstm.tasks.objectives import Classification
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, UNITS, Range
from edgelstm.tasks.texts.encoding import OWN_LENGTH, TEXT_SETTINGS, Sizes, encode
from edgelstm.tasks.texts.loading import load_classes, write_splits
from edgelstm.tasks.texts.task import WordsTask
from edgelstm.tasks.texts.topics import SYNONYMS, TOPICS, write_notes

if TYPE_CHECKING:
    import keras


class TopicTask(WordsTask):
    """One of several topics."""

    name = "topic"
    title = "topic of texts"
    objective = Classification()
    variants: ClassVar[dict[str, Variant]] = {"lstm": Variant("embedding 128, LSTM 128 with dropout 0.2")}
    sources: ClassVar[dict[str, str]] = {OFFLINE: "short notes on ten topics written from a seed"}
    reads = "a CSV file with texts and labels, or a folder with a sub-folder of .txt files for each class"
    defaults: ClassVar[dict[str, Setting]] = {
        "num_train": 5000,
        "num_validation": 500,
        "num_test": 1000,
        **TEXT_SETTINGS,
        "label_column": "label",
        "embedding": 128,
        "units": 128,
        "dropout": 0.2,
        "recurrent_dropout": 0.0,
    }
    training: ClassVar[dict[str, Setting]] = {"epochs": 12, "patience": 3, "learning_rate": 0.003}
    space: ClassVar[dict[str, Range]] = {"units": UNITS, "dropout": DROPOUT, "learning_rate": LEARNING_RATE}

    offline_sizes = Sizes(180, 48)
    own_sizes = Sizes(5000, OWN_LENGTH)

    def load(self, setup: Setup) -> Data:
        """Writes or reads the texts and encodes them.

        Returns:
            Input "ids": int32, shape (n, length); y: number of the topic. In `extra`: "texts" (by split).

        Raises:
            DataError: If texts cannot be read, or are of one class.
            SettingError: If a setting is impossible.
        """
        if setup.source.path is not None:
            return load_classes(setup, self.sizes(setup))
        notes = write_splits(write_notes, setup, at_least=len(TOPICS))
        labels = tuple(TOPICS)
        return encode(
            {split: [note.text for note in some] for split, some in notes.items()},
            {
                split: np.array([labels.index(note.topics[0]) for note in some], np.int32)
                for split, some in notes.items()
            },
            setup,
            self.sizes(setup),
            SYNONYMS,
            labels=labels,
        )

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model: ids, int32, shape (batch, length) -> probability per topic, shape (batch, topics)."""
        return self.classifier(setup, data, len(data.labels), "softmax", "topic")
