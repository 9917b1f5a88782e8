"""What stages work with: the data of a compression and the training loop of every task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.compression.learning import GivenTask, Learning
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array, Examples
from edgelstm.errors import EdgeLSTMError
from edgelstm.training.checkpoints import assign, values_of
from edgelstm.training.feeding import feed, keras_predict
from edgelstm.training.fitting import Report, fit
from edgelstm.training.folders import write_complete

_LOSS_BATCH = 256


@dataclasses.dataclass(frozen=True)
class TrainingWorkshop:
    """A `Workshop` on the training loop of `edgelstm.training`.

    Attributes:
        learning: The data, and how is learnt from it.
        folder: Where checkpoints and arrays lie; None to keep none.
        takes: Takes lines about what is being done.
    """

    learning: Learning
    folder: Path | None = None
    takes: Report = print

    @property
    def train(self) -> Examples:
        """Examples to learn from."""
        return self.learning.data.train

    @property
    def validation(self) -> Examples:
        """Examples to choose by."""
        return self.learning.data.validation

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.learning.setup.seed

    def finetune(
        self,
        model: Any,
        *,
        epochs: int,
        learning_rate: float | None = None,
        keep: str = "best",
        loss: Callable[[Any, Any], Any] | None = None,
        targets: Array | None = None,
        examples: Examples | None = None,
        after_step: Callable[[int, int], None] | None = None,
        name: str = "",
    ) -> None:
        """Trains as `Workshop.finetune` says; interrupted and called again, it goes on after the last batch."""
        if not epochs:
            return
        learning = self._learning(targets, examples).with_targets(targets, loss)
        settings: dict[str, bool | int | float | str] = {"epochs": epochs, "patience": 0, "schedule": "cosine"}
        if targets is not None:
            # They need not have steps that could be cut up.
            settings["truncate"] = 0
        if learning_rate is not None:
            settings["learning_rate"] = learning_rate
        setup = dataclasses.replace(learning.setup, settings={**learning.setup.settings, **settings})
        before = values_of(model.variables)
        try:
            fit(
                model,
                learning.task,
                learning.data,
                setup,
                checkpoint=self.folder / f"{name or 'training'}.checkpoint.npz" if self.folder else None,
                report=self.takes,
                after_step=after_step,
                keep=keep,
            )
        except EdgeLSTMError:
            if not all(np.isfinite(value).all() for value in values_of(model.variables)):
                assign(model.variables, before)
            raise

    def _learning(self, targets: Array | None, examples: Examples | None) -> Learning:
        """The same with other examples to learn from; targets belong to examples that the task does not vary."""
        learning = self.learning
        if examples is not None:
            learning = dataclasses.replace(learning, data=dataclasses.replace(learning.data, train=examples))
        if targets is not None:
            learning = dataclasses.replace(learning, task=GivenTask(learning.task.objective))
        return learning

    def loss(self, model: Any) -> float:
        """Returns the mean loss on the validation examples."""
        split = self.learning.data.validation
        model.compile(loss=self.learning.task.objective.loss)
        figures = model.evaluate(feed(model, split.x), split.y, batch_size=_LOSS_BATCH, verbose=0, return_dict=True)
        return float(figures["loss"])

    def score(self, model: Any) -> float:
        """Returns the main score on the validation examples, an error with a minus."""
        validation = self.learning.data.validation
        return self.learning.score(np.asarray(keras_predict(model)(validation.x)), validation)

    def label_loss(self, targets: Any, answers: Any) -> Any:
        """Returns what answers cost, for each example or each of their steps."""
        losses = import_keras().losses
        loss = losses.get(self.learning.task.objective.loss)
        if len(targets.shape) == len(answers.shape) - 1 and answers.shape[-1] == 1:
            targets = targets[..., None]  # one answer for each example has a width of 1
        return (loss.call if isinstance(loss, losses.Loss) else loss)(targets, answers)

    def cached(self, name: str, make: Callable[[], Array]) -> Array:
        """Returns an array from its folder, or makes it and keeps it there."""
        path = self.folder / f"{name}.npy" if self.folder else None
        if path is not None and path.exists():
            array: Array = np.load(path, allow_pickle=False)
            return array
        made = make()
        if path is not None:
            write_complete(path, lambda file: np.save(file, made, allow_pickle=False))
        return made

    def report(self, line: str) -> None:
        """Takes a line about what is being done."""
        self.takes(line)

    def with_tokens(self, tokens: Mapping[str, Array]) -> TrainingWorkshop:
        """Returns the same workshop with other ids."""
        return dataclasses.replace(self, learning=self.learning.with_tokens(tokens))
