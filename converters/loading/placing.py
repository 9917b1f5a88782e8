"""Putting the weights of Keras 1 and 2 where Keras 3 has them.

A file lists the weights of each outermost layer: first the trainable ones of everything inside, then the others. So
does this module with the layers of the Keras 3 model, and takes from the file's list what each of them needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.layouts import LAYOUTS, Layout, Named
from edgelstm.converters.loading.rewriting import Context
from edgelstm.converters.loading.rewriting.layers import clean_name
from edgelstm.errors import LoadError

_ALIASES = {  # names that Keras 1 gave to what has another name today
    "W": {"kernel", "embeddings"},
    "U": {"recurrent_kernel"},
    "b": {"bias"},
    "running_mean": {"moving_mean"},
    "running_std": {"moving_variance"},
    "alphas": {"alpha"},
    "depthwise_kernel": {"kernel"},
}
_NUMBERED = re.compile(r"_\d+$")
_UNNAMED = re.compile(r"(param|variable|Variable)(_\d+)?|\d+")


def place_weights(model: Any, weights: Mapping[str, Sequence[Named]], context: Context) -> None:
    """Assigns every weight of a file to its place in a model.

    Args:
        model: The Keras 3 model.
        weights: Names and values of the weights, by the name of the outermost layer.
        context: What holds for the file.

    Raises:
        LoadError: If a layer is missing on one side, or the number, order or shapes of its weights do not fit.
    """
    layers = {layer.name: layer for layer in model.layers}
    with_weights = {name for name, layer in layers.items() if has_weights(layer)}
    weights = {clean_name(name): values for name, values in weights.items()}
    in_file = {name for name, values in weights.items() if values}
    different = sorted(with_weights ^ in_file)
    if different:
        raise LoadError(
            f"Cannot load {context.path}: the layers with weights in the file and in the model that its configuration "
            f"describes differ in {', '.join(map(repr, different))}. Save the model again."
        )
    for name in weights:
        if name in with_weights:
            _place_layer(layers[name], list(weights[name]), context)


def has_weights(layer: Any) -> bool:
    """Tells whether a layer has weights that are stored; the states of recurrent layers are not."""
    return bool(variables_of(layer)) or any(has_weights(inner) for inner in children(layer))


def variables_of(layer: Any) -> list[Any]:
    """Returns the stored weights that a layer has itself, trainable ones first."""
    states = {id(state) for state in _flat(getattr(layer, "states", None))}
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    return [variable for variable in own if id(variable) not in states and _is_stored(variable)]


def children(layer: Any) -> list[Any]:
    """Returns the layers directly inside a layer, in the order in which Keras lists their weights."""
    if hasattr(layer, "forward_layer") and hasattr(layer, "backward_layer"):
        return [layer.forward_layer, layer.backward_layer]
    inner = getattr(layer, "layers", None)
    found = inner if isinstance(inner, list) else layer._layers
    return list({id(one): one for one in found}.values())


def _flat(states: Any) -> list[Any]:
    if states is None:
        return []
    return [one for state in states for one in (_flat(state) if isinstance(state, (list, tuple)) else [state])]


def _is_stored(variable: Any) -> bool:
    return "seed_generator" not in variable.path


class _Queue:
    """The weights of one outermost layer, in the order of the file."""

    def __init__(self, values: list[Named]) -> None:
        self.values = values
        self.taken = 0

    def take(self, count: int) -> list[Named]:
        """Returns the next weights, fewer at the end."""
        values = self.values[self.taken : self.taken + count]
        self.taken += count
        return values


def _place_layer(layer: Any, values: list[Named], context: Context) -> None:
    queue = _Queue(values)
    placed = [*_place(layer, queue, True, context), *_place(layer, queue, False, context)]
    if queue.taken != len(values):
        raise _misfit(layer, layer, values, context)
    for variable, array in placed:
        variable.assign(array)


def _place(layer: Any, queue: _Queue, trainable: bool, context: Context) -> list[tuple[Any, Array]]:
    """Takes either the trainable weights of a layer and those inside it, or the others."""
    placed = []
    own = variables_of(layer)
    if not layer.trainable:
        wanted = [] if trainable else own
    else:
        wanted = [variable for variable in own if variable.trainable is trainable]
    if wanted:
        placed += _take_own(layer, wanted, queue, context)
    for inner in children(layer):
        placed += _place(inner, queue, trainable, context)
    return placed


def _take_own(layer: Any, variables: list[Any], queue: _Queue, context: Context) -> list[tuple[Any, Array]]:
    rest = queue.values[queue.taken :]
    layout, count = _layout_of(layer, variables, rest, context)
    values = queue.take(count)
    return _fit(layer, variables, layout.convert(layer, values, context) if layout else values, context)


def place_own(layer: Any, variables: list[Any], values: list[Named], context: Context) -> list[tuple[Any, Array]]:
    """Pairs the weights that one layer has itself with their values, from whichever layout the file has them in.

    Args:
        layer: The layer.
        variables: Its weights.
        values: All that the file has for them.
        context: What holds for the file.

    Raises:
        LoadError: If their number or shapes do not fit.
    """
    layout, count = _layout_of(layer, variables, values, context)
    if count != len(values):
        raise _misfit(layer, variables, values, context)
    return _fit(layer, variables, layout.convert(layer, values, context) if layout else values, context)


def _layout_of(
    layer: Any, variables: list[Any], values: Sequence[Named], context: Context
) -> tuple[Layout | None, int]:
    """Returns the layout of a layer's weights, None for that of Keras 3, and how many of the values are its own."""
    for layout in LAYOUTS:
        count = layout.recognizes(layer, values, context)
        if count:
            return layout, count
    return None, len(variables)


def _fit(layer: Any, variables: list[Any], values: Sequence[Named], context: Context) -> list[tuple[Any, Array]]:
    """Pairs variables and values, if their names and shapes say that they belong together."""
    if len(values) != len(variables):
        raise _misfit(layer, variables, values, context)
    strict = type(layer).__module__.startswith("keras.")
    kinds = [kind_of(name) for name, _ in values]
    names = [variable.name for variable in variables]
    shuffled = kinds != names and sorted(kinds) == sorted(names)
    for variable, kind, (_, array) in zip(variables, kinds, values, strict=True):
        wrong_name = shuffled or (strict and not _same_kind(kind, variable.name))
        if wrong_name or tuple(array.shape) != tuple(variable.shape):
            raise _misfit(layer, variables, values, context)
    return [(variable, np.asarray(array)) for variable, (_, array) in zip(variables, values, strict=True)]


def kind_of(name: str) -> str:
    """Returns what a weight is, from its name in the file: "lstm_1/kernel:0" and "lstm_1_W_i:0" are kernel and W_i."""
    last = name.rpartition("/")[2].partition(":")[0]
    found = re.search(r"(?:^|_)([WUb](?:_[ifcozrh])?|gamma|beta|running_mean|running_std|alphas)(?:_\d+)?$", last)
    return found.group(1) if found else last


def _same_kind(kind: str, name: str) -> bool:
    if kind == name or name in _ALIASES.get(kind, ()) or _UNNAMED.fullmatch(kind):
        return True
    plain = _NUMBERED.sub("", kind)
    return plain == name or name in _ALIASES.get(plain, ())


def _misfit(layer: Any, variables: Any, values: Sequence[Named], context: Context) -> LoadError:
    wanted = variables_of(layer) if variables is layer else variables
    has = ", ".join(f"{variable.name} {tuple(variable.shape)}" for variable in wanted) or "other layers inside it"
    found = ", ".join(f"{name} {tuple(array.shape)}" for name, array in values) or "none"
    return LoadError(
        f"Cannot load {context.path}: the layer {layer.name!r} has the weights {has}, and the file holds {found} for "
        "it. Save the model again with the Keras that trained it."
    )
