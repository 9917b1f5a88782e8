"""Topic: which of ten topics is a note about?

Offline data: `edgelstm.tasks.texts.topics`, short notes written from a seed, in which other topics are named, too.

A good score is 99 % (docs/tasks.md has measured ones). Words alone do not suffice: a logistic regression on the counts
of words takes one of the topics that are named, and reaches 55 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.tasks.base import OFFLINE, Data, Setup, Split, Task, Variant
from edgelstm.tasks.objectives import Classification
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, UNITS, Range
from edgelstm.tasks.texts.encoding import IDS, OWN_LENGTH, TEXT_SETTINGS, Sizes, augment_texts, bag_of_words, encode
from edgelstm.tasks.texts.loading import load_classes, write_splits
from edgelstm.tasks.texts.models import BODIES
from edgelstm.tasks.texts.topics import SYNONYMS, TOPICS, write_notes

if TYPE_CHECKING:
    import keras

OWN_VOCABULARY_SIZE = 5000


class TopicTask(Task):
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

    def load(self, setup: Setup) -> Data:
        """Writes or reads the texts and encodes them.

        Returns:
            Input "ids": int32, shape (n, length); y: number of the topic. In `extra`: "texts" (by split).

        Raises:
            DataError: If texts cannot be read, or are of one class.
            SettingError: If a setting is impossible.
        """
        if setup.source.path is not None:
            return load_classes(setup, _sizes(setup))
        notes = write_splits(write_notes, setup, at_least=len(TOPICS))
        labels = tuple(TOPICS)
        return encode(
            {split: [note.text for note in some] for split, some in notes.items()},
            {
                split: np.array([labels.index(note.topics[0]) for note in some], np.int32)
                for split, some in notes.items()
            },
            setup,
            _sizes(setup),
            SYNONYMS,
            labels=labels,
        )

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model: ids, int32, shape (batch, length) -> probability per topic, shape (batch, topics)."""
        keras = import_keras()
        ids = keras.Input(data.train.x[IDS].shape[1:], dtype="int32", name=IDS)
        x = BODIES[setup.variant](ids, setup, _sizes(setup).vocabulary_size)
        topic = keras.layers.Dense(len(data.labels), activation="softmax", dtype="float32", name="topic")(x)
        return keras.Model(ids, topic, name="topic")

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Varies the words as `edgelstm.tasks.texts.encoding` says."""
        return augment_texts(examples, generator, setup)

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores a logistic regression on the counts of words."""
        return {"bag_of_words": self.objective.score(bag_of_words(data.train, data.test), data.test.y)}


def _sizes(setup: Setup) -> Sizes:
    suiting = Sizes(180, 48) if setup.source.name == OFFLINE else Sizes(OWN_VOCABULARY_SIZE, OWN_LENGTH)
    return Sizes.of(setup, suiting)
