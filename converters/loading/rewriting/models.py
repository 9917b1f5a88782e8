"""Whole models: lists of layers, and graphs of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelstm.converters.loading.rewriting import branches
from edgelstm.converters.loading.rewriting.base import Context
from edgelstm.converters.loading.rewriting.graph import rewrite_graph
from edgelstm.converters.loading.rewriting.inputs import (
    input_config,
    input_shape_of,
    make_input,
    takes_whole_numbers,
)
from edgelstm.converters.loading.rewriting.layers import clean_name, is_model, layer_name, rewrite_layer


def rewrite_model(entry: dict[str, Any], context: Context, name: str | None = None) -> dict[str, Any]:
    """Returns the configuration of a model as Keras 3 reads it.

    Args:
        entry: The model as the file has it, {"class_name": ..., "config": ...}, in plain values.
        context: What holds for the file; gathers notes.
        name: Its name, if it is told outside its configuration.

    Raises:
        LoadError: If something in it has no counterpart in Keras 3.
        ValueError: If the configuration is damaged.
    """
    config = entry.get("config")
    if not is_model(entry):
        return rewrite_layer(entry, context)
    if entry["class_name"] == "Sequential":
        layers = config if isinstance(config, list) else (config or {}).get("layers")
        if not isinstance(layers, list) or not layers:
            raise ValueError("a Sequential model has no layers")
        settings = config if isinstance(config, dict) else {}
        settings = {"build_input_shape": (entry.get("build_config") or {}).get("input_shape")} | settings
        return _sequential(layers, settings, context, name or settings.get("name"))
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise ValueError("a model has no layers")
    return _functional(rewrite_graph(config, context), config, name)


def _functional(graph: dict[str, Any], config: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": clean_name(str(name or config.get("name") or "model")),
            "trainable": bool(config.get("trainable", True)),
            **graph,
        },
        "registered_name": "Functional",
    }


def _sequential(layers: list[Any], settings: Mapping[str, Any], context: Context, name: str | None) -> dict[str, Any]:
    if branches.begins_with_merge(layers):
        graph = branches.graph_of_branches(layers)
        return _functional(rewrite_graph(graph, context), settings, name or "sequential")
    entries = [rewrite_layer(layer, context) for layer in layers if layer.get("class_name") != "InputLayer"]
    first = layers[0]
    source: dict[str, Any] | None = None
    if first.get("class_name") == "InputLayer":
        source = input_config(first, context)
    else:
        shape = input_shape_of(first) or settings.get("build_input_shape")
        if shape:
            source = make_input(f"{layer_name(first) or 'sequential'}_input", shape, first, context)
    if source is not None:
        if entries and takes_whole_numbers(entries[0]) and str(source["config"]["dtype"]).startswith("float"):
            source["config"]["dtype"] = "int32"
        entries.insert(0, source)
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {
            "name": clean_name(str(name or "sequential")),
            "trainable": bool(settings.get("trainable", True)),
            "layers": entries,
        },
        "registered_name": None,
    }
