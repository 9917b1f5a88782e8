"""Steps in a loop or one after the other: what is written, how often, and that nothing stays behind."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.stepwise import LARGEST_BLOCK, LARGEST_BLOCK_WEIGHTS, block_size
from tests.converters.lowering.one_cell import (
    FORMS,
    PRECISIONS,
    add_lstm,
    answer,
    cell_of,
    empty_graph,
    finished,
    float_cell,
    largest_difference,
    one_cell,
    random_case,
    start,
)
from tests.lstm_reference import LstmWeights

Op = schema.BuiltinOperator
STEPS_AT_A_TIME = 4

every_precision = pytest.mark.parametrize("precision", PRECISIONS)


def graphs(content: bytes) -> list[Graph]:
    model = Graph.from_bytes(content).model
    return [Graph(model, position) for position in range(len(model.subgraphs))]


def count(graph: Graph, code: int) -> int:
    return sum(graph.code(operator) == code for operator in graph.operators)


@pytest.mark.parametrize("units, size", [(1, 4), (64, 4), (256, 4), (257, 3), (300, 2), (512, 1), (4096, 1)])
def test_blocks_shrink_where_their_weights_would_fill_memory(units, size):
    assert block_size(units) == size
    assert size == 1 or size * 4 * units * units <= LARGEST_BLOCK_WEIGHTS
    assert size <= LARGEST_BLOCK


@every_precision
@pytest.mark.parametrize("steps", [5, 7, 8, 9, 30])
def test_a_loop_holds_a_block_and_the_rest_stands_behind_it(precision, steps):
    case = random_case(time=steps)
    main, condition, body = graphs(one_cell(cell_of(case, precision), case, "loop"))
    assert count(main, Op.WHILE) == 1
    tanhs_of_a_step = 2
    assert count(body, Op.TANH) == STEPS_AT_A_TIME * tanhs_of_a_step
    assert count(main, Op.TANH) == steps % STEPS_AT_A_TIME * tanhs_of_a_step
    turns = next(value for value in map(condition.constant, condition.operators[0].inputs) if value is not None)
    assert turns == steps // STEPS_AT_A_TIME


@every_precision
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_single_block_needs_no_loop(precision, steps):
    case = random_case(time=steps)
    assert one_cell(cell_of(case, precision), case, "loop") == one_cell(cell_of(case, precision), case, "unrolled")


@every_precision
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_unrolled_steps_need_one_graph_and_no_loop(precision, steps):
    case = random_case(time=steps)
    (main,) = graphs(one_cell(cell_of(case, precision), case, "unrolled"))
    assert count(main, Op.WHILE) == 0
    assert count(main, Op.TANH) == 2 * steps


@every_precision
@pytest.mark.parametrize("form", FORMS)
def test_no_tensor_keeps_its_value_from_call_to_call(precision, form):
    case = random_case(time=9)
    content = one_cell(cell_of(case, precision), case, form)
    assert not any(tensor.isVariable for graph in graphs(content) for tensor in graph.subgraph.tensors)
    run = start(content)
    calls = [random_case(time=9, seed=seed) for seed in range(3)]
    answers = [run(x=each.x, h=each.h, c=each.c) for each in [*calls, calls[0]]]
    assert not np.array_equal(answers[0]["outputs"], answers[1]["outputs"])
    for name, value in answers[0].items():
        np.testing.assert_array_equal(answers[3][name], value)


@every_precision
@pytest.mark.parametrize("form", FORMS)
def test_the_input_side_of_all_steps_is_one_product_in_front(precision, form):
    case = random_case(batch=2, time=9)
    main, *rest = graphs(one_cell(cell_of(case, precision), case, form))
    products = [
        (graph, each) for graph in (main, *rest) for each in graph.operators if graph.code(each) == Op.FULLY_CONNECTED
    ]
    rows = [graph.shape(each.inputs[0]) for graph, each in products]
    assert rows.count([2 * 9, 3]) == 1
    steps_written = 9 if form == "unrolled" else STEPS_AT_A_TIME + 1
    assert rows.count([2, 4]) == steps_written
    assert len(rows) == steps_written + 1


@every_precision
def test_the_same_lstm_gives_the_same_bytes(precision):
    case = random_case(time=9)
    for form in FORMS:
        assert one_cell(cell_of(case, precision), case, form) == one_cell(cell_of(case, precision), case, form)


@every_precision
def test_weights_that_loop_and_rest_share_are_stored_once(precision):
    sizes = {}
    for steps in (8, 9):  # without and with a step behind the loop, which needs the recurrent weights again
        case = random_case(time=steps, features=4, units=48)
        sizes[steps] = len(one_cell(cell_of(case, precision), case, "loop"))
    recurrent_bytes = 4 * 48 * 48 * {"float32": 4, "float16": 2}.get(precision, 1)
    assert sizes[9] - sizes[8] < 0.5 * recurrent_bytes


def test_constants_of_equal_bytes_in_different_graphs_are_one_buffer():
    case = random_case(time=9, units=48)
    content = one_cell(float_cell(case), case, "loop")
    buffers = [bytes(buffer.data) for buffer in Graph.from_bytes(content).model.buffers if buffer.data is not None]
    assert len(buffers) == len(set(buffers))


def test_two_lstms_in_one_file_have_loops_of_their_own():
    graph, cases = empty_graph(), [random_case(time=9, seed=1), random_case(time=6, units=5, seed=2)]
    for position, case in enumerate(cases):
        add_lstm(graph, float_cell(case), case, "loop", prefix=f"{position}_")
    content = finished(graph)
    assert len(graphs(content)) == 1 + 2 * len(cases)
    fed = {f"{position}_{name}": getattr(case, name) for position, case in enumerate(cases) for name in "xhc"}
    got = start(content)(**fed)
    for position, case in enumerate(cases):
        wanted = case.expected()
        for name, value in (("outputs", wanted.outputs), ("last_h", wanted.h), ("last_c", wanted.c)):
            np.testing.assert_allclose(got[f"{position}_{name}"], value, rtol=0, atol=2e-6)


# Size


@every_precision
def test_200_steps_written_out_load_and_run_in_little_time(precision):
    case = random_case(batch=1, time=200, features=8, units=32)
    began = time.monotonic()
    content = one_cell(cell_of(case, precision), case, "unrolled")
    got = answer(content, case)
    took_s = time.monotonic() - began
    tolerance = {"float32": 1e-5, "float16": 5e-3}.get(precision, 0.05)  # as of cells, over more steps
    assert largest_difference(got, case.expected()) <= tolerance
    assert took_s < 20  # 1 s on an idle core; something quadratic in the steps takes minutes
    assert len(content) < 2_500_000


@pytest.mark.parametrize("units", [300, 512])
def test_large_layers_in_smaller_blocks_answer_the_same(units):
    case = random_case(batch=1, time=3, features=2, units=units)
    content = one_cell(float_cell(case), case, "loop")
    _, _, body = graphs(content)
    assert count(body, Op.FULLY_CONNECTED) == block_size(units) < STEPS_AT_A_TIME
    assert largest_difference(answer(content, case), case.expected()) <= 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_a_row_of_a_batch_does_not_see_the_others(form):
    case = random_case(batch=3, time=6)
    whole = answer(one_cell(float_cell(case), case, form), case)
    for row in range(3):
        alone = replace(case, x=case.x[row : row + 1], h=case.h[row : row + 1], c=case.c[row : row + 1])
        got = answer(one_cell(float_cell(alone), alone, form), alone)
        np.testing.assert_allclose(got.outputs[0], whole.outputs[row], rtol=0, atol=1e-6)
        np.testing.assert_allclose(got.c[0], whole.c[row], rtol=0, atol=1e-6)


def test_an_echo_of_the_first_step_reaches_the_last_through_the_loop():
    """An LSTM that copies what it reads into its cell once, and keeps it: any lost or doubled step shows."""
    units, steps = 1, 11
    kernel = np.zeros((2, 4), np.float32)
    kernel[1] = (20, -20, 0, 0)  # the second feature opens the input gate and closes the forget gate
    kernel[0, 2] = 1
    bias = np.array([-10, 10, 0, 10], np.float32)
    weights = LstmWeights(kernel, np.zeros((units, 4), np.float32), bias)
    for written in range(steps):
        x = np.random.default_rng(written).normal(size=(1, steps, 2)).astype(np.float32)
        x[..., 1] = 0
        x[:, written, 1] = 1
        zeros = np.zeros((1, units), np.float32)
        case = replace(random_case(), x=x, h=zeros, c=zeros, weights=weights)
        got = answer(one_cell(float_cell(case), case, "loop"), case)
        np.testing.assert_allclose(got.c[0, 0], np.tanh(x[0, written, 0]), atol=2e-3)
