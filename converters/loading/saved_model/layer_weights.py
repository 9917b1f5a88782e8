"""The weights of a tf.keras model in a SavedModel, by layer and in Keras' order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.saved_model.checkpoint import Checkpoint
from edgelstm.converters.loading.saved_model.folder import SavedModelFolder, damaged
from edgelstm.converters.loading.saved_model.metadata import ROOT, KerasObject
from edgelstm.converters.loading.weights import TOP_LEVEL
from edgelstm.errors import LoadError

_LAYER = re.compile(r"layer-(\d+)")
_NO_WEIGHTS = frozenset(
    {
        "optimizer",
        "_optimizer",
        "loss",
        "metrics",
        "states",  # of stateful layers
        "_random_generator",
        "save_counter",
        "signatures",
    }
)
"""Names of what hangs on a model and holds variables that are no weights of it."""

LayerWeights = dict[str, list[tuple[str, Array]]]


def layer_weights(folder: SavedModelFolder, objects: Mapping[int, KerasObject], checkpoint: Checkpoint) -> LayerWeights:
    """Collects the weights of every layer right below the model: trainable ones first, as tf.keras lists them.

    Returns:
        Name and values of each weight, by the name of the layer; layers without weights are left out.

    Raises:
        LoadError: If a weight has no value in the checkpoint, or a variable belongs to no layer.
    """
    reader = _Reader(folder, objects, checkpoint)
    weights: LayerWeights = {}
    used: set[int] = set()
    for layer in reader.layers(ROOT):
        if layer not in objects:
            raise damaged(folder.path, "Keras metadata", f"it says nothing about the object {layer}")
        variables = reader.variables(layer)
        used.update(variables)
        if variables:
            weights[objects[layer].name] = [reader.named_value(variable) for variable in variables]
    own = [variable for variable in reader.variables(ROOT) if variable not in used]
    if own:
        weights[TOP_LEVEL] = [reader.named_value(variable) for variable in own]
    left = [variable for variable in reader.reachable(ROOT) if variable not in used.union(own)]
    if left:
        raise LoadError(
            f"Cannot load {folder.path}: it holds the variable {reader.name(left[0])!r}, which belongs to none of the "
            "model's layers. Save the model again, as model.save('model.keras') if you can."
        )
    return weights


class _Reader:
    """Looks things up in the graph of saved objects."""

    def __init__(self, folder: SavedModelFolder, objects: Mapping[int, KerasObject], checkpoint: Checkpoint) -> None:
        self._path = folder.path
        self._nodes = folder.graph.object_graph_def.nodes
        self._objects = objects
        self._checkpoint = checkpoint

    def layers(self, model: int) -> list[int]:
        """The layers of a model in order."""
        numbered = {}
        for name, child in self._children(model).items():
            if match := _LAYER.fullmatch(name):
                numbered[int(match[1])] = child
        return list(dict.fromkeys(numbered[position] for position in sorted(numbered)))

    def variables(self, layer: int) -> list[int]:
        """All weights of a layer, those of layers inside it included: trainable ones first, each once."""
        children = self._children(layer)
        if "variables" not in children:
            return self._unlisted(layer)
        api = self._children(children["keras_api"]) if "keras_api" in children else {}
        lists = [children.get("trainable_variables"), api.get("non_trainable_variables"), children["variables"]]
        return list(dict.fromkeys(item for number in lists if number is not None for item in self._items(number)))

    def _unlisted(self, layer: int) -> list[int]:
        """The weights of a layer that does not list them: of all without traces, and of some like Normalization.

        They hang on the layer in the order in which it made them.
        """
        found = self.reachable(layer)
        if "variables" in self._children(ROOT):
            return [variable for variable in self.variables(ROOT) if variable in found]
        return sorted(found, key=lambda variable: not found[variable])  # trainable ones first, else in order

    def reachable(self, start: int) -> dict[int, bool]:
        """All variables that hang on an object, except those that are no weights, and whether they are trainable."""
        found: dict[int, bool] = {}
        waiting, seen = [(start, True)], {start}
        while waiting:
            number, trainable = waiting.pop()
            if self._kind(number) == "variable":
                found[number] = trainable and bool(self._node(number).variable.trainable)
            if number in self._objects:
                trainable = trainable and self._objects[number].metadata.get("trainable") is not False
            for name, child in reversed(self._children(number).items()):
                if name not in _NO_WEIGHTS and child not in seen:
                    seen.add(child)
                    waiting.append((child, trainable))
        return found

    def name(self, variable: int) -> str:
        """Name of a variable as in tf.keras, ":0" included."""
        saved = self._nodes[variable].variable.name
        key = self._checkpoint.keys.get(variable, f"object {variable}").partition("/.ATTRIBUTES")[0]
        return f"{saved or key}:0"

    def named_value(self, variable: int) -> tuple[str, Array]:
        """Name and value of a variable."""
        value = self._checkpoint.value(variable)
        if value is None:
            raise damaged(self._path, "checkpoint", f"it has no value for {self.name(variable)!r}")
        return self.name(variable), value

    def _items(self, number: int) -> Iterator[int]:
        """The variables in a list."""
        children = self._children(number)
        for name in sorted((name for name in children if name.isdecimal()), key=int):
            if self._kind(children[name]) == "variable":
                yield children[name]

    def _kind(self, number: int) -> Any:
        return self._node(number).WhichOneof("kind")

    def _children(self, number: int) -> dict[str, int]:
        return {child.local_name: child.node_id for child in self._node(number).children}

    def _node(self, number: int) -> Any:
        if not 0 <= number < len(self._nodes):
            raise damaged(self._path, "graph of saved objects", f"there is no object {number}")
        return self._nodes[number]
