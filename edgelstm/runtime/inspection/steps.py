"""Recognizes the time steps of an LSTM that are written out as plain operators, in a loop or one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from ai_edge_litert import schema_py_generated as schema

from edgelstm.runtime.inspection.records import GraphRecord, OperatorRecord

MAX_HOPS = 12  # operators between a gate and its use, or between a cell state and the hidden state

# They hand values on, or a part of them, or the same in another precision.
_VIEWS = frozenset(
    {
        "CAST",
        "DEQUANTIZE",
        "EXPAND_DIMS",
        "GATHER",
        "QUANTIZE",
        "RESHAPE",
        "SLICE",
        "SPLIT",
        "SPLIT_V",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TRANSPOSE",
        "UNPACK",
    }
)
_SIGMOIDS = frozenset({"LOGISTIC", "MAXIMUM", "MINIMUM", "RELU6", "RELU_0_TO_1"})  # the last four make hard sigmoids
# An ADD that clips its sum makes one, too.
_RAMPS = frozenset({schema.ActivationFunctionType.RELU6, schema.ActivationFunctionType.RELU_N1_TO_1})
_ACTIVATIONS = frozenset({"LOGISTIC", "RELU", "RELU6", "RELU_N1_TO_1", "MAXIMUM", "MINIMUM", "TANH"})
_PRODUCTS = frozenset({"BATCH_MATMUL", "FULLY_CONNECTED"})


def count_lstm_steps(graph: GraphRecord) -> int:
    """Counts the steps of LSTMs in a graph: cell = gate * cell + gate * input, hidden = gate * activation(cell).

    A GRU has no such step: one of the two factors of its update is 1 - gate.
    """
    if _PRODUCTS.isdisjoint(operator.name for operator in graph.operators):
        return 0
    return len(set(_Steps(graph).cells()))


class _Steps:
    def __init__(self, graph: GraphRecord) -> None:
        self._operators = graph.operators
        self._writer = {tensor: operator for operator in graph.operators for tensor in operator.outputs}
        self._computed = self._writer.keys() | set(graph.inputs)

    def cells(self) -> Iterator[int]:
        """Yields the tensors of the cell states, as often as they are turned into hidden states."""
        for operator in self._operators:
            for gate, other in _factors(operator):
                source = self._behind(other, _VIEWS | _ACTIVATIONS)
                if source is not None and self._is_gate(gate) and self._is_cell(source):
                    yield source.outputs[0]

    def _is_cell(self, operator: OperatorRecord) -> bool:
        """Returns whether an operator adds two products with a gate each, or is one: the first step, from zeros."""
        if operator.name == "ADD" and len(operator.inputs) == 2:
            return all(self._is_gated(self._behind(tensor, _VIEWS)) for tensor in operator.inputs)
        return any(self._is_gate(gate) and self._is_activated(other) for gate, other in _factors(operator))

    def _is_gated(self, operator: OperatorRecord | None) -> bool:
        return operator is not None and any(self._is_gate(gate) for gate, _ in _factors(operator))

    def _is_gate(self, tensor: int) -> bool:
        source = self._behind(tensor, _VIEWS)
        if source is not None and (scaled := self._scaled(source)) is not None:
            source = self._behind(scaled, _VIEWS)
        return source is not None and (source.name in _SIGMOIDS or _is_ramp(source))

    def _is_activated(self, tensor: int) -> bool:
        source = self._behind(tensor, _VIEWS)
        return source is not None and source.name in _ACTIVATIONS

    def _behind(self, tensor: int, handed_on: frozenset[str]) -> OperatorRecord | None:
        """Returns the operator that computes a tensor, behind those that only hand values on; None at an input."""
        for _ in range(MAX_HOPS):
            operator = self._writer.get(tensor)
            if operator is None or operator.name not in handed_on:
                return operator
            value = 1 if operator.name == "SPLIT" else 0
            if len(operator.inputs) <= value:
                return None
            tensor = operator.inputs[value]
        return None

    def _scaled(self, operator: OperatorRecord) -> int | None:
        """Returns what an operator multiplies by a constant, None if it does something else."""
        if operator.name != "MUL":
            return None
        computed = [tensor for tensor in operator.inputs if tensor in self._computed]
        return computed[0] if len(computed) == 1 else None


def _is_ramp(operator: OperatorRecord) -> bool:
    return operator.name == "ADD" and operator.options.get("activation") in _RAMPS


def _factors(operator: OperatorRecord) -> tuple[tuple[int, int], ...]:
    """Returns both orders of what an operator multiplies; nothing if it multiplies nothing."""
    if operator.name != "MUL" or len(operator.inputs) != 2:
        return ()
    first, second = operator.inputs
    return (first, second), (second, first)
