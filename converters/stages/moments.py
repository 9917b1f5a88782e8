"""Second moments of what layers read on the training examples."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Workshop
from edgelstm.converters.stages.surgery import copy_weights, graph_of, named_layers, rebuild

Array = npt.NDArray[Any]

# Thousands of examples, each of many steps, settle a moment of a few hundred features.
EXAMPLES = 2048
_BATCH = 64


def input_moments(model: Any, paths: Collection[str], workshop: Workshop) -> dict[str, Array]:
    """Returns the mean of x x' over all steps x that a layer reads, masked ones left out.

    Args:
        model: A built model; not changed.
        paths: Of the layers, as `named_layers` tells them; each reads floats, features last.
        workshop: Its training examples are run through the model, up to `EXAMPLES` of them.

    Returns:
        Shape (features, features) by path.

    Raises:
        StageError: If the model's layers cannot be built again.
    """
    layers = {id(layer): path for path, layer in named_layers(model).items() if path in paths}
    meter_class = _meter_class()

    def change(layer: Any) -> tuple[Any, Any] | None:
        if id(layer) not in layers:
            return None
        return meter_class(), type(layer).from_config(layer.get_config())

    metered, made = rebuild(model, change)
    for path, layer in named_layers(model).items():
        if path in paths:
            copy_weights(layer, made[path][1])
    _run(metered, workshop)
    sums = {path: (np.array(made[path][0].sums, np.float64), float(np.array(made[path][0].steps))) for path in paths}
    return {path: total / max(steps, 1.0) for path, (total, steps) in sums.items()}


def _run(model: Any, workshop: Workshop) -> None:
    """Runs whole batches of training examples through a model, drawn at random."""
    batch = model.inputs[0].shape[0] or _BATCH
    count = min(EXAMPLES, len(workshop.train))
    chosen = np.random.default_rng(workshop.seed).permutation(len(workshop.train))[:count]
    if model.inputs[0].shape[0]:
        chosen = np.resize(chosen, max(count // batch, 1) * batch)
    examples = workshop.train.take(chosen)
    values = [examples.x[tensor.name] for tensor in model.inputs]
    feed = import_keras().tree.pack_sequence_as(graph_of(model).input, values)
    model.predict(feed, batch_size=batch, verbose=0)


@functools.cache
def _meter_class() -> Any:
    keras = import_keras()

    class Meter(keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Hands on what it reads, and sums x x' over it."""

        def __init__(self) -> None:
            super().__init__(dtype="float32", autocast=False)
            self.supports_masking = True

        def build(self, shape: Any) -> None:
            self.sums = self.add_weight(shape=(shape[-1], shape[-1]), initializer="zeros", trainable=False)
            self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x: Any, mask: Any = None) -> Any:
            ops = keras.ops
            steps = ops.cast(x, "float32")
            seen = ops.ones_like(steps[..., :1])
            if mask is not None:
                shown = ops.cast(mask, "float32")
                seen = seen * ops.reshape(shown, (*ops.shape(shown), *[1] * (len(x.shape) - len(mask.shape))))
            flat = ops.reshape(steps * seen, (-1, x.shape[-1]))
            self.sums.assign(self.sums + ops.matmul(ops.transpose(flat), flat))
            self.steps.assign(self.steps + ops.sum(seen))
            return x

    return Meter
