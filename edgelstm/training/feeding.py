"""Inputs by name as Keras models take them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from edgelstm.tasks.base import Inputs, Predict

_PREDICT_BATCH = 64


def feed(model: Any, x: Inputs) -> Any:
    """Returns the one array of a model with one input, else a list in the order of the model's inputs.

    Args:
        model: A functional model, whose inputs have the names in `x`.
        x: Arrays by name.

    Raises:
        ValueError: If the model has an input that is not among them.
    """
    names = [tensor.name for tensor in model.inputs]
    if not set(names) <= set(x):
        raise ValueError(f"The model takes {', '.join(names)}, and the data has {', '.join(x)}.")
    arrays = [x[name] for name in names]
    return arrays[0] if len(arrays) == 1 else arrays


def keras_predict(model: Any) -> Predict:
    """Lets a Keras model answer inputs by name."""

    def predict(x: Inputs) -> Any:
        return model.predict(feed(model, x), batch_size=_PREDICT_BATCH, verbose=0)

    return predict


@contextlib.contextmanager
def without_notices() -> Iterator[None]:
    """Keeps TensorFlow from remarking that batches of several sizes need several graphs: the last one is smaller."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
