"""Finds the LSTM operators and the loops of a file and says what they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ai_edge_litert import schema_py_generated as schema

from edgelstm.runtime.inspection.records import GraphRecord, ModelRecord, OperatorRecord, TensorRecord
from edgelstm.runtime.inspection.report import LoopSummary, LstmSummary, Precision, StateSemantics
from edgelstm.runtime.inspection.states import SearchBudget, Writers, is_written_on_every_call
from edgelstm.runtime.inspection.steps import count_lstm_steps

# Inputs of the operators, as tensorflow/lite/kernels/lstm_shared.h and bidirectional_sequence_lstm.cc number them.
INPUT = 0
INPUT_TO_FORGET_WEIGHTS = 2  # (units, features); for the basic kernel all weights, (4 * units, features + units)
STATES = {  # pairs of hidden state and cell state, one per direction, each (batch, units)
    "LSTM": ((18, 19),),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ((18, 19),),
    "BIDIRECTIONAL_SEQUENCE_LSTM": ((35, 36), (37, 38)),
}
PROJECTION_WEIGHTS = 16  # (outputs, units)
HIDDEN_INTERMEDIATE = 4  # the hidden state before projection

_ACTIVATIONS = {
    schema.ActivationFunctionType.NONE: "linear",
    schema.ActivationFunctionType.RELU: "relu",
    schema.ActivationFunctionType.RELU_N1_TO_1: "hard_tanh",
    schema.ActivationFunctionType.RELU6: "relu6",
    schema.ActivationFunctionType.TANH: "tanh",
    schema.ActivationFunctionType.SIGN_BIT: "sign_bit",
}
_PRECISION_OF_INT8_WEIGHTS: dict[str, Precision] = {"float32": "dynamic", "int8": "int8", "int16": "int16x8"}


def is_lstm(operator: OperatorRecord) -> bool:
    """Returns whether an operator is one of the fused LSTM operators."""
    return operator.name in STATES and not operator.is_custom


def state_positions(operator: OperatorRecord) -> tuple[tuple[int, int], ...]:
    """Returns the positions of hidden and cell state among the inputs; none for the basic kernel."""
    return () if operator.options.get("is_basic") else STATES[operator.name]


def summarize_lstms(model: ModelRecord, *, streaming: bool = False) -> tuple[LstmSummary, ...]:
    """Describes all LSTM operators of a file.

    Args:
        model: The parsed file.
        streaming: Whether states that survive from call to call are meant to.

    Raises:
        DamagedError: If the operators are tangled beyond what any model needs.
    """
    summaries: list[LstmSummary] = []
    budget = SearchBudget()
    for graph_index, graph in enumerate(model.graphs):
        writers = Writers(graph, budget)
        for position, operator in enumerate(graph.operators):
            if is_lstm(operator):
                summaries.append(_summarize(writers, position, len(summaries), graph_index))
    return tuple(map(_as_streaming, summaries) if streaming else summaries)


def _as_streaming(lstm: LstmSummary) -> LstmSummary:
    return dataclasses.replace(lstm, state="streaming") if lstm.state == "leaking" else lstm


def _summarize(writers: Writers, position: int, index: int, graph_index: int) -> LstmSummary:
    graph = writers.graph
    operator = graph.operators[position]
    states = state_positions(operator)
    hidden, cell = (graph.tensor(operator.inputs, state) for state in states[0]) if states else (None, None)
    output = graph.tensor(operator.outputs, 0)
    batch, time = _batch_and_time(graph, operator)
    units, features = _units_and_features(graph, operator)
    has_projection = bool(states) and graph.tensor(operator.inputs, PROJECTION_WEIGHTS) is not None
    intermediate = None if has_projection else graph.tensor(operator.intermediates, HIDDEN_INTERMEDIATE)
    activation = int(operator.options["activation"])
    return LstmSummary(
        index=index,
        graph=graph_index,
        operator=position,
        name=(output.name if output is not None else "") or f"lstm {index}",
        kind=operator.name,
        batch=batch,
        time=time,
        features=features,
        units=units,
        activation=_ACTIVATIONS.get(activation, f"activation {activation}"),
        time_major=bool(operator.options.get("time_major", False)),
        precision=_precision(writers, position, hidden),
        cell_clip=float(operator.options["cell_clip"]),
        state=_state_semantics(writers, position),
        input_scale=_scale(graph.tensor(operator.inputs, INPUT)),
        output_scale=_scale(output),
        hidden_scale=_scale(hidden),
        cell_scale=_scale(cell),
        intermediate_scale=_scale(intermediate),
    )


def _scale(tensor: TensorRecord | None) -> float | None:
    return None if tensor is None else tensor.scale


def _batch_and_time(graph: GraphRecord, operator: OperatorRecord) -> tuple[int | None, int | None]:
    source = graph.tensor(operator.inputs, INPUT)
    sizes = () if source is None else tuple(None if size < 0 else size for size in source.shape)
    if operator.name == "LSTM":
        return (sizes[0] if sizes else None), 1
    if len(sizes) != 3:
        return None, None
    return (sizes[1], sizes[0]) if operator.options["time_major"] else (sizes[0], sizes[1])


def _units_and_features(graph: GraphRecord, operator: OperatorRecord) -> tuple[int | None, int | None]:
    weights = graph.tensor(operator.inputs, INPUT_TO_FORGET_WEIGHTS)
    if weights is None or len(weights.shape) != 2:
        return None, None
    rows, columns = weights.shape
    if operator.options.get("is_basic"):
        return rows // 4, columns - rows // 4
    return rows, columns


def _precision(writers: Writers, position: int, hidden: TensorRecord | None) -> Precision:
    inputs = writers.graph.operators[position].inputs
    weights = writers.graph.tensor(inputs, INPUT_TO_FORGET_WEIGHTS)
    if weights is None:
        return "unknown"
    if weights.dtype == "float32":
        return "float16" if _stored_dtype(writers, position) == "float16" else "float32"
    if weights.dtype in ("int8", "uint8", "int4") and hidden is not None:
        return _PRECISION_OF_INT8_WEIGHTS.get(hidden.dtype, "unknown")
    return "unknown"


def _stored_dtype(writers: Writers, position: int) -> str | None:
    """Returns the element type that float32 weights have in front of a DEQUANTIZE, None without one."""
    operators = writers.graph.operators
    writer = writers.last_before(position, operators[position].inputs[INPUT_TO_FORGET_WEIGHTS])
    if writer is None or operators[writer].name != "DEQUANTIZE":
        return None
    source = writers.graph.tensor(operators[writer].inputs, 0)
    return None if source is None else source.dtype


def _state_semantics(writers: Writers, position: int) -> StateSemantics:
    operator = writers.graph.operators[position]
    positions = [state for pair in state_positions(operator) for state in pair]
    if not positions:
        return "explicit"
    if len(operator.inputs) <= max(positions):
        return "leaking"
    states = {operator.inputs[state] for state in positions}
    return "self-resetting" if is_written_on_every_call(writers, position, states) else "leaking"


def summarize_loops(model: ModelRecord) -> tuple[LoopSummary, ...]:
    """Describes all WHILE operators of a file."""
    return tuple(_loops(model))


def _loops(model: ModelRecord) -> Iterator[LoopSummary]:
    steps = [count_lstm_steps(graph) for graph in model.graphs]
    for graph_index, graph in enumerate(model.graphs):
        for position, operator in enumerate(graph.operators):
            if operator.name == "WHILE" and not operator.is_custom:
                body = int(operator.options["body_graph"])
                yield LoopSummary(graph_index, position, body, steps[body] > 0, steps[body])


def count_unrolled_steps(model: ModelRecord) -> int:
    """Counts the LSTM steps that stand in no loop."""
    bodies = {loop.body_graph for loop in summarize_loops(model)}
    return sum(count_lstm_steps(graph) for index, graph in enumerate(model.graphs) if index not in bodies)
