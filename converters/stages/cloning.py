"""Independent copies of Keras models: the same layers, names, flags and weights, and no variable in common."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from edgelstm.converters.layers import layers_inside, own_objects
from edgelstm.converters.loading.configuration import dictionaries
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.reasons import reason
from edgelstm.errors import StageError


def independent_copy(model: Any) -> Any:
    """Returns a copy of a model that can be changed without changing the model.

    The copy is built from the model's configuration. What is shared within the model (a layer called twice, a layer in
    two nested models) is shared within the copy. Custom layers and functions need not be registered with Keras: those
    of the living model are used. The copy is not compiled, whether the model is or not.

    Args:
        model: A built Keras model of any kind, subclassed ones included if their `get_config` tells all that their
            constructor needs. It is not changed.

    Returns:
        A model with the same layers, names, flags and weights.

    Raises:
        StageError: If the model is not built, or cannot be built a second time from what it tells about itself.
    """
    if not model.built or not model.weights:
        raise StageError(f"Model {model.name!r} has no weights (yet): call it on data once, so that it is built.")
    copy = _rebuilt(model)
    for source, target in zip(_variables(model), _same_variables(model, copy), strict=True):
        target.assign(source)
    for source, target in zip(_layers(model), _layers(copy), strict=True):
        target.name = source.name
        target.trainable = source.trainable
    for source, target in zip(_variables(model), _variables(copy), strict=True):
        if target.trainable != source.trainable:
            target.trainable = source.trainable
    _check_settings(model, copy)
    return copy


def copy_weights(source: Any, target: Any) -> None:
    """Gives one copy of a model the weights of another; states and seeds stay as they are.

    Args:
        source: A copy made by `independent_copy`.
        target: Another copy of the same model, or the model itself.
    """
    for value, variable in zip(source.weights, target.weights, strict=True):
        variable.assign(value)


def _rebuilt(model: Any) -> Any:
    """Returns a second model with random weights."""
    with warnings.catch_warnings():  # that a model cannot be built is found out by its variables
        warnings.simplefilter("ignore")
        try:
            copy = _from_configuration(model)
        except Exception as error:
            # What has neither get_config() nor **kwargs cannot be saved, but Keras has kept the arguments by default.
            arguments = getattr(model, "_auto_config", None)
            if arguments is None or not hasattr(arguments, "config"):
                raise _cannot_copy(model, _why(error)) from error
            copy = _constructed(model, arguments.config, error)
    if type(copy) is not type(model):
        raise _cannot_copy(model, f"the copy is a {type(copy).__name__}")
    return copy


def _from_configuration(model: Any) -> Any:
    keras = import_keras()
    from keras.src.saving.serialization_lib import ObjectSharingScope

    with ObjectSharingScope():
        config = keras.saving.serialize_keras_object(model)
    for entry, _ in dictionaries(config):
        entry.pop("compile_config", None)
    objects = {**own_objects(_layers(model)), **_own_lambdas(model, config)}
    with ObjectSharingScope(), keras.saving.custom_object_scope(objects):
        return keras.saving.deserialize_keras_object(config, custom_objects=objects, safe_mode=True)


def _constructed(model: Any, arguments: Mapping[str, Any], why: Exception) -> Any:
    try:
        copy = type(model)(**arguments)
        copy.build_from_config(model.get_build_config())
    except Exception as error:
        raise _cannot_copy(model, _why(why)) from error
    return copy


def _why(error: Exception) -> str:
    if isinstance(error, NotImplementedError | TypeError):
        return "its class does not tell Keras how to build it again"
    return reason(error)


def _same_variables(model: Any, copy: Any) -> list[Any]:
    """Returns the copy's variables, in the order of the model's.

    Raises:
        StageError: If they are not the same in number, name and shape, or any of them is the model's own.
    """
    mine, its = _variables(copy), _variables(model)
    if [_signature(variable) for variable in mine] != [_signature(variable) for variable in its]:
        raise _cannot_copy(
            model,
            f"Keras would build it with {len(mine)} variables in place of {len(its)}, as if layers were not shared"
            if len(mine) != len(its)
            else "Keras would build it with variables of other names or shapes",
        )
    if {id(variable) for variable in mine} & {id(variable) for variable in its}:
        raise _cannot_copy(model, "its get_config() passes on layers of the model itself")
    if [type(layer) for layer in _layers(copy)] != [type(layer) for layer in _layers(model)]:
        raise _cannot_copy(model, "the copy has other layers")
    return mine


def _check_settings(model: Any, copy: Any) -> None:
    """Compares what layers tell of themselves, and what layers of the user's own classes hold.

    Keras 3.15 does not know the arguments of a model without get_config() that were given by position, and would build
    it with those that its constructor has by default.

    Raises:
        StageError: If anything differs.
    """
    base = {"name", *vars(import_keras().Model())}
    for source, target in zip(_layers(model), _layers(copy), strict=True):
        if str(type(source).__module__).startswith("keras."):
            same = layers_inside(source) or _nameless(source.get_config()) == _nameless(target.get_config())
            what = "settings"
        else:
            values = {name: value for name, value in vars(source).items() if name not in base and _is_plain(value)}
            different = [name for name, value in values.items() if vars(target).get(name) != value]
            same, what = not different, ", ".join(different)
        if not same:
            raise _cannot_copy(model, f"Keras would build layer {source.name!r} with other {what}")


def _nameless(config: Any) -> Any:
    if isinstance(config, dict):
        return {key: _nameless(value) for key, value in config.items() if key != "name"}
    return [_nameless(value) for value in config] if isinstance(config, list | tuple) else config


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


def _cannot_copy(model: Any, why: str) -> StageError:
    return StageError(
        f"Model {model.name!r} ({type(model).__name__}) cannot be copied: {why.rstrip('.')}. "
        "Build it of Keras' own layers as a Functional model, or give its classes a complete get_config()."
    )


def _signature(variable: Any) -> tuple[str, tuple[int, ...], str]:
    return str(variable.name), tuple(variable.shape), str(variable.dtype)


def _variables(model: Any) -> list[Any]:
    """Weights, states and seeds, each once, always in the same order."""
    return list({id(variable): variable for variable in model.variables}.values())


def _layers(model: Any) -> list[Any]:
    """The model and all layers inside, outer ones before inner ones."""
    return [model, *layers_inside(model)]


def _own_lambdas(model: Any, config: Any) -> dict[str, Any]:
    """Replaces the nameless functions of Lambda layers in a configuration by names; returns the functions by name.

    Keras would write their code, and read it again without the modules around it.
    """
    keras = import_keras()
    functions: dict[str, Any] = {}
    known: list[tuple[str, Any, str]] = []
    for layer in _layers(model):
        if isinstance(layer, keras.layers.Lambda) and layer.function.__name__ == "<lambda>":
            name = f"lambda_of_{layer.name}_{len(known)}"
            functions[name] = layer.function
            known.append((layer.name, keras.saving.serialize_keras_object(layer)["config"]["function"], name))
    for entry, _ in dictionaries(config):
        if entry.get("class_name") != "Lambda":
            continue
        inner = entry["config"]
        for layer_name, function, name in known:
            if inner["name"] == layer_name and inner["function"] == function:
                inner["function"] = {
                    "module": "builtins",
                    "class_name": "function",
                    "config": name,
                    "registered_name": name,
                }
    return functions
