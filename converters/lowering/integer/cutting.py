"""Taking LSTMs out of a float graph, so that TensorFlow's quantizer sees only what is around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import Array, Graph
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.fused import (
    BIAS,
    CELL,
    FINAL_CELL,
    HIDDEN,
    KERNEL,
    SEQUENCE,
    X,
    find_carriers,
)
from edgelstm.converters.lowering.integer.ranges import Ranges, cell_exponent
from edgelstm.converters.lowering.streaming import check_streaming
from edgelstm.converters.lowering.weights import LstmWeights, read_weights


@dataclass
class Cut:
    """One LSTM taken out of the graph; values are positions in the cut graph's inputs and outputs."""

    call: LstmCall
    weights: LstmWeights
    batch: int
    x: int
    hidden: int | Array
    cell: int | Array
    sequence: int
    final_cell: int | None
    x_range: tuple[float, float]
    output_range: tuple[float, float]
    cell_exponent: int


def cut_carriers(graph: Graph, calls: Sequence[LstmCall], ranges: Ranges, *, streaming: bool = False) -> list[Cut]:
    """Takes the carriers out of a float graph and writes the observed ranges into it, for the quantizer.

    Args:
        graph: The converter's float32 result; changed in place: carriers become inputs and outputs behind
            the model's own ones, and signatures are dropped.
        calls: The calls found by tracing.
        ranges: Observed on the fused float form of the same graph (same tensor indices).
        streaming: Whether hidden states start as zeros of the runtime, which then must have zero point 0.

    Returns:
        What was taken out, for `restore_lstms`.
    """
    carriers = find_carriers(graph, calls)
    cuts = []
    covering: dict[int, tuple[float, float]] = {}
    inputs, own = graph.subgraph.inputs, len(graph.subgraph.outputs)
    for call, carrier in carriers:
        x, hidden, cell = carrier.inputs[X], carrier.inputs[HIDDEN], carrier.inputs[CELL]
        sequence, final_cell = carrier.outputs[SEQUENCE], carrier.outputs[FINAL_CELL]
        hidden_value, cell_value = graph.constant(hidden), graph.constant(cell)
        output_range = ranges.of(sequence, hidden)
        if streaming:
            check_streaming(graph, call, [hidden, cell])
            output_range = _symmetric(output_range)
        covering[sequence] = output_range
        inputs.append(sequence)
        cut = Cut(
            call=call,
            weights=read_weights(graph, call, *carrier.inputs[KERNEL : BIAS + 1]),
            batch=graph.shape(x)[0],
            x=tap(graph, x, own),
            hidden=tap(graph, hidden, own) if hidden_value is None else hidden_value,
            cell=tap(graph, cell, own) if cell_value is None else cell_value,
            sequence=len(inputs) - 1,
            final_cell=None,
            x_range=ranges.of(x),
            output_range=output_range,
            cell_exponent=cell_exponent(ranges.cell_peak[call.index]),
        )
        if graph.is_used(final_cell):
            inputs.append(final_cell)
            cut.final_cell = len(inputs) - 1
        cuts.append(cut)
    graph.remove(carrier for _, carrier in carriers)
    graph.prune_operators()
    _write_ranges(graph, ranges, covering)
    graph.model.signatureDefs = []
    return cuts


def tap(graph: Graph, tensor: int, own: int) -> int:
    """The position of a tensor among the outputs behind the first few, where it is put if it is not there."""
    outputs = graph.subgraph.outputs
    if tensor not in outputs[own:]:
        outputs.append(tensor)
    return int(outputs.index(tensor, own))


def _symmetric(limits: tuple[float, float]) -> tuple[float, float]:
    """The range of 255 steps around zero point 0 that covers a range; -128 stands for one step below it."""
    peak = max(-limits[0], limits[1])
    return -peak * 128 / 127, peak


def _write_ranges(graph: Graph, ranges: Ranges, covering: Mapping[int, tuple[float, float]]) -> None:
    for index, tensor in enumerate(graph.subgraph.tensors):
        if tensor.type != schema.TensorType.FLOAT32 or graph.constant(index) is not None:
            continue
        if index >= len(ranges.low) or math.isnan(ranges.low[index]):
            continue
        low, high = covering.get(index) or ranges.of(index)
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.min = np.asarray([low], np.float32)
        tensor.quantization.max = np.asarray([high], np.float32)
