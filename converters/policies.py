"""What a model does otherwise on a device than in training, for as long as it is converted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.lowering.activations import HARD_SIGMOIDS, name_of


@contextlib.contextmanager
def float32_computation(model: Any) -> Iterator[list[str]]:
    """Lets every layer of a model compute in float32 for a while: TensorFlow Lite has no float16 arithmetic on CPUs.

    Yields:
        Paths of the layers that otherwise compute in another type.
    """
    changed: list[tuple[Any, Any]] = []
    try:
        for layer in (model, *layers_inside(model)):
            if layer.compute_dtype not in ("float32", None) and str(layer.compute_dtype).startswith(
                ("float", "bfloat")
            ):
                changed.append((layer, layer.dtype_policy))
                layer.dtype_policy = _computing_in_float32(layer.dtype_policy)
        yield [str(layer.path) for layer, _ in changed]
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy


def _computing_in_float32(policy: Any) -> Any:
    """float32 for computing; weights keep their type, and Keras casts them when they are read."""
    import keras

    result = keras.DTypePolicy("float32")
    result._variable_dtype = policy.variable_dtype
    return result


@contextlib.contextmanager
def sigmoid_gates(model: Any) -> Iterator[list[str]]:
    """Lets the gates of every LSTM whose recurrent activation is a hard sigmoid be sigmoids for a while.

    Yields:
        Paths of the changed layers.
    """
    import keras

    changed: list[tuple[Any, Any]] = []
    paths = []
    try:
        for layer in layers_inside(model):
            cell = getattr(layer, "cell", None)
            for inner in getattr(cell, "cells", [cell]):
                if type(inner) is keras.layers.LSTMCell and _is_hard(inner.recurrent_activation):
                    changed.append((inner, inner.recurrent_activation))
                    inner.recurrent_activation = keras.activations.sigmoid
                    paths.append(str(layer.path))
        yield paths
    finally:
        for cell, function in changed:
            cell.recurrent_activation = function


def _is_hard(function: Any) -> bool:
    return name_of(function) in HARD_SIGMOIDS


@contextlib.contextmanager
def any_length(model: Any) -> Iterator[None]:
    """Lets functional models take sequences of other lengths than they were built for, for a while."""
    import keras

    functional = keras.src.models.functional.Functional
    checked = [
        layer
        for layer in (model, *layers_inside(model))
        if isinstance(layer, functional) and not hasattr(layer, "_manual_input_spec")
    ]
    try:
        for layer in checked:
            layer._manual_input_spec = None
        yield
    finally:
        for layer in checked:
            del layer._manual_input_spec
