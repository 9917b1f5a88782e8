"""Putting weights in place that stand in a file by the path to their layer, as in .keras archives and .weights.h5.

Keras does not use names in these paths, but attributes and classes: layers/lstm_1/cell/vars/0 is the first weight of
the cell of the second LSTM. This module goes by them in files of Keras 2, whose layers keep their weights in other
places in Keras 3, and where nobody else checks that everything is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from edgelstm.converters.loading.hdf5 import Array, datasets, read_array
from edgelstm.converters.loading.legacy import Built
from edgelstm.converters.loading.placing import children, has_weights, place_own, variables_of
from edgelstm.converters.loading.rewriting import Context
from edgelstm.converters.loading.weights import TRAINING_STATE
from edgelstm.errors import LoadError

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
"""What holds a model's layers: since tf.keras 2.15 and in Keras 3, and from 2.12 to 2.14."""


def place_by_path(built: Built, file: Any) -> None:
    """Assigns every weight of a file to its place in a model.

    Args:
        built: The Keras 3 model, and what holds for its file.
        file: The `h5py.File` of the weights.

    Raises:
        LoadError: If a weight of the model is not in the file, one in the file has no place in the model, or their
            shapes differ.
    """
    placer = _Placer(built.context)
    placer.place(built.model, file)
    in_file = {f"/{name}" for name, _ in datasets(file) if not TRAINING_STATE.search(name)}
    for name in sorted(in_file - placer.used):
        raise LoadError(
            f"Cannot load {built.context.path}: the weight {name[1:]!r} in the file has no place in the model that its "
            "configuration describes. Save the model again with the Keras that trained it."
        )
    placed = {id(variable) for variable, _ in placer.placed}
    for variable in _all_variables(built.model):
        if id(variable) not in placed:
            raise LoadError(
                f"Cannot load {built.context.path}: the file holds no values for the weight {variable.path!r}. Save "
                "the model again with the Keras that trained it."
            )
    for variable, array in placer.placed:
        variable.assign(array)


class _Placer:
    """Walks through a model and a file side by side; gathers what belongs where."""

    def __init__(self, context: Context) -> None:
        self.placed: list[tuple[Any, Array]] = []
        self.used: set[str] = set()
        self._context = context

    def place(self, layer: Any, group: Any) -> None:
        """Takes the weights of a layer, and of those inside it, from a group."""
        if "vars" in group and len(group["vars"]):
            self._take(layer, group["vars"])
        for name in group:
            if name == "vars" or not _holds_arrays(group[name]):
                continue
            if name in CONTAINERS:
                self._place_all(_with_weights(layer.layers), group[name])
                continue
            inner = getattr(layer, name, None)
            if isinstance(inner, (list, tuple)):
                self._place_all(_with_weights(inner), group[name])
            elif hasattr(inner, "_trainable_variables"):
                self.place(inner, group[name])

    def _take(self, layer: Any, group: Any) -> None:
        if not variables_of(layer) and hasattr(layer, "cell"):  # cuDNN layers had no cell
            layer = layer.cell
        values = [(f"{group.name}/{name}", read_array(group[name])) for name in sorted(group, key=_number)]
        self.placed += place_own(layer, variables_of(layer), values, self._context)
        self.used |= {name for name, _ in values}

    def _place_all(self, layers: list[Any], container: Any) -> None:
        """Pairs layers and groups: those of one class are numbered in their order."""
        groups = sorted((name for name in container if _holds_arrays(container[name])), key=_numbered)
        for class_name in dict.fromkeys(map(_snake_case, layers)):
            of_class = [layer for layer in layers if _snake_case(layer) == class_name]
            named = [name for name in groups if _numbered(name)[0] in _old_names(class_name)]
            for layer, name in zip(of_class, named, strict=False):  # what is left over is found missing afterwards
                self.place(layer, container[name])


def _holds_arrays(node: Any) -> bool:
    return hasattr(node, "keys") and any(True for _ in datasets(node))


def _with_weights(layers: Any) -> list[Any]:
    return [layer for layer in layers if has_weights(layer)]


def _number(name: str) -> int:
    return int(name) if name.isdigit() else -1


def _numbered(name: str) -> tuple[str, int]:
    """Splits "lstm_2" into "lstm" and 2; but the number of conv1d belongs to its class."""
    found = re.fullmatch(r"(.+?)_(\d+)", name)
    return (found.group(1), int(found.group(2))) if found else (name, 0)


def _snake_case(layer: Any) -> str:
    name = type(layer).__name__.removesuffix("OfKeras2")
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _old_names(class_name: str) -> tuple[str, ...]:
    """Returns the names under which the files of Keras 2 have the layers of a class."""
    return {"lstm": ("lstm", "cu_dnnlstm"), "gru": ("gru", "cu_dnngru"), "functional": ("functional", "model")}.get(
        class_name, (class_name,)
    )


def _all_variables(layer: Any) -> Iterator[Any]:
    yield from variables_of(layer)
    for inner in children(layer):
        yield from _all_variables(inner)
