"""A workshop for tests of stages: a few examples and Keras' own training loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgelstm.converters.stages.base import Examples
from edgelstm.errors import EdgeLSTMError

Array = npt.NDArray[Any]


class TinyWorkshop:
    """Examples in the model's order of inputs, the last fifth for validation.

    Args:
        x: Arrays by input name.
        y: Labels.
        loss_name: Keras' name of the loss.
        learning_rate: Of Adam.
    """

    def __init__(
        self,
        x: Mapping[str, Array],
        y: Array,
        *,
        loss_name: str = "sparse_categorical_crossentropy",
        learning_rate: float = 0.01,
        seed: int = 0,
    ) -> None:
        everything, count = Examples(x, y), len(y) - len(y) // 5
        self.train, self.validation = everything.take(slice(count)), everything.take(slice(count, None))
        self.seed, self.loss_name, self.learning_rate = seed, loss_name, learning_rate
        self.lines: list[str] = []
        self.trainings: list[dict[str, Any]] = []
        self.made: list[str] = []

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
        self.trainings.append({"epochs": epochs, "keep": keep, "name": name})
        if not epochs:
            return
        train = self.train if examples is None else examples
        count, batch = len(train), 16
        y = train.y if targets is None else targets[:count]
        y_validation = self.validation.y if targets is None else targets[count:]
        keras.utils.set_random_seed(self.seed)
        optimizer = keras.optimizers.Adam(self.learning_rate if learning_rate is None else learning_rate)
        model.compile(optimizer, loss=loss or self.loss_name)
        best, lowest, step, steps = model.get_weights(), math.inf, 0, epochs * -(-count // batch)
        for epoch in range(epochs):
            order = np.random.default_rng([self.seed, epoch]).permutation(count)
            for start in range(0, count, batch):
                chosen = order[start : start + batch]
                value = model.train_on_batch(self.feed(model, train.take(chosen)), y[chosen])
                if not np.isfinite(value):
                    model.set_weights(best)
                    raise EdgeLSTMError(f"The loss became {value} in epoch {epoch + 1}.")
                step += 1
                if after_step is not None:
                    after_step(step, steps)
            value = model.evaluate(self.feed(model, self.validation), y_validation, verbose=0)
            if value < lowest or keep == "last":
                best, lowest = model.get_weights(), value
        model.set_weights(best)

    def loss(self, model: Any) -> float:
        """The loss on the validation examples."""
        model.compile(loss=self.loss_name)
        return float(model.evaluate(self.feed(model, self.validation), self.validation.y, verbose=0))

    def label_loss(self, targets: Any, answers: Any) -> Any:
        """The loss of each example, or of each step."""
        if len(targets.shape) == len(answers.shape) - 1 and answers.shape[-1] == 1:
            targets = targets[..., None]
        return keras.losses.get(self.loss_name)(targets, answers)

    def cached(self, name: str, make: Callable[[], Array]) -> Array:
        """Keeps nothing."""
        self.made.append(name)
        return make()

    def score(self, model: Any) -> float:
        """Minus the loss."""
        return -self.loss(model)

    def report(self, line: str) -> None:
        """Keeps the line."""
        self.lines.append(line)

    def with_tokens(self, tokens: Mapping[str, Array]) -> TinyWorkshop:
        """The same with other ids."""
        other = copy.copy(self)
        other.train, other.validation = (
            Examples({name: tokens[name][x.astype(int)] if name in tokens else x for name, x in part.x.items()}, part.y)
            for part in (self.train, self.validation)
        )
        return other

    def feed(self, model: Any, examples: Examples) -> Any:
        """Inputs as the model takes them."""
        values = [examples.x[tensor.name] for tensor in model.inputs]
        return values[0] if len(values) == 1 else values
