"""Checking that the weights in a file and the weights of the model rebuilt from it are the same."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.loading.hdf5 import Array, datasets, read_array
from edgelstm.errors import LoadError

Print = tuple[tuple[int, ...], bytes]
"""Shape and digest of an array: equal for equal values, whatever their precision in memory."""
LayerPrints = dict[str, list[tuple[str, Print]]]
"""Name and fingerprint of every weight, by the name of the layer; layers without weights are left out."""
TOP_LEVEL = "top_level_model_weights"
"""The group of the weights that belong to an HDF5 model itself and to none of its layers."""

# Groups of a .keras archive whose values are no weights: the state of training and of random numbers.
TRAINING_STATE = re.compile(r"(^|/)(optimizer|_?metrics|_?compile_metrics|[^/]*(seed|random)_generator[^/]*)/")
_NUMBERED = re.compile(r"(^|/)vars/\d+$")


def archive_prints(file: Any) -> dict[str, Print]:
    """Returns the fingerprint of every array in the weights of a .keras archive, by its path there."""
    return {name: _fingerprint(read_array(value)) for name, value in datasets(file) if not TRAINING_STATE.search(name)}


def check_archive_weights(model: Any, prints: dict[str, Print], path: Path) -> None:
    """Checks that every weight of a model stands in its .keras archive and the reverse.

    Keras is not strict here: it leaves out weights that no layer asks for, and only warns where a layer in a nested
    container keeps random ones.

    Raises:
        LoadError: If a weight of the model is not in the file, or one in the file is not in the model.
    """
    if any(_stores_its_own_way(layer) for layer in model._flatten_layers()):
        return  # what such a layer writes need not be its weights; it checks them itself
    in_file = set(prints.values())
    for variable in model.weights:
        # Keras merges low-rank adapters into the kernel when it saves, and starts new ones when it loads.
        if not variable.name.startswith("lora_") and _fingerprint(_values(variable)) not in in_file:
            raise LoadError(
                f"Cannot load {path}: Keras left the weight {variable.path!r} at random values, because the file holds "
                "none for it. Save the model again with the Keras that trained it."
            )
    in_model = {_fingerprint(_values(variable)) for variable in model.variables}
    for name, value in prints.items():
        if _NUMBERED.search(name) and value not in in_model:
            raise LoadError(
                f"Cannot load {path}: the weight {name!r} of shape {value[0]} in the file has no place in the model "
                "that its configuration describes. Save the model again with the Keras that trained it."
            )


def legacy_prints(group: Any) -> LayerPrints:
    """Returns the names and fingerprints of all weights in an HDF5 model, by layer, in the order of the file.

    Args:
        group: The file's group "model_weights".
    """
    arrays = legacy_arrays(group)
    return {layer: [(name, _fingerprint(array)) for name, array in values] for layer, values in arrays.items()}


def legacy_arrays(group: Any) -> dict[str, list[tuple[str, Array]]]:
    """Returns the names and values of all weights in an HDF5 model, by layer, in the order of the file.

    Args:
        group: The file's group "model_weights", or the file itself if it holds nothing else.
    """
    layers = _text_list(group, "layer_names")
    if TOP_LEVEL in group and TOP_LEVEL not in layers:
        layers.append(TOP_LEVEL)
    arrays = {}
    for layer in layers:
        names = _text_list(group[layer], "weight_names")
        if names:
            arrays[layer] = [(name, read_array(group[layer][name])) for name in names]
    return arrays


def has_names(group: Any) -> bool:
    """Tells whether a group of an HDF5 file lists layers by their names, as Keras 1 and 2 do."""
    return "layer_names" in group.attrs or "layer_names0" in group.attrs


def check_legacy_weights(model: Any, prints: LayerPrints, path: Path) -> None:
    """Checks that every layer of a model has the weights that its HDF5 file holds under the layer's name.

    Keras assigns them in order: the n-th layer with weights in the file to the n-th in the model, and so within each
    layer, going by shape alone.

    Args:
        model: The model.
        prints: What `legacy_prints` returned for the file.
        path: The file, for messages.

    Raises:
        LoadError: If names, number, order, shapes or values differ.
    """
    variables = {
        layer.name: layer.trainable_weights + layer.non_trainable_weights  # the order of this format
        for layer in model.layers
        if layer.weights
    }
    of_layers = {id(variable) for layer in variables.values() for variable in layer}
    own = [variable for variable in model.weights if id(variable) not in of_layers]
    if own:
        variables[TOP_LEVEL] = own
    if list(variables) != list(prints):
        different = ", ".join(map(repr, sorted(variables.keys() ^ prints.keys()))) or "their order"
        raise LoadError(
            f"Cannot load {path}: the layers with weights in the file and in the model that its configuration "
            f"describes differ in {different}. Save the model again."
        )
    for layer, saved in prints.items():
        _check_layer(layer, variables[layer], saved, path)


def _check_layer(layer: str, variables: Sequence[Any], saved: list[tuple[str, Print]], path: Path) -> None:
    saved_kinds = [name.rpartition("/")[2].partition(":")[0] for name, _ in saved]
    kinds = [variable.name for variable in variables]
    misplaced = kinds != saved_kinds and sorted(kinds) == sorted(saved_kinds)
    if misplaced or len(variables) != len(saved):
        raise LoadError(
            f"Cannot load {path}: the layer {layer!r} has the weights {', '.join(kinds)}, and the file holds "
            f"{', '.join(saved_kinds)} for it. Load it in the Keras that wrote it and save it with "
            "model.save('model.keras')."
        )
    for variable, (name, value) in zip(variables, saved, strict=True):
        if _fingerprint(_values(variable)) != value:
            raise LoadError(
                f"Cannot load {path}: the weight {variable.path!r} of the layer {layer!r} differs from the file's "
                f"{name!r} after loading. Load it in the Keras that wrote it and save it with "
                "model.save('model.keras')."
            )


def _text_list(group: Any, name: str) -> list[str]:
    """Returns a list of names from an attribute, or from its parts name0, name1, ... when it was too large for one."""
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        part_names = itertools.takewhile(group.attrs.__contains__, (f"{name}{part}" for part in itertools.count()))
        parts = [group.attrs[part] for part in part_names]
    return [value.decode() if isinstance(value, bytes) else str(value) for values in parts for value in values]


def _values(variable: Any) -> Array:
    return np.asarray(variable)


def _fingerprint(values: Array) -> Print:
    exact = values.astype(np.int64) if values.dtype.kind in "iub" else values.astype(np.float32)
    return values.shape, hashlib.blake2b(np.ascontiguousarray(exact).tobytes(), digest_size=16).digest()


def _stores_its_own_way(layer: Any) -> bool:
    method = getattr(type(layer), "load_own_variables", None)
    return not getattr(method, "__module__", "keras").startswith("keras.")
