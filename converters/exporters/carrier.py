"""The step all exporters share: SavedModel -> flatbuffer with carriers, checked and put in order."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters import native
from edgelstm.converters.exporters.base import Job, signature_order, strip_metadata
from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.fused import foreign_operators
from edgelstm.errors import ConversionError

_COMPARISONS = (schema.BuiltinOperator.NOT_EQUAL, schema.BuiltinOperator.EQUAL)


def carrier_graph(job: Job, precision: str) -> Graph:
    """Converts the SavedModel and checks that only built-in operators and carriers came out.

    Raises:
        ConversionError: If the converter fails, or operators are left that TensorFlow Lite does not have.
    """
    graph = Graph.from_bytes(native.convert_saved_model(job.saved_model, precision, timeout_s=job.timeout_s))
    foreign = foreign_operators(graph)
    if foreign:
        raise ConversionError(
            f"The model uses {', '.join(foreign)}, which TensorFlow Lite has no built-in operator for. "
            "Replace the layers that use them; edgelstm does not write files that need Flex operators."
        )
    strip_metadata(graph)
    signature_order(graph, job)
    _integer_tokens(graph)
    return graph


def _integer_tokens(graph: Graph) -> None:
    """Makes float inputs that only serve as token indices int32: exact, and what apps have at hand."""
    for tensor in graph.subgraph.inputs:
        if graph.tensor(tensor).type != schema.TensorType.FLOAT32:
            continue
        readers = graph.consumers(tensor)
        casts = [reader for reader in readers if _casts_to_int32(graph, reader)]
        others = [reader for reader in readers if reader not in casts]
        if not casts or not all(_compares_with_integer(graph, reader, tensor) for reader in others):
            continue
        graph.tensor(tensor).type = schema.TensorType.INT32
        for reader in others:
            other = next(index for index in reader.inputs if index != tensor)
            value = graph.constant(other)
            assert value is not None
            constant = graph.add_constant("edgelstm/token", value.astype(np.int32))
            reader.inputs = [constant if index == other else index for index in reader.inputs]
        for reader in casts:
            graph.replace(reader.outputs[0], tensor)
        graph.remove(casts)


def _casts_to_int32(graph: Graph, operator: Any) -> bool:
    if graph.code(operator) != schema.BuiltinOperator.CAST:
        return False
    return bool(graph.tensor(operator.outputs[0]).type == schema.TensorType.INT32)


def _compares_with_integer(graph: Graph, operator: Any, tensor: int) -> bool:
    if graph.code(operator) not in _COMPARISONS:
        return False
    value = graph.constant(next((index for index in operator.inputs if index != tensor), -1))
    return value is not None and bool((value == np.round(value)).all())
