"""The layers inside a Keras model, for which Keras has no public call."""

from __future__ import annotations

from typing import Any


def layers_inside(model: Any, *, recursive: bool = True) -> list[Any]:
    """The layers inside a model or a layer, itself not included, in Keras' order.

    Args:
        model: A model, or any layer.
        recursive: Whether layers inside those are listed, too.
    """
    flatten = getattr(model, "_flatten_layers", None)
    return list(flatten(include_self=False, recursive=recursive)) if flatten else []
