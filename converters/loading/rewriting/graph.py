"""Graphs of layers: the nodes of Keras 1 and 2 as nodes of Keras 3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from edgelstm.converters.loading.rewriting.base import Context
from edgelstm.converters.loading.rewriting.inputs import input_config
from edgelstm.converters.loading.rewriting.layers import clean_name, is_model, layer_name, rewrite_layer
from edgelstm.converters.loading.rewriting.operations import is_operation, rewrite_operation

CONSTANT = "_CONSTANT_VALUE"
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Bidirectional")


class Reference(NamedTuple):
    """One tensor: the output `tensor` of call number `node` of a layer."""

    layer: str
    node: int
    tensor: int


class Node(NamedTuple):
    """One call of a layer: its first argument, nested as it was given, and the others by name."""

    first: Any
    others: dict[str, Any]


def rewrite_graph(config: dict[str, Any], context: Context) -> dict[str, Any]:
    """Returns the layers, inputs and outputs of a functional model as Keras 3 reads them.

    Raises:
        LoadError: If a layer has no counterpart in Keras 3.
        ValueError: If the configuration is damaged.
    """
    entries = {layer_name(entry): entry for entry in config["layers"]}
    if len(entries) != len(config["layers"]):
        raise ValueError("two layers have the same name")
    nodes = {
        name: [_parse(data, entries) for data in entry.get("inbound_nodes") or []] for name, entry in entries.items()
    }
    shifts = _shifts(entries, nodes, config)
    layers = []
    for name, entry in entries.items():
        moved = [Node(_shift(node.first, shifts), _shift(node.others, shifts)) for node in nodes[name]]
        layers.append(_rewrite_entry(name, entry, moved, context))
    functional = {layer["name"] for layer in layers if layer["class_name"] == "Functional"}
    return {
        "layers": layers,
        "input_layers": _ends(config["input_layers"], entries, shifts, functional),
        "output_layers": _ends(config["output_layers"], entries, shifts, functional),
    }


def _rewrite_entry(name: str, entry: dict[str, Any], nodes: list[Node], context: Context) -> dict[str, Any]:
    if entry["class_name"] == "InputLayer":
        return input_config(entry, context) | {"name": name, "inbound_nodes": []}
    if is_operation(entry):
        layer, calls = rewrite_operation(name, entry, [(node.first, node.others) for node in nodes], context)
    else:
        layer = rewrite_layer(entry, context)
        layer["config"]["name"] = name
        calls = [_layer_call(node, layer["class_name"]) for node in nodes]
    inbound = [{"args": [_written(value) for value in args], "kwargs": _written(kwargs)} for args, kwargs in calls]
    return layer | {"name": name, "inbound_nodes": inbound}


def _layer_call(node: Node, class_name: str) -> tuple[list[Any], dict[str, Any]]:
    """Returns the arguments of a call as the layers of Keras 3 take them."""
    first = node.first
    others = {name: value for name, value in node.others.items() if value is not None}
    if isinstance(first, list) and len(first) == 1:
        first = first[0]
    if class_name.removesuffix("OfKeras2") in _RECURRENT and isinstance(first, list):
        others["initial_state"] = first[1:]
        first = first[0]
    elif isinstance(others.get("initial_state"), Reference):
        others["initial_state"] = [others["initial_state"]]
    return [first], others


def _parse(data: Any, entries: dict[str, Any]) -> Node:
    """Reads a node: nested lists of [layer, node, tensor, other arguments]."""
    others: dict[str, Any] = {}

    def first(value: Any) -> Any:
        if _is_leaf(value):
            others.update(value[3] if len(value) > 3 and isinstance(value[3], dict) else {})
            return value[2] if value[0] == CONSTANT else _reference(value, entries)
        if isinstance(value, list):
            return [first(inner) for inner in value]
        if isinstance(value, dict):
            return {name: first(inner) for name, inner in value.items()}
        raise ValueError("a node of the model is damaged")

    found = first(data)
    return Node(found, _references(others, entries))


def _is_leaf(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and (value[0] == CONSTANT or isinstance(value[2], int))
    )


def _reference(value: list[Any], entries: dict[str, Any]) -> Reference:
    name = clean_name(value[0])
    if name not in entries:
        raise ValueError(f"a node refers to the layer {name!r}, which is not there")
    return Reference(name, value[1], value[2])


def _references(value: Any, entries: dict[str, Any]) -> Any:
    """Replaces the tensors among further arguments, told as [layer, node, tensor]."""
    if _is_leaf(value) and len(value) == 3 and clean_name(value[0]) in entries:
        return _reference(value, entries)
    if isinstance(value, list):
        return [_references(inner, entries) for inner in value]
    if isinstance(value, dict):
        return {name: _references(inner, entries) for name, inner in value.items()}
    return value


def _inside(value: Any) -> Iterator[Reference]:
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, (list, Node)):
        for inner in value:
            yield from _inside(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _inside(inner)


def _shifts(entries: dict[str, Any], nodes: dict[str, list[Node]], config: dict[str, Any]) -> dict[str, int]:
    """Returns where the calls of each layer begin to count.

    A model used as a layer may have a call number 0 that is its own building and not listed among its nodes.
    """
    used: dict[str, int] = {}
    ends = _references([config["input_layers"], config["output_layers"]], entries)
    for reference in _inside([list(nodes.values()), ends]):
        used[reference.layer] = max(used.get(reference.layer, 0), reference.node)
    return {name: 1 for name, last in used.items() if is_model(entries[name]) and last >= len(nodes[name])}


def _shift(value: Any, shifts: dict[str, int]) -> Any:
    if isinstance(value, Reference):
        return value._replace(node=value.node - shifts.get(value.layer, 0))
    if isinstance(value, list):
        return [_shift(inner, shifts) for inner in value]
    if isinstance(value, dict):
        return {name: _shift(inner, shifts) for name, inner in value.items()}
    return value


def _written(value: Any) -> Any:
    """Writes arguments as Keras 3 reads them; the shape of a tensor is found when its layer is called."""
    if isinstance(value, Reference):
        config = {"shape": [None], "dtype": "float32", "keras_history": list(value)}
        return {"class_name": "__keras_tensor__", "config": config}
    if isinstance(value, list):
        return [_written(inner) for inner in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {name: _written(inner) for name, inner in value.items()}
    return value


def _ends(value: Any, entries: dict[str, Any], shifts: dict[str, int], functional: set[str]) -> Any:
    """Writes the inputs or outputs of a model; Keras 3 counts the calls of functional models from 1 here."""

    def written(inner: Any) -> Any:
        if isinstance(inner, Reference):
            return [inner.layer, inner.node + (inner.layer in functional), inner.tensor]
        if isinstance(inner, list):
            return [written(part) for part in inner]
        if isinstance(inner, dict):
            return {name: written(part) for name, part in inner.items()}
        raise ValueError("its inputs or outputs are damaged")

    found = _shift(_references(value, entries), shifts)
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return written(found)
