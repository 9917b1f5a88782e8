"""Carriers -> the form that a runtime takes: fused operators, loops, or unrolled steps.

fused     one operator with its state in variable tensors, written anew on every call
loop      a WHILE loop; no variable tensors
unrolled  one step after the other; no variable tensors and one subgraph
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import Array, Graph
from edgelstm.converters.lowering import stepwise
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.cells import Cell, FloatCell
from edgelstm.converters.lowering.fused import (
    CELL,
    FINAL_CELL,
    HIDDEN,
    KERNEL,
    SEQUENCE,
    X,
    find_carriers,
    fuse,
    plain_float,
    why_not_fused,
)
from edgelstm.converters.lowering.operators import Operators
from edgelstm.converters.lowering.states import StateWriter
from edgelstm.converters.lowering.streaming import (
    CELL_STATE,
    HIDDEN_STATE,
    KINDS,
    StreamState,
    StreamStates,
    check_streaming,
)
from edgelstm.converters.lowering.weights import read_weights
from edgelstm.runtime.runtimes import RuntimeFamily

Steps = Callable[..., stepwise.Sequence]

STEPWISE_FORMS: dict[str, Steps] = {"loop": stepwise.loop, "unrolled": stepwise.unroll}
FORMS = ("fused", *STEPWISE_FORMS)


def form_of(call: LstmCall, form: str, family: RuntimeFamily | None = None) -> str:
    """The form of one call: what the runtime wants, but a loop where the fused operator cannot compute it."""
    return "loop" if form == "fused" and why_not_fused(call, family) else form


def place_float(
    graph: Graph,
    calls: Sequence[LstmCall],
    *,
    form: str,
    precision: str,
    layers: Mapping[str, str] | None = None,
    streaming: bool = False,
    family: RuntimeFamily | None = None,
) -> list[StreamState]:
    """Replaces every carrier by its form with float32 states.

    Args:
        graph: The converter's result; changed in place.
        calls: The calls found by tracing.
        form: One of `FORMS`.
        precision: "float32", "float16" or "dynamic": how the weights are stored.
        layers: Precisions of layers that have another one.
        streaming: Whether states stay from call to call.
        family: The runtimes that the file is for; None for all that have TensorFlow Lite's own kernels.

    Returns:
        The states that stay.

    Raises:
        LoweringError: If a call cannot be streamed.
    """
    stream = StreamStates(graph, [call for call, _ in find_carriers(graph, calls)]) if streaming else None
    own = layers or {}
    precisions = {call.index: own.get(call.layer, precision) for call in calls}
    place_calls(graph, calls, form=form, precisions=precisions, stream=stream, family=family)
    return stream.expose() if stream else []


def place_calls(
    graph: Graph,
    calls: Sequence[LstmCall],
    *,
    form: str,
    precisions: Mapping[int, str],
    stream: StreamStates | None,
    family: RuntimeFamily | None = None,
) -> None:
    """Replaces the carriers of some calls by their form with float32 states.

    Args:
        graph: The graph; changed in place.
        calls: The calls.
        form: One of `FORMS`.
        precisions: "float32", "float16" or "dynamic" by the index of the call.
        stream: For a streaming model, whose states stay from call to call.
        family: The runtimes that the file is for; None for all that have TensorFlow Lite's own kernels.

    Raises:
        LoweringError: If a call cannot be streamed.
    """
    states, operators = StateWriter(graph), Operators(graph)
    carriers = find_carriers(graph, calls)
    for call, carrier in carriers:
        if stream:
            check_streaming(graph, call, carrier.inputs[HIDDEN:KERNEL])
        chosen, precision = form_of(call, form, family), precisions[call.index]
        if chosen == "fused":
            fuse(graph, states, call, carrier, precision=precision, stream=stream)
        else:
            _place_steps(operators, STEPWISE_FORMS[chosen], call, carrier, precision, stream)
    graph.remove(carrier for _, carrier in carriers)
    graph.sort()


def place_beside(graph: Graph, calls: Sequence[LstmCall]) -> None:
    """Replaces the carriers of some calls by loops in float32, for whoever observes a run: tensors keep their indices.

    Args:
        graph: The converter's float32 result; changed in place.
        calls: The calls, none of a streaming model.
    """
    operators = Operators(graph)
    carriers = find_carriers(graph, calls)
    for call, carrier in carriers:
        cell = FloatCell(call, read_weights(graph, call, *carrier.inputs[KERNEL:]), "float32")
        result = stepwise.loop(operators, cell, *carrier.inputs[:KERNEL], outputs=True)
        assert result.outputs is not None, "all outputs are asked for"
        for tensor, computed in zip(carrier.outputs, (result.outputs, result.cell), strict=True):
            operators.copy(computed, tensor)
    graph.remove(carrier for _, carrier in carriers)
    graph.sort()


def _place_steps(
    operators: Operators, steps: Steps, call: LstmCall, carrier: Any, precision: str, stream: StreamStates | None
) -> None:
    graph = operators.graph
    cell = FloatCell(call, read_weights(graph, call, *carrier.inputs[KERNEL:]), precision)
    x = carrier.inputs[X]
    if stream:
        hidden, state = (stream.give(call, kind, graph.shape(x)[0]) for kind in KINDS)
    else:
        hidden, state = (plain_float(graph, carrier.inputs[position]) for position in (HIDDEN, CELL))
    result = write_steps(operators, steps, cell, carrier, x, hidden, state)
    if stream:
        stream.take(call, HIDDEN_STATE, result.hidden)
        stream.take(call, CELL_STATE, result.cell)


def write_steps(
    operators: Operators, steps: Steps, cell: Cell, carrier: Any, x: int, hidden: int, state: int
) -> stepwise.Sequence:
    """Writes a call's steps and lets the readers of its carrier's results read theirs instead.

    Readers of the last step alone read the last hidden state, so that the steps before need not be kept.
    """
    graph = operators.graph
    sequence, final_cell = carrier.outputs[SEQUENCE], carrier.outputs[FINAL_CELL]
    readers = [reader for reader in graph.consumers(sequence) if takes_last_step(graph, reader)]
    wants_all = sequence in graph.subgraph.outputs or len(readers) < len(graph.consumers(sequence))
    result = steps(operators, cell, x, hidden, state, outputs=wants_all)
    for reader in readers:
        graph.replace(reader.outputs[0], operators.reshaped(result.hidden, graph.shape(reader.outputs[0])))
    graph.remove(readers)
    if result.outputs is not None:
        graph.replace(sequence, result.outputs)
    graph.replace(final_cell, result.cell)
    return result


def takes_last_step(graph: Graph, operator: Any) -> bool:
    """Whether an operator takes the last step of a sequence (batch, time, units) and nothing else."""
    if graph.code(operator) != schema.BuiltinOperator.STRIDED_SLICE:
        return False
    begin, end, strides = (graph.constant(tensor) for tensor in operator.inputs[1:4])
    shape = graph.shape(operator.inputs[0])
    if begin is None or end is None or strides is None or len(shape) != 3 or len(begin) != 3:
        return False
    options = operator.builtinOptions
    if options.ellipsisMask or options.newAxisMask:
        return False
    taken = [_taken(size, axis, begin, end, strides, options) for axis, size in enumerate(shape)]
    full = [list(range(size)) for size in shape]
    return taken == [full[0], full[1][-1:], full[2]]


def _taken(size: int, axis: int, begin: Array, end: Array, strides: Array, options: Any) -> list[int]:
    """Indices that a STRIDED_SLICE takes along an axis."""
    if options.shrinkAxisMask >> axis & 1:
        return [int(begin[axis]) % size]
    first = None if options.beginMask >> axis & 1 else int(begin[axis])
    last = None if options.endMask >> axis & 1 else int(end[axis])
    return [int(index) for index in np.arange(size)[slice(first, last, int(strides[axis]))]]
