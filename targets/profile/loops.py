"""How often a loop turns: a file does not say so, but its counter, its limit and its step stand in it."""

from __future__ import annotations

from edgelstm.runtime.inspection.records import NO_TENSOR, GraphRecord, ModelRecord, OperatorRecord, TensorRecord

_COUNTERS = frozenset({"int32", "int64"})


def count_turns(model: ModelRecord, data: bytes, graph: GraphRecord, loop: OperatorRecord) -> int | None:
    """Counts the turns of a loop whose condition is counter < limit, alone or with others like it.

    Args:
        model: The file.
        data: Its content.
        graph: The graph that the loop stands in.
        loop: Its WHILE operator.

    Returns:
        The turns, None if they depend on what the model is given or on what it computes.
    """
    condition, body = (model.graphs[int(loop.options[key])] for key in ("cond_graph", "body_graph"))
    constants = _Constants(model, data)
    turns = [
        count
        for comparison in condition.operators
        if comparison.name == "LESS" and len(comparison.inputs) == 2
        if (count := _turns(constants, graph, loop, condition, body, comparison)) is not None
    ]
    return min(turns, default=None)


def _turns(
    constants: _Constants,
    graph: GraphRecord,
    loop: OperatorRecord,
    condition: GraphRecord,
    body: GraphRecord,
    comparison: OperatorRecord,
) -> int | None:
    counter, limit_tensor = comparison.inputs
    if counter not in condition.inputs:
        return None
    position = condition.inputs.index(counter)
    start = constants.integer(graph, loop.inputs[position]) if position < len(loop.inputs) else None
    step = _step(constants, body, position)
    if limit_tensor in condition.inputs:
        place = condition.inputs.index(limit_tensor)
        is_kept = place < len(body.inputs) and body.outputs[place : place + 1] == (body.inputs[place],)
        limit = constants.integer(graph, loop.inputs[place]) if is_kept and place < len(loop.inputs) else None
    else:
        limit = constants.integer(condition, limit_tensor)
    if start is None or limit is None or not step:
        return None
    return max(0, -(-(limit - start) // step))


def _step(constants: _Constants, body: GraphRecord, position: int) -> int | None:
    """Returns what the body adds to the counter, None if it does something else with it."""
    if position >= min(len(body.inputs), len(body.outputs)):
        return None
    source, result = body.inputs[position], body.outputs[position]
    for operator in body.operators:
        if operator.name == "ADD" and result in operator.outputs and source in operator.inputs:
            others = [tensor for tensor in operator.inputs if tensor != source]
            step = constants.integer(body, others[0]) if len(others) == 1 else None
            return step if step is not None and step > 0 else None
    return None


class _Constants:
    """Reads single integers that stand in a file."""

    def __init__(self, model: ModelRecord, data: bytes) -> None:
        self._buffers = model.buffers
        self._data = data

    def integer(self, graph: GraphRecord, index: int) -> int | None:
        """Returns the value of a tensor, None if it is no single constant integer."""
        if index == NO_TENSOR:
            return None
        tensor: TensorRecord = graph.tensors[index]
        buffer = self._buffers[tensor.buffer]
        if tensor.dtype not in _COUNTERS or buffer.size_bytes != int(tensor.dtype[3:]) // 8:
            return None
        return int.from_bytes(self._data[buffer.start : buffer.start + buffer.size_bytes], "little", signed=True)
