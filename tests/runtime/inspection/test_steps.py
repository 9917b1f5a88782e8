"""LSTM steps written out as plain operators."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.runtime.inspection import inspect
from edgelstm.runtime.inspection.records import GraphRecord, OperatorRecord
from edgelstm.runtime.inspection.steps import count_lstm_steps
from tests import tiny_models

RELU6 = schema.ActivationFunctionType.RELU6


class Graph:
    """Puts a graph together; tensors are numbers. 0 to 2 are the inputs x, h and c, 3 is a constant."""

    def __init__(self) -> None:
        self.operators: list[OperatorRecord] = []
        self._tensors = itertools.count(10)

    def add(self, name: str, *inputs: int, activation: int = 0) -> int:
        output = next(self._tensors)
        options = {"activation": activation} if name == "ADD" else {}
        self.operators.append(OperatorRecord(name, False, inputs, (output,), (), options))
        return output

    def sigmoid(self, x: int) -> int:
        return self.add("LOGISTIC", x)

    def hard_sigmoid(self, x: int) -> int:
        return self.add("MUL", self.add("ADD", x, 3, activation=RELU6), 3)

    def record(self) -> GraphRecord:
        return GraphRecord((0, 1, 2), (), (), tuple(self.operators))


def lstm_step(graph: Graph, h: int, c: int, gate: str = "sigmoid", view: str | None = None) -> tuple[int, int]:
    """The usual step, with a view between a gate and its use if one is named."""
    sums = graph.add("ADD", 0, graph.add("FULLY_CONNECTED", h, 3, 3))
    parts = [graph.add("SPLIT", 3, sums) for _ in range(4)]
    make = getattr(graph, gate)
    i, f, o = (make(parts[index]) for index in (0, 1, 3))
    if view is not None:
        i, f, o = (graph.add(view, value) for value in (i, f, o))
    g = graph.add("TANH", parts[2])
    c = graph.add("ADD", graph.add("MUL", f, c), graph.add("MUL", i, g))
    squashed = graph.add("TANH", c if view is None else graph.add(view, c))
    return graph.add("MUL", o, squashed), c


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid"])
@pytest.mark.parametrize("view", [None, "QUANTIZE", "RESHAPE"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_step_of_an_lstm_is_counted(gate, view, steps):
    graph, h, c = Graph(), 1, 2
    for _ in range(steps):
        h, c = lstm_step(graph, h, c, gate, view)
    assert count_lstm_steps(graph.record()) == steps


def test_a_first_step_from_zeros_has_no_old_cell_state():
    graph = Graph()
    graph.add("FULLY_CONNECTED", 0, 3, 3)
    c = graph.add("MUL", graph.sigmoid(0), graph.add("TANH", 0))
    h = graph.add("MUL", graph.sigmoid(0), graph.add("TANH", c))
    lstm_step(graph, h, c)
    assert count_lstm_steps(graph.record()) == 2


def test_a_linear_activation_hands_the_cell_state_on():
    graph = Graph()
    graph.add("FULLY_CONNECTED", 0, 3, 3)
    c = graph.add("ADD", graph.add("MUL", graph.sigmoid(0), 2), graph.add("MUL", graph.sigmoid(0), 0))
    graph.add("MUL", graph.sigmoid(0), c)
    assert count_lstm_steps(graph.record()) == 1


def test_a_gru_has_none():
    graph, h = Graph(), 1
    for _ in range(3):
        z, r = (graph.sigmoid(graph.add("FULLY_CONNECTED", h, 3, 3)) for _ in range(2))
        candidate = graph.add("TANH", graph.add("ADD", 0, graph.add("MUL", r, h)))
        kept, new = graph.add("MUL", z, h), graph.add("MUL", graph.add("SUB", 3, z), candidate)
        h = graph.add("ADD", kept, new)
    assert count_lstm_steps(graph.record()) == 0


def test_gates_without_a_matrix_product_are_no_lstm():
    graph = Graph()
    lstm_step(graph, 1, 2)
    without = tuple(operator for operator in graph.operators if operator.name != "FULLY_CONNECTED")
    assert count_lstm_steps(GraphRecord((0, 1, 2), (), (), without)) == 0


def test_a_circle_of_copies_ends():
    circle = (
        OperatorRecord("RESHAPE", False, (11,), (10,), (), {}),
        OperatorRecord("RESHAPE", False, (10,), (11,), (), {}),
        OperatorRecord("MUL", False, (10, 11), (12,), (), {}),
        OperatorRecord("FULLY_CONNECTED", False, (12, 3), (13,), (), {}),
        OperatorRecord("SPLIT", False, (3,), (14,), (), {}),
        OperatorRecord("MUL", False, (14, 12), (15,), (), {}),
        OperatorRecord("MUL", False, (), (16,), (), {}),
    )
    assert count_lstm_steps(GraphRecord((0,), (), (), circle)) == 0


def test_what_tensorflow_unrolls_is_counted(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_models.unrolled_lstm())
    assert inspect(path).unrolled_steps == tiny_models.TIME


def test_steps_in_a_loop_do_not_count_as_unrolled(models: dict[str, Path]) -> None:
    inspection = inspect(models["loop"])
    assert ([loop.num_steps for loop in inspection.loops], inspection.unrolled_steps) == ([1], 0)
    assert [loop.num_steps for loop in inspect(models["counting_loop"]).loops] == [0]
