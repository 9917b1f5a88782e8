"""The contract of a training task: its data, its variants, its score.

A task is an object without state. Everything that can be chosen for a training stands in one `Setup`, which every
method takes; what is not chosen comes from the task's defaults. Keras is imported when a model is built, not before.
"""

from __future__ import annotations

import abc
import builtins
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from edgelstm.converters.stages.base import Examples
from edgelstm.errors import DataError, SettingError
from edgelstm.tasks.settings import Setting, Settings, resolve

if TYPE_CHECKING:
    import keras

    from edgelstm.tasks.objectives import Objective
    from edgelstm.tasks.spaces import Range

OFFLINE = "offline"
"""The source of data that every task has: it needs no network and no files."""

SPLITS = ("train", "validation", "test")
"""Names of the splits, in their order."""

Array = npt.NDArray[Any]
Inputs = dict[str, Array]
Predict = Callable[[Inputs], npt.ArrayLike]


class Saveable(Protocol):
    """Something that an app needs beside the model: a vocabulary, a scaler."""

    def save(self, path: Path) -> None:
        """Writes it to a file, complete or not at all. Raises OutputError."""


Split = Examples
"""Examples: inputs by the names of the model's inputs, and what is to be answered, whose meaning is the objective's."""


@dataclasses.dataclass(frozen=True)
class Data:
    """What a task learns from and is judged by.

    Attributes:
        train, validation, test: The splits. Nothing that is fitted to data has seen the last two.
        labels: Names of the classes by number; empty where the answer is no class.
        files: What an app needs beside the model, by file name.
        notes: Sentences that the user should know: what was left out, what stands in for what.
        extra: What else belongs to the data, for reports and baselines.
    """

    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...] = ()
    files: Mapping[str, Saveable] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One architecture of a task.

    Attributes:
        title: What it is, half a line.
        settings: Defaults that differ from the task's.
    """

    title: str
    settings: Mapping[str, Setting] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where data comes from: a source that the task knows by name, or a file or folder of the user's.

    Attributes:
        name: The name; empty for a path.
        path: The file or folder; None for a name.
    """

    name: str = OFFLINE
    path: Path | None = None

    def __str__(self) -> str:
        return self.name or str(self.path)


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything that was chosen for one training.

    Attributes:
        variant: Name of the variant.
        source: Where the data comes from.
        seed: Seed of everything random.
        settings: All settings of the task and of the training, each with its value.
    """

    variant: builtins.str
    source: Source
    seed: builtins.int
    settings: Settings

    def int(self, name: builtins.str) -> builtins.int:
        """Returns a setting that is a whole number."""
        return builtins.int(self.settings[name])

    def positive(self, name: builtins.str) -> builtins.int:
        """Returns a setting that is a whole number of at least 1.

        Raises:
            SettingError: If it is less.
        """
        number = self.int(name)
        if number < 1:
            raise SettingError(f"The setting {name!r} must be at least 1, not {number}.")
        return number

    def float(self, name: builtins.str) -> builtins.float:
        """Returns a setting that is a number."""
        return builtins.float(self.settings[name])

    def on(self, name: builtins.str) -> bool:
        """Returns a setting that is on or off."""
        return bool(self.settings[name])

    def str(self, name: builtins.str) -> builtins.str:
        """Returns a setting that is a word."""
        return builtins.str(self.settings[name])


class Task(abc.ABC):
    """A training problem.

    Attributes:
        name: Its name in the table of tasks.
        title: What it is, one line.
        objective: What is learnt and how it is scored.
        variants: Its architectures by name, the default one first.
        sources: Where its data can come from by name, one line each, `OFFLINE` first.
        reads: What a file or folder of the user's must be; empty if it takes none.
        defaults: Every setting of its data and models with its default.
        training: Defaults of the training that differ from `settings.TRAINING`.
        space: Where the search for good settings looks.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    objective: Objective
    variants: ClassVar[Mapping[str, Variant]]
    sources: ClassVar[Mapping[str, str]]
    reads: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, Setting]]
    training: ClassVar[Mapping[str, Setting]] = {}
    space: ClassVar[Mapping[str, Range]] = {}

    def setup(
        self,
        variant: str | None = None,
        source: str | Path | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> Setup:
        """Fills up what was chosen with the defaults.

        Args:
            variant: Name of a variant; the first one if None.
            source: Name of a source, or the path of a file or folder; offline data if None.
            seed: Seed of everything random.
            settings: Settings that differ from the defaults; text is read as the type of the default.

        Raises:
            SettingError: If the variant or a setting is unknown, or a value is not of the setting's type.
            DataError: If the source is neither known nor there.
        """
        chosen = variant or next(iter(self.variants))
        if chosen not in self.variants:
            raise SettingError(f"Task {self.name!r} has no variant {chosen!r}. It has {', '.join(self.variants)}.")
        return Setup(chosen, self._source(source), seed, resolve(self, chosen, settings or {}))

    def data(self, setup: Setup | None = None) -> Data:
        """Makes or loads the data; the same setup gives the same arrays.

        Raises:
            EdgeLSTMError: If it cannot be read, or nothing can be learnt from it.
            SettingError: If a setting has an impossible value.
        """
        data = self.load(setup or self.setup())
        for name, split in data.splits.items():
            if not len(split):
                raise DataError(f"Task {self.name!r}: the {name} split has no examples. Give it more data.")
        return data

    @abc.abstractmethod
    def load(self, setup: Setup) -> Data:
        """Does what `data` promises."""

    @abc.abstractmethod
    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the untrained model, not compiled, with inputs named as those of the data."""

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Varies a batch of training examples, as the settings ask for; the same generator gives the same variation.

        Examples are copied where they are changed.
        """
        del generator, setup
        return examples

    def evaluate(self, predict: Predict, data: Data) -> dict[str, float]:
        """Scores anything that answers as the model does, on the test split.

        Args:
            predict: Maps inputs by name, each of shape (n, ...), to answers, shape (n, ...).
            data: The task's data.

        Returns:
            Figures by name, the objective's main one first.
        """
        return self.score(np.asarray(predict(data.test.x)), data.test.y, data)

    def score(self, answers: Array, y: Array, data: Data) -> dict[str, float]:
        """Scores answers to any examples of the task, by nothing but what is right for these.

        Args:
            answers: Shape (n, ...).
            y: What is right, shape (n, ...), as in a split of the data.
            data: The task's data.

        Returns:
            Figures by name, the objective's main one first.
        """
        del data
        return self.objective.score(answers, y)

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores simple ways to answer on the test split, to be compared with: figures by name of the way."""
        del data
        return {}

    def illustrate(self, predict: Predict, data: Data, setup: Setup, folder: Path) -> list[Path]:
        """Draws pictures that only this task has into a folder; returns them."""
        del predict, data, setup, folder
        return []

    def _source(self, source: str | Path | None) -> Source:
        if source is None:
            return Source()
        if isinstance(source, str) and source in self.sources:
            return Source(source)
        if Path(source).exists() and self.reads:
            return Source("", Path(source))
        path = f", or the path of {self.reads}" if self.reads else ""
        there = "a source of its data" if Path(source).exists() else "a source of its data, nor is there such a path"
        raise DataError(
            f"Task {self.name!r}: {str(source)!r} is not {there}. It takes {', '.join(self.sources)}{path}."
        )
