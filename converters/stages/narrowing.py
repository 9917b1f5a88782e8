"""Layers that read fewer features than before: where their kernels are, and all else copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.loading.keras_import import import_keras

Array = npt.NDArray[Any]


def readers_inside(layer: Any) -> list[Any]:
    """What in a layer holds a kernel of shape (features, columns) that reads the layer's input.

    Returns:
        The layer itself, its cell, or what it wraps, forward before backward; nothing for a layer that computes
        otherwise.
    """
    return list(_inside(layer))


def _inside(layer: Any) -> Iterator[Any]:
    layers = import_keras().layers
    kind = type(layer)
    if kind in (layers.Dense, layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell):
        yield layer
    elif kind in (layers.LSTM, layers.GRU, layers.SimpleRNN, layers.RNN):
        yield from _inside(layer.cell)
    elif kind is layers.Bidirectional:
        directions = [readers_inside(each) for each in (layer.forward_layer, layer.backward_layer)]
        if all(directions):
            yield from (each for direction in directions for each in direction)
    elif kind is layers.TimeDistributed:
        yield from _inside(layer.layer)


def side_by_side(readers: Sequence[Any]) -> Array:
    """The kernels of several readers of one input, shape (features, columns of all)."""
    return np.concatenate([np.array(reader.kernel) for reader in readers], axis=1)


def assign_side_by_side(readers: Sequence[Any], kernels: Array) -> None:
    """Gives readers their columns of kernels side by side."""
    ends = np.cumsum([reader.kernel.shape[-1] for reader in readers])[:-1]
    for reader, kernel in zip(readers, np.split(kernels, ends, axis=1), strict=True):
        reader.kernel.assign(kernel.astype(np.float32))


def unbuilt(layer: Any) -> Any:
    """Returns a layer of the same configuration that takes any number of features.

    The configuration of a wrapper says for which shape the layer inside was built; Keras would build it so again.
    """
    return type(layer).from_config(_without_shapes(layer.get_config()))


def _without_shapes(config: Any) -> Any:
    if isinstance(config, dict):
        return {name: _without_shapes(value) for name, value in config.items() if name != "build_config"}
    return [_without_shapes(value) for value in config] if isinstance(config, list) else config


def copy_all_but_kernels(source: Any, target: Any) -> None:
    """Gives a layer the weights of another, except the kernels that read its input, and its trainable flags."""
    for old, new in zip((source, *layers_inside(source)), (target, *layers_inside(target)), strict=True):
        if new.trainable != old.trainable:
            new.trainable = old.trainable
    kernels = {id(reader.kernel) for reader in _inside(source)}
    for old, new in zip(source.variables, target.variables, strict=True):
        new.trainable = old.trainable
        if id(old) not in kernels:
            new.assign(old)
