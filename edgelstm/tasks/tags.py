"""Tags: which of ten topics is a note about, when it may be several?

Offline data: `edgelstm.tasks.texts.topics`, notes of a few sentences on one to three topics, which also say what they
are not about.

A good score is a micro-averaged f1 of 0.98 (docs/tasks.md has measured ones). A logistic regression on the counts of
words, which cannot tell what is denied, reaches 0.62.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgelstm.tasks.base import OFFLINE, Data, Setup, Variant
from edgelstm.tasks.objectives import MultiLabel
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, UNITS, Range
from edgelstm.tasks.texts.encoding import OWN_LENGTH, TEXT_SETTINGS, Sizes, encode
from edgelstm.tasks.texts.loading import load_tags, write_splits
from edgelstm.tasks.texts.task import WordsTask
from edgelstm.tasks.texts.topics import SYNONYMS, TOPICS, write_tagged_notes

if TYPE_CHECKING:
    import keras


class TagsTask(WordsTask):
    """Any number of topics."""

    name = "tags"
    title = "tags of texts, any number of them"
    objective = MultiLabel()
    variants: ClassVar[dict[str, Variant]] = {"lstm": Variant("embedding 128, LSTM 128 with dropout 0.2")}
    sources: ClassVar[dict[str, str]] = {OFFLINE: "short notes on one to three of ten topics written from a seed"}
    reads = "a CSV file with texts and labels, those of a text in one cell with a separator between them"
    defaults: ClassVar[dict[str, Setting]] = {
        "num_train": 6000,
        "num_validation": 600,
        "num_test": 1000,
        **TEXT_SETTINGS,
        "label_column": "labels",
        "label_separator": "|",
        "embedding": 128,
        "units": 128,
        "dropout": 0.2,
        "recurrent_dropout": 0.0,
    }
    training: ClassVar[dict[str, Setting]] = {"epochs": 15, "patience": 3, "learning_rate": 0.003}
    space: ClassVar[dict[str, Range]] = {"units": UNITS, "dropout": DROPOUT, "learning_rate": LEARNING_RATE}

    offline_sizes = Sizes(180, 80)
    own_sizes = Sizes(5000, OWN_LENGTH)

    def load(self, setup: Setup) -> Data:
        """Writes or reads the texts and encodes them.

        Returns:
            Input "ids": int32, shape (n, length); y: 1 for each tag of a text, else 0, shape (n, tags). In `extra`:
            "texts" (by split).

        Raises:
            DataError: If texts cannot be read, or have less than two tags among them.
            SettingError: If a setting is impossible.
        """
        if setup.source.path is not None:
            return load_tags(setup, self.sizes(setup))
        notes = write_splits(write_tagged_notes, setup, at_least=len(TOPICS))
        labels = tuple(TOPICS)
        return encode(
            {split: [note.text for note in some] for split, some in notes.items()},
            {
                split: np.array([[label in note.topics for label in labels] for note in some], np.int32)
                for split, some in notes.items()
            },
            setup,
            self.sizes(setup),
            SYNONYMS,
            labels=labels,
        )

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model: ids, int32, shape (batch, length) -> probability of each tag, shape (batch, tags)."""
        return self.classifier(setup, data, len(data.labels), "sigmoid", "tags")
