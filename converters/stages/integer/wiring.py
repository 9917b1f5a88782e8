"""Which layer of a model reads what another one computed, through nested models and layers that only move values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.surgery import calls, graph_of, is_model

# Layers whose operators move values without computing: what comes out has the scale of what went in.
_MOVING = (
    *("Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization"),
    *("Masking", "Flatten", "Reshape", "Permute", "RepeatVector", "Identity", "Cropping1D", "UpSampling1D"),
    *("MaxPooling1D", "GlobalMaxPooling1D"),
)


class Wiring:
    """The calls of a model's layers, in the order of computing.

    Args:
        model: Sequential or Functional.

    Attributes:
        layers: Each layer once, with the layer that stands in the graph: itself or the wrapper around it.
        outputs: Ids of the layers whose answers are the model's.
    """

    def __init__(self, model: Any) -> None:
        self.layers: list[tuple[Any, Any]] = []
        self._given: dict[int, Any] = {}
        self._nodes: dict[int, Any] = {}
        self._calls: Counter[int] = Counter()
        self._visit(model)
        self.outputs = {id(self.source(tensor)[0]) for tensor in graph_of(model).outputs}

    def _visit(self, model: Any) -> None:
        for node in calls(graph_of(model)):
            operation = node.operation
            first = id(operation) not in self._calls
            self._calls[id(operation)] += 1
            self._nodes[id(operation)] = node
            if is_model(operation):
                inputs = graph_of(operation).inputs
                for tensor, given in zip(inputs, node.input_tensors, strict=True):
                    self._given[id(tensor._keras_history[0])] = given if first else None
                if first:
                    self._visit(operation)
                else:
                    self._calls.update(_inside(operation))
            elif first:
                self.layers += [(layer, operation) for layer in _unwrapped(operation)]

    def several_calls(self, layer: Any) -> bool:
        """Whether a layer is called more than once."""
        return self._calls[id(layer)] > 1

    def source_of(self, layer: Any) -> tuple[Any, int, int]:
        """The source of a layer's first input; of several calls, a place of the layer's own."""
        if self.several_calls(layer):
            return layer, -1, -1
        return self.source(self._nodes[id(layer)].input_tensors[0])

    def source(self, tensor: Any) -> tuple[Any, int, int]:
        """The layer that computed a symbolic tensor, the number of its call and of its output."""
        while True:
            operation, node, position = tensor._keras_history
            if type(operation).__name__ in _MOVING:
                tensor = operation._inbound_nodes[node].input_tensors[0]
            elif is_model(operation):
                tensor = graph_of(operation).outputs[position]
            elif self._given.get(id(operation)) is not None:
                tensor = self._given[id(operation)]
            else:
                return operation, node, position


def _inside(model: Any) -> list[int]:
    """Ids of all layers called inside a model."""
    found = []
    for node in calls(graph_of(model)):
        found.append(id(node.operation))
        if is_model(node.operation):
            found += _inside(node.operation)
    return found


def _unwrapped(operation: Any) -> Iterator[Any]:
    """The layers that compute in a call: both of a Bidirectional, the Dense inside a TimeDistributed."""
    keras = import_keras()
    if isinstance(operation, keras.layers.Bidirectional):
        yield from (operation.forward_layer, operation.backward_layer)
    elif type(operation) is keras.layers.TimeDistributed and type(operation.layer) is keras.layers.Dense:
        yield operation.layer
    elif isinstance(operation, keras.layers.Layer):
        yield operation
