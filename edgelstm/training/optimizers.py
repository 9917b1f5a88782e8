"""Optimizers with clipping and a schedule, which tell the global norm of the gradients of each step."""

from __future__ import annotations

import functools
from typing import Any

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.tasks.base import Setup

ADAMW_WEIGHT_DECAY = 0.004
"""Keras' own default, taken where adamw is asked for without a weight decay."""


def make_optimizer(setup: Setup, steps_per_epoch: int) -> Any:
    """Returns the optimizer that the settings ask for.

    Its attribute `gradient_norm` is a variable that holds, after each step, the global norm of the gradients before
    they were clipped: sqrt of the sum of squares over all weights.

    Args:
        setup: Used are optimizer, learning_rate, weight_decay, clipnorm, clipvalue, schedule, epochs.
        steps_per_epoch: Updates of the weights in an epoch.
    """
    keras = import_keras()
    rate: Any = setup.float("learning_rate")
    if setup.str("schedule") == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, setup.int("epochs") * steps_per_epoch)
    options: dict[str, Any] = {"learning_rate": rate}
    if setup.float("clipnorm"):
        options["global_clipnorm"] = setup.float("clipnorm")
    if setup.float("clipvalue"):
        options["clipvalue"] = setup.float("clipvalue")
    if setup.str("optimizer") == "adamw":
        options["weight_decay"] = setup.float("weight_decay") or ADAMW_WEIGHT_DECAY
    return _watching(setup.str("optimizer"))(**options)


def own_optimizer(model: Any) -> Any:
    """The optimizer that `make_optimizer` made for a compiled model, under the one that scales losses, if any."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


@functools.cache
def _watching(name: str) -> Any:
    """A class of optimizers that keeps the norm of what it is given."""
    keras = import_keras()
    import tensorflow as tf

    base = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[name]

    class Watching(base):  # type: ignore[misc, valid-type]
        def build(self, variables: Any) -> None:
            if self.built:
                return
            super().build(variables)
            self.gradient_norm = self.add_variable((), name="gradient_norm")

        def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
            if not self.built:
                self.build(list(trainable_variables))
            self.gradient_norm.assign(tf.linalg.global_norm([grad for grad in grads if grad is not None]))
            return super().apply(grads, trainable_variables)

    Watching.__name__ = f"Watching{base.__name__}"
    return Watching
