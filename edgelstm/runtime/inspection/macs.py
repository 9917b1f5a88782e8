"""Counts the multiply-accumulates of one call: products of weights, or of two activations, that are added up."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgelstm.runtime.inspection.records import GraphRecord, ModelRecord, OperatorRecord, TensorRecord

LSTM_WEIGHTS = {  # positions of matrices among the inputs: those of the input, those of the state, projections
    "UNIDIRECTIONAL_SEQUENCE_LSTM": range(1, 9),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), *range(18, 26)),
}
_PROJECTIONS = {"UNIDIRECTIONAL_SEQUENCE_LSTM": (16,), "BIDIRECTIONAL_SEQUENCE_LSTM": (16, 33)}


def count_macs(model: ModelRecord) -> int | None:
    """Returns the multiply-accumulates of one call.

    Counted are LSTMs, matrix products and convolutions; additions, activations and look-ups of rows are not.

    Returns:
        None where the file does not say: a size is left open, or another subgraph, of a loop, has products.
    """
    first, *others = model.graphs
    if any(operator.name in _COUNTERS for graph in others for operator in graph.operators):
        return None
    counts = [operator_macs(first, operator) for operator in first.operators]
    return None if None in counts else sum(count or 0 for count in counts)


def operator_macs(graph: GraphRecord, operator: OperatorRecord) -> int | None:
    """Returns the multiply-accumulates of one run of an operator: 0 if it makes none, None if a size is left open."""
    counter = None if operator.is_custom else _COUNTERS.get(operator.name)
    return 0 if counter is None else counter(graph, operator)


def _lstm(graph: GraphRecord, operator: OperatorRecord) -> int | None:
    if operator.name == "LSTM":
        source, weights = graph.tensor(operator.inputs, 0), graph.tensor(operator.inputs, 2)
        return None if source is None or weights is None else _times(_rows(source), _size(weights))
    source = graph.tensor(operator.inputs, 0)
    positions = (*LSTM_WEIGHTS[operator.name], *_PROJECTIONS[operator.name])
    weights_of_all = [graph.tensor(operator.inputs, position) for position in positions]
    sizes = [_size(weights) for weights in weights_of_all if weights is not None]
    if source is None or any(size is None for size in sizes):
        return None
    return _times(_rows(source), sum(size or 0 for size in sizes))


def _fully_connected(graph: GraphRecord, operator: OperatorRecord) -> int | None:
    source, weights = graph.tensor(operator.inputs, 0), graph.tensor(operator.inputs, 1)
    if source is None or weights is None or len(weights.shape) != 2:
        return None
    values = _size(source)
    return None if values is None else values // max(1, weights.shape[1]) * weights.shape[0] * weights.shape[1]


def _matmul(graph: GraphRecord, operator: OperatorRecord) -> int | None:
    source, product = graph.tensor(operator.inputs, 0), graph.tensor(operator.outputs, 0)
    if source is None or product is None or len(source.shape) < 2 or len(product.shape) < 2:
        return None
    rows, columns = source.shape[-2:]  # the inner size is the one that is not the product's, transposed or not
    return None if product.shape[-2] < 1 else _times(_size(product), rows * columns // product.shape[-2])


def _convolution(graph: GraphRecord, operator: OperatorRecord) -> int | None:
    weights, product = graph.tensor(operator.inputs, 1), graph.tensor(operator.outputs, 0)
    if weights is None or product is None or len(weights.shape) != 4:
        return None
    _, height, width, depth = weights.shape
    return _times(_size(product), height * width * (1 if operator.name == "DEPTHWISE_CONV_2D" else depth))


def _transposed(graph: GraphRecord, operator: OperatorRecord) -> int | None:
    weights, source = graph.tensor(operator.inputs, 1), graph.tensor(operator.inputs, 2)
    if weights is None or source is None or len(weights.shape) != 4:
        return None
    filters, height, width, _ = weights.shape
    return _times(_size(source), filters * height * width)


def _size(tensor: TensorRecord) -> int | None:
    return None if any(size < 0 for size in tensor.shape) else math.prod(tensor.shape)


def _rows(tensor: TensorRecord) -> int | None:
    return None if any(size < 0 for size in tensor.shape[:-1]) else math.prod(tensor.shape[:-1])


def _times(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None or other < 0 else one * other


_COUNTERS: dict[str, Callable[[GraphRecord, OperatorRecord], int | None]] = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "BIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "LSTM": _lstm,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matmul,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "TRANSPOSE_CONV": _transposed,
}
