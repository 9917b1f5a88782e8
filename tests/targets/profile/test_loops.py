from __future__ import annotations

import dataclasses
import struct

import pytest

from edgelstm.runtime.inspection.records import BufferRecord, GraphRecord, ModelRecord, OperatorRecord, TensorRecord
from edgelstm.targets.profile.loops import count_turns

EMPTY = 0


def tensor(buffer: int = EMPTY) -> TensorRecord:
    return TensorRecord("", (), "int32", buffer, False, None, None, False)


def operator(name: str, inputs: tuple[int, ...], outputs: tuple[int, ...], **options: int) -> OperatorRecord:
    return OperatorRecord(name, False, inputs, outputs, (), options)


def loop_model(start: int, limit: int, step: int) -> tuple[ModelRecord, bytes]:
    """A loop whose state is (counter, limit): while counter < limit: counter += step."""
    data = struct.pack("<3i", start, limit, step)
    buffers = (BufferRecord(0, 0), *(BufferRecord(4 * index, 4) for index in range(3)))
    main = GraphRecord(
        (), (2, 3), (tensor(1), tensor(2), tensor(), tensor()),
        (operator("WHILE", (0, 1), (2, 3), cond_graph=1, body_graph=2),),
    )  # fmt: skip
    condition = GraphRecord((0, 1), (2,), (tensor(), tensor(), tensor()), (operator("LESS", (0, 1), (2,)),))
    body = GraphRecord((0, 1), (3, 1), (tensor(), tensor(), tensor(3), tensor()), (operator("ADD", (0, 2), (3,)),))
    return ModelRecord("", (main, condition, body), buffers), data


def turns_of(model: ModelRecord, data: bytes) -> int | None:
    return count_turns(model, data, model.graphs[0], model.graphs[0].operators[0])


@pytest.mark.parametrize("start, limit, step, turns", [
    (0, 5, 1, 5), (0, 5, 2, 3), (0, 6, 2, 3), (-1, 5, 3, 2), (5, 5, 1, 0), (7, 5, 1, 0), (0, 300, 1, 300),
])  # fmt: skip
def test_turns_are_counted_from_start_limit_and_step(start, limit, step, turns):
    counter, counted = start, 0
    while counter < limit:
        counter, counted = counter + step, counted + 1
    assert turns_of(*loop_model(start, limit, step)) == counted == turns


def test_a_limit_may_stand_in_the_condition_itself():
    model, data = loop_model(0, 9, 2)
    main, _, body = model.graphs
    condition = GraphRecord((0, 1), (3,), (tensor(), tensor(), tensor(2), tensor()), (operator("LESS", (0, 2), (3,)),))
    assert turns_of(dataclasses.replace(model, graphs=(main, condition, body)), data) == 5


def test_of_several_limits_the_first_one_reached_counts():
    model, data = loop_model(0, 9, 1)
    main, condition, body = model.graphs
    both = dataclasses.replace(
        condition,
        tensors=(*condition.tensors, tensor(3)),  # a limit of 1: the value of the step
        operators=(*condition.operators, operator("LESS", (0, 3), (2,))),
    )
    assert turns_of(dataclasses.replace(model, graphs=(main, both, body)), data) == 1


@pytest.mark.parametrize("graph, changes", [
    (0, {"tensors": (tensor(), tensor(2), tensor(), tensor())}),  # the start is computed
    (0, {"tensors": (tensor(1), tensor(), tensor(), tensor())}),  # the limit is computed
    (1, {"operators": (operator("GREATER", (0, 1), (2,)),)}),
    (1, {"operators": (operator("LESS", (2, 1), (2,)),)}),  # what is compared is not the counter
    (2, {"operators": (operator("MUL", (0, 2), (3,)),)}),
    (2, {"operators": (operator("ADD", (0, 0), (3,)),)}),
    (2, {"tensors": (tensor(), tensor(), tensor(), tensor())}),  # the step is computed
    (2, {"outputs": (3, 2)}),  # the body changes the limit
])  # fmt: skip
def test_a_number_of_turns_that_is_not_in_the_file_is_not_guessed(graph, changes):
    model, data = loop_model(0, 5, 1)
    graphs = list(model.graphs)
    graphs[graph] = dataclasses.replace(graphs[graph], **changes)
    assert turns_of(dataclasses.replace(model, graphs=tuple(graphs)), data) is None


def test_a_step_backwards_is_not_counted():
    assert turns_of(*loop_model(0, 5, -1)) is None
