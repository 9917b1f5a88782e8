"""The parts of a layer's settings: activations, initializers, regularizers, constraints and data types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from edgelstm.converters.legacy_functions import HARD_SIGMOID_CONFIG
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.rewriting.base import Context, Layer

_OWN_MODULE = re.compile(
    r"(keras|tf_keras|tensorflow(\.python)?\.keras|tensorflow_core\.python\.keras)(\.|$)|builtins$"
)
_SCALARS = (str, int, float, bool, type(None))
_RENAMED_FUNCTIONS = {"softmax_v2": "softmax"}  # the name of TensorFlow's own function


def is_keras_module(module: Any) -> bool:
    """Tells whether a module named in a file is a part of some Keras, wherever that version kept it."""
    return module is None or (isinstance(module, str) and bool(_OWN_MODULE.match(module)))


def rewrite_parts(layer: Layer, context: Context) -> None:
    """Rewrites the activations, initializers, regularizers, constraints and the data type of a layer."""
    for name, value in list(layer.settings.items()):
        if name.endswith("_initializer"):
            _replace(layer, name, value and _initializer(value))
        elif name.endswith(("_regularizer", "_constraint")):
            family = "regularizers" if name.endswith("_regularizer") else "constraints"
            _replace(layer, name, value and _training_part(value, family))
            if value is not None and name not in layer.settings:
                context.training_only.append(f"{name} of {layer.name!r}")
        elif name == "dtype":
            _replace(layer, name, _data_type(value))
        elif "activation" in name:
            layer.settings[name] = activation(value, layer, context)


def activation(value: Any, layer: Layer, context: Context) -> Any:
    """Returns an activation as Keras 3 reads it; hard_sigmoid keeps the meaning that it had before Keras 3."""
    name = value
    if isinstance(value, dict) and value.get("class_name") == "function" and is_keras_module(value.get("module")):
        name = value.get("config")
    if not isinstance(name, str):
        return value
    if name in context.custom:
        return {"class_name": "function", "config": name, "module": None, "registered_name": name}
    if name == "hard_sigmoid":
        context.hard_sigmoids.append(layer.name)
        return dict(HARD_SIGMOID_CONFIG)
    name = _RENAMED_FUNCTIONS.get(name, name)
    if hasattr(import_keras().activations, name):
        return name
    return {"class_name": "function", "config": name, "module": None, "registered_name": name}


def _replace(layer: Layer, name: str, value: Any) -> None:
    """Sets a part, or leaves it to the default of Keras 3 if it is None."""
    if value is None:
        del layer.settings[name]
    else:
        layer.settings[name] = value


def _initializer(value: Any) -> Any:
    """Returns an initializer, None for one that Keras 3 does not have: every weight is read from the file."""
    keras = import_keras()
    if isinstance(value, str):
        return value if isinstance(getattr(keras.initializers, _camel(value), None), type) else None
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
        return None
    name = re.sub(r"V[12]$", "", value["class_name"])
    config = value.get("config") or {}
    found = getattr(keras.initializers, name, None)
    if not isinstance(found, type) or not all(isinstance(setting, _SCALARS) for setting in config.values()):
        return None
    return _part("initializers", name, {key: config[key] for key in config.keys() & _parameters(found)})


def _training_part(value: Any, family: str) -> Any:
    """Returns a regularizer or constraint, None for one that Keras 3 does not have."""
    if not isinstance(value, dict):
        return None
    name, config = value.get("class_name"), value.get("config")
    if name is None and value.get("name") in ("WeightRegularizer", "L1L2Regularizer", "ActivityRegularizer"):  # Keras 1
        name, config = "L1L2", {key: value[key] for key in ("l1", "l2") if key in value}
    found = getattr(getattr(import_keras(), family), name, None) if isinstance(name, str) else None
    if not isinstance(found, type) or not isinstance(config, dict) or not config.keys() <= _parameters(found):
        return None
    return _part(family, str(name), config)


def _part(family: str, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"module": f"keras.{family}", "class_name": name, "config": dict(config), "registered_name": None}


def _parameters(found: type) -> set[str]:
    return set(inspect.signature(found).parameters)


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _data_type(value: Any) -> str | None:
    """Returns the name of a data type or policy; None for one that only says what goes into a layer."""
    if isinstance(value, dict):
        config = value.get("config")
        value = config.get("name") if isinstance(config, dict) else None
    if not isinstance(value, str) or "infer" in value or value.startswith(("int", "uint", "bool", "string")):
        return None
    return value
