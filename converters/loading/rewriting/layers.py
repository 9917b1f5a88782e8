"""One layer of a configuration, rewritten for Keras 3 with everything inside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelstm.converters.legacy_layers import variant_config
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.rewriting.base import Context, Layer
from edgelstm.converters.loading.rewriting.parts import is_keras_module, rewrite_parts
from edgelstm.converters.loading.rewriting.table import CLASS_NAMES, REWRITES

MODELS = ("Sequential", "Functional", "Model")
PARTS = ("_initializer", "_regularizer", "_constraint", "dtype")
"""Ends of the names of settings that hold no layers, though an initializer may be called as a layer is."""

_OLD_CLASSES = frozenset(CLASS_NAMES).union(*(rewrite.classes for rewrite in REWRITES))

# Layers of TensorFlow operations, and why they have no twin here; those of plain arithmetic become operations.
_FOREIGN = {
    "TensorFlowOpLayer": "holds a TensorFlow operation as a graph node, which Keras 3 cannot read",
    "ClassMethod": "calls a method of a TensorFlow class, which Keras 3 cannot read",
    "InstanceMethod": "calls a method of a TensorFlow tensor, which Keras 3 cannot read",
    "InstanceProperty": "reads a property of a TensorFlow tensor, which Keras 3 cannot read",
    "AddLoss": "adds a loss, which only training uses; save the model without it",
    "AddMetric": "adds a metric, which only training uses; save the model without it",
    "KerasLayer": "is a module of TensorFlow Hub, whose code is not in the file",
}


def layer_name(entry: Any) -> str:
    """Returns the name of a layer, "" if it has none.

    Raises:
        ValueError: If the entry is no layer.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
        raise ValueError("a layer is not told by its class_name")
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None) or ""
    return clean_name(str(name))


def clean_name(name: str) -> str:
    """Returns a name without the slashes that Keras 3 does not take."""
    return name.replace("/", "_")


def is_model(entry: Mapping[str, Any]) -> bool:
    """Tells whether an entry is a model of its own."""
    return entry.get("class_name") in MODELS and is_keras_module(entry.get("module"))


def is_own_class(entry: Mapping[str, Any], context: Context) -> bool:
    """Tells whether an entry is of a class of the user's and not of Keras'."""
    name, registered = entry["class_name"], entry.get("registered_name")
    if not is_keras_module(entry.get("module")) or name in context.custom or registered in context.custom:
        return True
    return ">" in name


def rewrite_layer(entry: dict[str, Any], context: Context) -> dict[str, Any]:
    """Returns the configuration of a layer, or of a model used as a layer, as Keras 3 reads it.

    Args:
        entry: The layer as the file has it, {"class_name": ..., "config": ...}.
        context: What holds for the file.

    Returns:
        The same with the keys "module" and "registered_name", and without nodes.

    Raises:
        LoadError: If something in it has no counterpart in Keras 3.
        ValueError: If the entry is damaged.
    """
    from edgelstm.converters.loading.rewriting.models import rewrite_model

    name = layer_name(entry)
    if is_model(entry):
        return rewrite_model(entry, context, name=name or None)
    settings = entry.get("config")
    if not isinstance(settings, dict):
        raise ValueError(f"the layer {name!r} has no configuration")
    own = is_own_class(entry, context)
    layer = Layer(entry["class_name"], name, settings | ({"name": name} if name else {}))
    if not own:
        _apply_table(layer, context)
    layer.settings = _rewrite_inside(layer.settings, context)
    rewrite_parts(layer, context)
    _refuse_redefined(layer, context)
    if own:
        return _own(entry, layer)
    return _of_keras(layer, context)


def _apply_table(layer: Layer, context: Context) -> None:
    if layer.class_name in _FOREIGN:
        raise context.refusal(layer.name, _FOREIGN[layer.class_name])
    layer.class_name = CLASS_NAMES.get(layer.class_name, layer.class_name)
    for rewrite in REWRITES:
        if rewrite.concerns(layer, context.writer):
            rewrite.change(layer, context)


def _rewrite_inside(value: Any, context: Context) -> Any:
    """Rewrites the layers inside a setting: of wrappers, of recurrent layers, and of the user's own classes."""
    if isinstance(value, list):
        return [_rewrite_inside(inner, context) for inner in value]
    if not isinstance(value, dict):
        return value
    if _is_layer(value, context):
        return rewrite_layer(value, context)
    return {name: inner if name.endswith(PARTS) else _rewrite_inside(inner, context) for name, inner in value.items()}


def _is_layer(value: Mapping[str, Any], context: Context) -> bool:
    name = value.get("class_name")
    if not isinstance(name, str) or not isinstance(value.get("config"), (dict, list)):
        return False
    known = name in _OLD_CLASSES or isinstance(getattr(import_keras().layers, name, None), type)
    return known or is_model(value) or name in context.custom or value.get("registered_name") in context.custom


def _refuse_redefined(layer: Layer, context: Context) -> None:
    """Refuses hard_sigmoid where it is no activation: what it means there only the layer's own code knows."""
    waiting: list[tuple[str, Any]] = list(layer.settings.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(name, inner) for inner in value]
        elif value == "hard_sigmoid" and name != "name":
            raise context.refusal(
                layer.name,
                f"has {name}='hard_sigmoid', which {context.writer.title} computes otherwise than Keras 3. "
                "Give the function to the layer as an activation and save the model again",
            )


def _own(entry: Mapping[str, Any], layer: Layer) -> dict[str, Any]:
    """A layer of the user's: its settings are what its class takes, except for what Keras 2 put among them."""
    for name in ("batch_input_shape", "dynamic"):
        layer.settings.pop(name, None)
    registered = entry.get("registered_name") or layer.class_name
    return {
        "module": None,
        "class_name": layer.class_name,
        "config": layer.settings,
        "registered_name": registered,
    }


def _of_keras(layer: Layer, context: Context) -> dict[str, Any]:
    keras = import_keras()
    if context.as_written is None or layer.name in context.as_written:
        variant = variant_config(layer.class_name, layer.settings)
        if variant is not None:
            return variant
    known = isinstance(getattr(keras.layers, layer.class_name, None), type)
    return {
        "module": "keras.layers" if known else None,
        "class_name": layer.class_name,
        "config": layer.settings,
        "registered_name": None if known else layer.class_name,
    }
