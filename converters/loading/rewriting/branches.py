"""Sequential models of Keras 1 that begin with a Merge of other models: graphs of layers in everything but name."""

from __future__ import annotations

from typing import Any

from edgelstm.converters.loading.rewriting.inputs import input_shape_of
from edgelstm.converters.loading.rewriting.layers import layer_name

Tensor = list[Any]


def begins_with_merge(layers: list[Any]) -> bool:
    """Tells whether a list of layers begins with a Merge that holds its branches."""
    first = layers[0]
    config = first.get("config") if isinstance(first, dict) else None
    return isinstance(config, dict) and first.get("class_name") == "Merge" and isinstance(config.get("layers"), list)


def graph_of_branches(layers: list[Any]) -> dict[str, Any]:
    """Returns the configuration of the functional model that such a list describes.

    Keras 1 kept the weights of the branches under the names of their layers, as if they were not nested.

    Raises:
        ValueError: If a branch is no Sequential model, or does not tell the shape of its input.
    """
    graph: dict[str, Any] = {"layers": [], "input_layers": [], "output_layers": []}
    graph["output_layers"] = [_chain(layers, graph)]
    return graph


def _chain(layers: list[Any], graph: dict[str, Any]) -> Tensor:
    """Adds layers that follow one another; returns the tensor that comes out."""
    if begins_with_merge(layers):
        branches = [_chain(_layers_of(branch), graph) for branch in layers[0]["config"]["layers"]]
        tensor = _add(layers[0], [branches], graph)
    else:
        name = f"{layer_name(layers[0])}_input"
        shape = input_shape_of(layers[0])
        dtype = (layers[0].get("config") or {}).get("input_dtype")
        source = {"class_name": "InputLayer", "config": {"name": name, "batch_input_shape": shape, "dtype": dtype}}
        graph["input_layers"].append(_add(source, [], graph))
        tensor = _add(layers[0], [[graph["input_layers"][-1]]], graph)
    for layer in layers[1:]:
        tensor = _add(layer, [[tensor]], graph)
    return tensor


def _layers_of(branch: Any) -> list[Any]:
    if not isinstance(branch, dict) or branch.get("class_name") != "Sequential":
        raise ValueError("a Merge joins something else than Sequential models")
    config = branch.get("config")
    layers = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(layers, list) or not layers:
        raise ValueError("a branch of a Merge has no layers")
    return layers


def _add(layer: dict[str, Any], nodes: list[Any], graph: dict[str, Any]) -> Tensor:
    name = layer_name(layer)
    graph["layers"].append(layer | {"name": name, "inbound_nodes": nodes})
    return [name, 0, 0]
