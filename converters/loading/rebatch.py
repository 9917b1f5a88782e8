"""Batch sizes that a model fixes, replaced by another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgelstm.converters.layers import layers_inside, own_objects
from edgelstm.converters.loading.base import Loaded
from edgelstm.converters.loading.configuration import dictionaries
from edgelstm.converters.loading.placing import children, variables_of
from edgelstm.converters.loading.rebuild import revive
from edgelstm.errors import LoadError


def rebase_batch(model: Any, batch: int | None) -> Loaded:
    """Returns a model with another fixed batch size.

    The model is built again from its configuration, and given the same weights. A batch size that the model leaves free
    stays free.

    Args:
        model: A built Keras 3 model; not changed.
        batch: The batch size; None returns the model as it is.

    Raises:
        LoadError: If the model is subclassed, cannot be built again, or uses its batch size elsewhere than in the
            shapes of its inputs.
    """
    before = fixed_batches(model)
    if batch is None or before <= {batch}:
        return Loaded(model)
    import keras

    name = Path(str(model.name))
    if not isinstance(model, keras.Sequential) and type(model).__name__ != "Functional":
        raise LoadError(
            f"Model {model.name!r} fixes its batch size at {min(before)} and is a subclassed model, whose code decides "
            f"on it. Build it for a batch size of {batch} and give it these weights."
        )
    config = keras.saving.serialize_keras_object(model)
    for entry, _ in dictionaries(config):
        entry.pop("build_config", None)
        if entry.get("class_name") == "InputLayer" and entry["config"]["batch_shape"][0] is not None:
            entry["config"]["batch_shape"] = [batch, *entry["config"]["batch_shape"][1:]]
        if entry.get("class_name") == "Sequential":
            entry["config"].pop("build_input_shape", None)
    rebased = revive(name, config, own_objects(layers_inside(model)))
    check_batch(rebased, batch, name)
    for source, target in zip(_variables(model), _variables(rebased), strict=True):
        target.assign(source)
    return Loaded(rebased, (batch_note(before, batch),))


def batch_note(before: set[int], batch: int) -> str:
    """Tells the user that a batch size was replaced."""
    return f"The batch size is fixed at {batch} in place of {' and '.join(map(str, sorted(before)))}."


def fixed_batches(model: Any) -> set[int]:
    """Returns the batch sizes that the inputs of a model fix."""
    return {int(tensor.shape[0]) for tensor in getattr(model, "inputs", None) or () if tensor.shape[0] is not None}


def check_batch(model: Any, batch: int | None, path: Path) -> None:
    """Checks that a model whose batch size was replaced has the new one everywhere.

    Raises:
        LoadError: If an output has another batch size than the inputs.
    """
    if batch is None or not fixed_batches(model):
        return
    sizes = {tensor.shape[0] for tensor in model.outputs}
    if not sizes <= {batch, None}:
        raise LoadError(
            f"Cannot load {path}: with a batch size of {batch} its outputs have one of "
            f"{', '.join(map(str, sorted(sizes - {None, batch})))}, so the file uses its batch size in a layer, too. "
            "Load it with the batch size that it has."
        )


def _variables(layer: Any) -> Iterator[Any]:
    yield from variables_of(layer)
    for inner in children(layer):
        yield from _variables(inner)
