"""What tasks over words share: sizes, variations, the model around an architecture, the comparison with words alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.tasks.base import OFFLINE, Data, Setup, Split, Task
from edgelstm.tasks.texts.encoding import (
    IDS,
    OWN_LENGTH,
    OWN_VOCABULARY_SIZE,
    Sizes,
    augment_texts,
    bag_of_words,
)
from edgelstm.tasks.texts.models import BODIES

if TYPE_CHECKING:
    import keras


class WordsTask(Task):
    """A task over ids of words.

    Attributes:
        offline_sizes: What suits its offline data.
        own_sizes: What suits other data.
    """

    offline_sizes: ClassVar[Sizes]
    own_sizes: ClassVar[Sizes] = Sizes(OWN_VOCABULARY_SIZE, OWN_LENGTH)

    def sizes(self, setup: Setup) -> Sizes:
        """Returns what the model takes: the settings, or what suits the data.

        Raises:
            SettingError: If they leave no room for a word.
        """
        return Sizes.of(setup, self.offline_sizes if setup.source.name == OFFLINE else self.own_sizes)

    def classifier(self, setup: Setup, data: Data, num_answers: int, activation: str, output: str) -> keras.Model:
        """Builds a model around the variant's architecture of `models.BODIES`.

        Returns:
            ids, int32, shape (batch, length) -> answers, shape (batch, num_answers).
        """
        keras = import_keras()
        ids = keras.Input(data.train.x[IDS].shape[1:], dtype="int32", name=IDS)
        x = BODIES[setup.variant](ids, setup, self.sizes(setup).vocabulary_size)
        answers = keras.layers.Dense(num_answers, activation=activation, dtype="float32", name=output)(x)
        return keras.Model(ids, answers, name=self.name)

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Varies the words as `edgelstm.tasks.texts.encoding` says."""
        return augment_texts(examples, generator, setup)

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores logistic regressions on the counts of words."""
        return {"bag_of_words": self.objective.score(bag_of_words(data.train, data.test), data.test.y)}
