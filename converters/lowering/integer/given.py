"""Ranges that training has found, in place of those that calibration has seen."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.fused import SEQUENCE, X, find_carriers
from edgelstm.converters.lowering.integer.ranges import Ranges
from edgelstm.converters.lowering.scales import COPYING

Limits = tuple[float, float]


def place_ranges(
    graph: Graph, calls: Sequence[LstmCall], ranges: Ranges, given: Mapping[str, Limits]
) -> tuple[Ranges, list[str]]:
    """Puts given ranges into observed ones.

    Args:
        graph: The float graph with carriers.
        calls: The calls found by tracing.
        ranges: Observed.
        given: (Least, greatest) value by name: `PATH/input` and `PATH/output` of an LSTM or Dense layer (of a Dense
            layer's product, where its activation is an operator of its own), `PATH/cell` of an LSTM layer.

    Returns:
        The ranges, and the names that no tensor of the graph has.
    """
    placing = _Placing(graph, ranges, given)
    for call, carrier in find_carriers(graph, calls):
        placing.upstream(f"{call.layer}/input", carrier.inputs[X])
        placing.downstream(f"{call.layer}/output", carrier.outputs[SEQUENCE])
        placing.cell(f"{call.layer}/cell", call.index)
    for operator in graph.operators:
        if graph.code(operator) == schema.BuiltinOperator.FULLY_CONNECTED:
            for path in _paths(graph, operator):
                placing.upstream(f"{path}/input", operator.inputs[0])
                placing.downstream(f"{path}/output", operator.outputs[0])
    left = sorted(set(given) - placing.placed)
    return placing.result(), left


class _Placing:
    def __init__(self, graph: Graph, ranges: Ranges, given: Mapping[str, Limits]) -> None:
        self.graph, self.ranges, self.given = graph, ranges, given
        self.low, self.high, self.peaks = ranges.low.copy(), ranges.high.copy(), dict(ranges.cell_peak)
        self.placed: set[str] = set()
        self._tensors: set[int] = set()

    def result(self) -> Ranges:
        return dataclasses.replace(
            self.ranges, low=self.low, high=self.high, cell_peak=self.peaks, given=frozenset(self._tensors)
        )

    def cell(self, name: str, call: int) -> None:
        if name in self.given:
            self.peaks[call] = max(map(abs, self.given[name]))
            self.placed.add(name)

    def upstream(self, name: str, tensor: int) -> None:
        """Gives a range to a tensor and to what it is a copy of."""
        while name in self.given:
            self._set(name, tensor)
            operator = self.graph.producer(tensor)
            moved = self._moved(operator)
            if len(moved) != 1:
                return
            tensor = moved[0]

    def downstream(self, name: str, tensor: int) -> None:
        """Gives a range to a tensor and to its copies."""
        if name not in self.given:
            return
        self._set(name, tensor)
        for operator in self.graph.consumers(tensor):
            if self._moved(operator) == [tensor]:
                for output in operator.outputs:
                    self.downstream(name, output)

    def _set(self, name: str, tensor: int) -> None:
        self.placed.add(name)
        self._tensors.add(tensor)
        if tensor < len(self.low):
            self.low[tensor], self.high[tensor] = self.given[name]

    def _moved(self, operator: Any) -> list[int]:
        """The computed tensors that an operator moves without computing; none where it computes."""
        if operator is None or self.graph.code(operator) not in COPYING:
            return []
        positions = COPYING[self.graph.code(operator)]
        tensors = [operator.inputs[position] for position in positions or range(len(operator.inputs))]
        return [tensor for tensor in tensors if self.graph.constant(tensor) is None]


def _paths(graph: Graph, operator: Any) -> set[str]:
    """Paths of layers that an operator may stem from, by the scopes that TensorFlow gave its tensors.

    A scope is the name of a layer and the number of its call, and below that of the model.
    """
    found = set()
    for tensor in (operator.inputs[1], operator.outputs[0]):
        for name in graph.tensor(tensor).name.decode("utf-8", "replace").split(";"):
            scopes = [re.sub(r"_\d+$", "", scope) for scope in name.split("/")[1:-1]]
            found |= {"/".join(scopes[: end + 1]) for end in range(len(scopes))}
    return found
