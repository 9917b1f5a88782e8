"""How a model reads its inputs: as ids of a table, or after fixed steps such as masking and normalization."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.surgery import calls, graph_of, is_model
from edgelstm.converters.stages.tables import find_tables


@dataclasses.dataclass(frozen=True)
class Reading:
    """How one input is read.

    Attributes:
        name: Of the input.
        table: The Embedding that looks up its ids; None for other inputs.
        prepared: The symbolic tensor that the model's first learnt layers read: the input, or what fixed steps make of
            it.
        mask_value: That of a Masking layer on the input; None where there is none.
    """

    name: str
    table: Any
    prepared: Any
    mask_value: float | None


def readings(model: Any) -> list[Reading]:
    """Returns how a model reads its inputs, in their order.

    Raises:
        StageError: If the model is subclassed or not built.
    """
    tables: dict[str, Any] = {}
    for table in find_tables(model).found:
        for name in table.inputs:
            tables.setdefault(name, table.layer)
    graph = graph_of(model)
    return [
        Reading(
            tensor.name,
            tables.get(tensor.name),
            tensor if tensor.name in tables else _prepared(graph, tensor),
            _mask_value(graph, tensor),
        )
        for tensor in graph.inputs
    ]


def _prepared(graph: Any, tensor: Any) -> Any:
    """Follows an input through everything that is fixed, as long as what comes out is one tensor."""
    made: dict[int, Any] = {id(tensor): tensor}
    left: dict[int, Any] = {}
    outputs = {id(each) for each in graph.outputs}
    for node in calls(graph):
        ends = any(id(each) in outputs for each in node.outputs)
        if _is_fixed(node) and not ends and all(id(each) in made for each in node.input_tensors):
            made.update((id(each), each) for each in node.outputs)
        else:
            left.update((id(each), each) for each in node.input_tensors if id(each) in made)
    return next(iter(left.values())) if len(left) == 1 else tensor


def _is_fixed(node: Any) -> bool:
    """Whether a call learns nothing, and leaves a sequence one."""
    operation, layers = node.operation, import_keras().layers
    learns = any(each.trainable for each in getattr(operation, "variables", ()))
    if learns or is_model(operation) or isinstance(operation, layers.Embedding | layers.RNN | layers.Bidirectional):
        return False
    ranks = {len(each.shape) for each in node.input_tensors}
    return len(node.outputs) == 1 and not (3 in ranks and len(node.outputs[0].shape) < 3)


def _mask_value(graph: Any, tensor: Any) -> float | None:
    for node in calls(graph):
        if type(node.operation).__name__ == "Masking" and node.input_tensors[0] is tensor:
            return float(node.operation.mask_value)
    return None
