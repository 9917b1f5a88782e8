"""The layers inside a Keras model, for which Keras has no public call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any


def layers_inside(model: Any, *, recursive: bool = True) -> list[Any]:
    """The layers inside a model or a layer, itself not included, in Keras' order.

    Args:
        model: A model, or any layer.
        recursive: Whether layers inside those are listed, too.
    """
    flatten = getattr(model, "_flatten_layers", None)
    return list(flatten(include_self=False, recursive=recursive)) if flatten else []


def own_objects(layers: Iterable[Any]) -> dict[str, Any]:
    """Returns the classes and functions of live layers that Keras does not have, by the names it writes for them."""
    from keras import saving

    objects: dict[str, Any] = {}
    for layer in layers:
        for value in (type(layer), *_values(layer)):
            if not str(value.__module__).startswith("keras."):
                objects[saving.get_registered_name(value)] = objects[value.__name__] = value
    return objects


def _values(layer: Any) -> Iterator[Any]:
    """The functions among a layer's attributes, and the classes of its initializers, regularizers and the like."""
    for value in vars(layer).values():
        if isinstance(value, FunctionType):
            yield value
        elif hasattr(value, "get_config") and not isinstance(value, type):
            yield type(value)
