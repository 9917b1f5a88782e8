"""Inputs: told by layers of their own in Keras 3, by the first layer of a model before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelstm.converters.loading.rewriting.base import Context
from edgelstm.converters.loading.rewriting.layers import is_model, layer_name

Shape = list[int | None]


def input_config(entry: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Returns the configuration of an InputLayer as Keras 3 reads it.

    Raises:
        LoadError: If it takes ragged or sparse tensors.
        ValueError: If it has no shape.
    """
    name = layer_name(entry)
    settings = entry.get("config") or {}
    for kind in ("ragged", "sparse"):
        if settings.get(kind):
            raise context.refusal(name, f"takes {kind} tensors, which TensorFlow Lite does not have")
    if settings.get("type_spec"):
        raise context.refusal(name, "takes a special kind of tensors, which TensorFlow Lite does not have")
    shape = settings.get("batch_shape") or settings.get("batch_input_shape")
    return _input(name, shape, settings.get("dtype") or settings.get("input_dtype"), context)


def make_input(name: str, shape: Any, first: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Returns an InputLayer in place of the input shape that the first layer of a Sequential model tells."""
    settings = first.get("config")
    dtype = None
    if isinstance(settings, dict) and not is_model(first):
        dtype = settings.get("input_dtype") or settings.get("dtype")
    return _input(name, shape, dtype, context)


def takes_whole_numbers(entry: Mapping[str, Any]) -> bool:
    """Tells whether a layer rounds its input down to whole numbers anyway.

    The input of such a model was often float32 because nobody said otherwise; int32 is what devices feed it.
    """
    return bool(entry["class_name"] == "Embedding")


def input_shape_of(entry: Mapping[str, Any]) -> Shape | None:
    """Returns the input shape that a first layer tells, with the batch axis; None if it tells none."""
    settings = entry.get("config")
    if is_model(entry):
        return _of_model(settings)
    if not isinstance(settings, dict):
        return None
    shape = settings.get("batch_input_shape") or settings.get("batch_shape") or _of_keras_1(entry, settings)
    inner = settings.get("layer")
    if not shape and isinstance(inner, dict) and entry.get("class_name") != "TimeDistributed":
        return input_shape_of(inner)
    return shape


def _of_model(config: Any) -> Shape | None:
    """Returns the input shape of a model that is the first layer of another one; None if it has several inputs."""
    layers = config.get("layers") if isinstance(config, dict) else config
    ends = config.get("input_layers") if isinstance(config, dict) else None
    if not isinstance(layers, list) or not layers or (isinstance(ends, list) and len(ends) > 1 and ends[1:] != [0, 0]):
        return None
    return input_shape_of(layers[0])


def _of_keras_1(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> Shape | None:
    """Returns the shape told as the number of features, and of steps where there are any."""
    if entry.get("class_name") == "Embedding":
        return [None, settings["input_length"]] if "input_length" in settings else None
    features = settings.get("input_dim")
    if not features:
        return None
    return [None, features] if entry.get("class_name") == "Dense" else [None, settings.get("input_length"), features]


def _input(name: str, shape: Any, dtype: Any, context: Context) -> dict[str, Any]:
    if not isinstance(shape, list) or not all(size is None or isinstance(size, int) for size in shape) or not shape:
        raise ValueError(f"the input {name!r} has no shape")
    if context.batch is not None and shape[0] not in (None, context.batch):
        context.batches.add(shape[0])
        shape = [context.batch, *shape[1:]]
    if isinstance(dtype, dict):
        dtype = (dtype.get("config") or {}).get("name")
    settings = {"batch_shape": shape, "dtype": str(dtype or "float32"), "sparse": False, "name": name}
    return {"module": "keras.layers", "class_name": "InputLayer", "config": settings, "registered_name": None}
