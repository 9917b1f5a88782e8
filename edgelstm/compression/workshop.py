"""What stages work with: the data of a compression and the training loop of every task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.compression.learning import Learning
from edgelstm.converters.stages.base import Array, Examples
from edgelstm.errors import EdgeLSTMError
from edgelstm.training.checkpoints import assign, values_of
from edgelstm.training.feeding import feed, keras_predict
from edgelstm.training.fitting import Report, fit

_LOSS_BATCH = 256


@dataclasses.dataclass(frozen=True)
class TrainingWorkshop:
    """A `Workshop` on the training loop of `edgelstm.training`.

    Attributes:
        learning: The data, and how is learnt from it.
        folder: Where checkpoints lie; None to keep none.
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
        after_step: Callable[[int, int], None] | None = None,
        name: str = "",
    ) -> None:
        """Trains as `Workshop.finetune` says; interrupted and called again, it goes on after the last batch."""
        if not epochs:
            return
        learning = self.learning.with_targets(targets, loss)
        settings: dict[str, bool | int | float | str] = {"epochs": epochs, "patience": 0, "schedule": "constant"}
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

    def loss(self, model: Any) -> float:
        """Returns the mean loss on the validation examples."""
        split = self.learning.data.validation
        model.compile(loss=self.learning.task.objective.loss)
        figures = model.evaluate(feed(model, split.x), split.y, batch_size=_LOSS_BATCH, verbose=0, return_dict=True)
        return float(figures["loss"])

    def score(self, model: Any) -> float:
        """Returns the main score on the validation examples, an error with a minus."""
        return self.learning.score(keras_predict(model), self.learning.data.validation)

    def report(self, line: str) -> None:
        """Takes a line about what is being done."""
        self.takes(line)

    def with_tokens(self, tokens: Mapping[str, Array]) -> TrainingWorkshop:
        """Returns the same workshop with other ids."""
        return dataclasses.replace(self, learning=self.learning.with_tokens(tokens))
