"""Models that read forward only: Bidirectional layers without their backward half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array
from edgelstm.converters.stages.surgery import calls, graph_of, is_model, named_layers, rebuild
from edgelstm.converters.stages.units.cut import cut
from edgelstm.converters.stages.units.trace import Trace
from edgelstm.errors import StageError


def forward_only(model: Any) -> tuple[Any, tuple[str, ...]]:
    """Returns a model in which plain layers stand in the place of Bidirectional ones, and notes on those that stay.

    The forward halves keep their weights. Where halves were concatenated, the rows that read the backward one go; where
    they were added, averaged or multiplied, the forward one takes the place of both.

    Args:
        model: A built model, Functional or Sequential; not changed.

    Raises:
        StageError: If a Bidirectional layer has more than one answer or takes states, wraps another layer than LSTM,
            GRU or SimpleRNN, or the rows that read its backward half cannot go; or if there is no such layer.
    """
    layers = import_keras().layers
    found = {path: layer for path, layer in named_layers(model).items() if type(layer) is layers.Bidirectional}
    notes = tuple(
        f"Layer {path!r} stays as it is: the Bidirectional layer inside it is out of reach."
        for path, layer in named_layers(model).items()
        if not is_model(getattr(layer, "layer", None))
        and any(type(each) is layers.Bidirectional for each in layers_inside(layer))
    )
    if not found:
        raise StageError(
            f"Model {model.name!r} has no Bidirectional layer to make a forward one of. Leave 'forward' out."
        )
    with_states = {id(node.operation) for node in _all_calls(model) if _gets_states(node)}
    for path, layer in found.items():
        _check(path, layer, id(layer) in with_states)
    wide, _ = rebuild(model, lambda layer: [_plain(layer)] if type(layer) is layers.Bidirectional else None)
    made = named_layers(wide)
    for path, layer in found.items():
        _copy_forward(layer, made[path])
    return _without_backward(wide, {path: _widths(layer) for path, layer in found.items()}), notes


def _check(path: str, layer: Any, gets_states: bool) -> None:
    layers = import_keras().layers
    inner = layer.forward_layer
    if type(inner) not in (layers.LSTM, layers.GRU, layers.SimpleRNN):
        why = f"it wraps a {type(inner).__name__}"
    elif layer.merge_mode is None or inner.return_state:
        why = "it has several answers"
    elif gets_states:
        why = "it begins with states that it is given"
    else:
        return
    raise StageError(f"Layer {path!r} cannot become a forward one: {why}. Leave 'forward' out, or take student 'lstm'.")


def _all_calls(model: Any) -> list[Any]:
    found = []
    for node in calls(graph_of(model)):
        found += [node, *(_all_calls(node.operation) if is_model(node.operation) else ())]
    return found


def _gets_states(node: Any) -> bool:
    arguments = node.arguments
    return len(arguments.args) > 1 or arguments.kwargs.get("initial_state") is not None


def _widths(layer: Any) -> tuple[int, int]:
    """Units that stay, and those that only hold the place of the backward half."""
    return layer.forward_layer.units, layer.backward_layer.units if layer.merge_mode == "concat" else 0


def _plain(layer: Any) -> Any:
    """A forward layer as wide as both directions, not built."""
    config = {key: value for key, value in layer.forward_layer.get_config().items() if key != "build_config"}
    constant = {key: "zeros" for key, value in config.items() if key.endswith("_initializer") and _is_constant(value)}
    return type(layer.forward_layer).from_config(
        {**config, **constant, "units": sum(_widths(layer)), "name": layer.name, "trainable": layer.trainable}
    )


def _is_constant(initializer: Any) -> bool:
    return isinstance(initializer, Mapping) and initializer.get("class_name") == "Constant"


def _copy_forward(layer: Any, plain: Any) -> None:
    """Gives a plain layer the weights of a forward half; the weights of its other units are zeros."""
    old, new = layer.forward_layer.cell, plain.cell
    for name in ("kernel", "recurrent_kernel", "bias"):
        value = getattr(old, name, None)
        if value is not None:
            getattr(new, name).assign(_widened(np.array(value), old.units, new.units, rows=name == "recurrent_kernel"))


def _widened(value: Array, units: int, wider: int, *, rows: bool) -> Array:
    """Appends zeros to each gate, shape (..., gates * units); to the rows, too, where these are units."""
    gates = value.reshape(*value.shape[:-1], value.shape[-1] // units, units)
    before = wider - units if rows else 0
    padding = [(0, 0)] * (gates.ndim - 1) + [(0, wider - units)]
    padding[0] = (0, before) if rows else padding[0]
    padded = np.pad(gates, padding)
    return padded.reshape(*padded.shape[:-2], -1)


def _without_backward(model: Any, widths: Mapping[str, tuple[int, int]]) -> Any:
    """Cuts off the units that hold the place of backward halves, with the rows that read them."""
    trace = Trace(model)
    roots, stay = trace.ties.roots(), trace.ties.reasons()
    halves = {each.path: each.ids[widths[each.path][0] :] for each in trace.sources if each.path in widths}
    gone = {root for ids in halves.values() for root in roots[ids].tolist()}
    places = np.concatenate(list(halves.values()))
    for path, ids in halves.items():
        for root in roots[ids].tolist():
            if root in stay:
                raise _stays(path, stay[root])
    for source in trace.sources:
        others = [each for each in source.ids.tolist() if each not in set(places.tolist())]
        tied = [each for each in others if roots[each] in gone]
        if tied:
            path = next(path for path, ids in halves.items() if roots[tied[0]] in roots[ids])
            raise _stays(path, f"it is added to, or multiplied with, units of {source.name!r}")
    return cut(trace, np.array(sorted(gone), np.int64))


def _stays(path: str, why: str) -> StageError:
    return StageError(
        f"Layer {path!r} cannot lose its backward half: {why}. Leave 'forward' out, or take student 'lstm'."
    )
