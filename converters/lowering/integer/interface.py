"""Integer inputs and outputs of a quantized model."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import DTYPES, Graph
from edgelstm.converters.lowering.operators import Operators
from edgelstm.converters.lowering.states import add_quantize


def integer_io(graph: Graph, types: Collection[str] | None = None) -> list[str]:
    """Lets int8 inputs and outputs of the model stand for float ones where quantization is all that lies between.

    A given cell state is int16, because its 8 highest bits are not enough.

    Args:
        graph: The quantized graph; changed in place.
        types: Types that the runtime takes as inputs and outputs; None for all.

    Returns:
        Sentences about inputs and outputs that had to stay float.
    """
    notes = []
    for position, tensor in enumerate(graph.subgraph.inputs):
        if graph.tensor(tensor).type == schema.TensorType.FLOAT32:
            notes += _integer_input(graph, position, tensor, types)
    for position, tensor in enumerate(graph.subgraph.outputs):
        if graph.tensor(tensor).type == schema.TensorType.FLOAT32:
            notes += _integer_output(graph, position, tensor)
    graph.remove([operator for operator in graph.operators if set(operator.outputs) & set(graph.subgraph.inputs)])
    graph.prune_operators()
    return notes


def _integer_input(graph: Graph, position: int, tensor: int, types: Collection[str] | None) -> list[str]:
    name = graph.tensor(tensor).name.decode("utf-8", "replace")
    readers = graph.consumers(tensor)
    if not readers or any(graph.code(reader) != schema.BuiltinOperator.QUANTIZE for reader in readers):
        return [f"Input {name!r} stays float32: the model compares or indexes with its exact values."]
    quantized = sorted(
        (reader.outputs[0] for reader in readers), key=lambda output: graph.tensor(output).type, reverse=True
    )
    first, *others = quantized  # int8 before int16
    dtype = np.dtype(DTYPES[graph.tensor(first).type]).name
    if types is not None and dtype not in types:
        return [f"Input {name!r} stays float32: it becomes {dtype}, which the runtime does not take."]
    for other in others:
        _read_instead(graph, first, other)
    _swap(graph, "inputs", position, first)
    return []


def _integer_output(graph: Graph, position: int, tensor: int) -> list[str]:
    operator = graph.producer(tensor)
    if operator is None or graph.code(operator) != schema.BuiltinOperator.DEQUANTIZE:
        return [
            f"Output {graph.tensor(tensor).name.decode('utf-8', 'replace')!r} stays float32: it is computed in float."
        ]
    source = operator.inputs[0]
    if graph.tensor(source).type == schema.TensorType.INT16:
        scale = 256 * float(graph.tensor(source).quantization.scale[0])  # the 8 highest bits
        source = Operators(graph).quantize(source, np.int8, scale)
    _swap(graph, "outputs", position, source)
    return []


def _read_instead(graph: Graph, tensor: int, other: int) -> None:
    """Lets the readers of another quantized version of a value read this one, requantized if types or scales differ."""
    entry, own = graph.tensor(other), graph.tensor(tensor)
    one, two = entry.quantization, own.quantization
    if (entry.type, one.scale[0], one.zeroPoint[0]) == (own.type, two.scale[0], two.zeroPoint[0]):
        graph.replace(other, tensor)
        return
    requantized = graph.add_tensor(
        "edgelstm/requantized", graph.shape(other), DTYPES[entry.type], quantization=entry.quantization
    )
    graph.replace(other, requantized)
    add_quantize(graph, tensor, requantized)


def _swap(graph: Graph, side: str, position: int, tensor: int) -> None:
    old = getattr(graph.subgraph, side)[position]
    getattr(graph.subgraph, side)[position] = tensor
    for signature in graph.model.signatureDefs or []:
        for entry in getattr(signature, side):
            if entry.tensorIndex == old:
                entry.tensorIndex = tensor
                graph.tensor(tensor).name = entry.name
