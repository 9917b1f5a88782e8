"""The step all exporters share: SavedModel -> flatbuffer with carriers, checked and put in order."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters import native
from edgelstm.converters.exporters.base import Job, signature_order, strip_metadata
from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.fused import foreign_operators
from edgelstm.converters.lowering.stored import store_weights
from edgelstm.errors import ConversionError
from edgelstm.runtime.runtimes import FAMILIES

_Op = schema.BuiltinOperator
_COMPARISONS = (_Op.NOT_EQUAL, _Op.EQUAL)

# What may be between an int64 input and its embedding, and takes int32 as well.
_OF_TOKENS = (
    *_COMPARISONS,
    *(_Op.LESS, _Op.LESS_EQUAL, _Op.GREATER, _Op.GREATER_EQUAL, _Op.ADD, _Op.SUB, _Op.MAXIMUM, _Op.MINIMUM),
    *(_Op.SELECT, _Op.SELECT_V2, _Op.CAST, _Op.GATHER, _Op.RESHAPE, _Op.SLICE, _Op.STRIDED_SLICE, _Op.EXPAND_DIMS),
    *(_Op.SQUEEZE, _Op.CONCATENATION, _Op.REVERSE_V2),
)


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
    if not FAMILIES[job.runtime].takes_tensor("int64"):
        _narrow_tokens(graph)
    return graph


def weighted_graph(job: Job, precision: str) -> Graph:
    """A `carrier_graph` whose weights are stored as they are to be, except those of its carriers.

    Where layers have precisions of their own, all weights are stored here, from those of the float32 graph.

    Raises:
        ConversionError: As `carrier_graph`.
        LoweringError: If the weights of a layer with a precision of its own are not found.
    """
    if not job.layers:
        return carrier_graph(job, precision)
    graph = carrier_graph(job, "float32")
    store_weights(graph, precision, job.trace.weighted, job.operator_layers)
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


def _narrow_tokens(graph: Graph) -> None:
    """Makes int64 inputs that only serve as token indices int32, with all that is computed of them.

    Tokens are rows of an embedding, which never has 2^31 of them; what is computed with in floats may be larger.
    """
    wide = [index for index, tensor in enumerate(graph.subgraph.tensors) if tensor.type == schema.TensorType.INT64]
    constants = {index: value for index in wide if (value := graph.constant(index)) is not None}
    users = [operator for operator in graph.operators if set(wide) & {*operator.inputs, *operator.outputs}]
    fits = all((value == value.astype(np.int32)).all() for value in constants.values())
    if not fits or not all(graph.code(operator) in _OF_TOKENS and _stays_whole(graph, operator) for operator in users):
        return
    for index in wide:
        entry = graph.tensor(index)
        entry.type = schema.TensorType.INT32
        if index in constants:
            entry.buffer = graph.tensor(graph.add_constant("", constants[index].astype(np.int32))).buffer
    for operator in users:
        if graph.code(operator) == _Op.CAST and operator.builtinOptions is not None:
            operator.builtinOptions.inDataType = graph.tensor(operator.inputs[0]).type
            operator.builtinOptions.outDataType = graph.tensor(operator.outputs[0]).type


def _stays_whole(graph: Graph, operator: Any) -> bool:
    is_cast = graph.code(operator) == _Op.CAST
    return not (is_cast and bool(graph.tensor(operator.outputs[0]).type == schema.TensorType.FLOAT32))


def _casts_to_int32(graph: Graph, operator: Any) -> bool:
    if graph.code(operator) != _Op.CAST:
        return False
    return bool(graph.tensor(operator.outputs[0]).type == schema.TensorType.INT32)


def _compares_with_integer(graph: Graph, operator: Any, tensor: int) -> bool:
    if graph.code(operator) not in _COMPARISONS:
        return False
    value = graph.constant(next((index for index in operator.inputs if index != tensor), -1))
    return value is not None and bool((value == np.round(value)).all())
