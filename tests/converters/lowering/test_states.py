"""Files write the states of their LSTMs at every call: what one call left behind never reaches the next."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import edgelstm
from edgelstm.converters.graph import Graph
from tests.converters.tiny import FEATURES, RUNTIMES, TIME, UNITS, Array, Constant, floats, functional, run_calls

Op = schema.BuiltinOperator
CELL_STATE = 19
# float32 sums of ten products in another order than TensorFlow's, over six steps.
TOLERANCE = 1e-5
# Of int8 files on outputs of about 1: 8-bit weights and hidden states over six steps.
INT8_TOLERANCE = 0.05

every_runtime = pytest.mark.parametrize("runtime", RUNTIMES)


def zero(x: keras.KerasTensor, batch: int) -> list[keras.KerasTensor] | None:
    return None


def equal_rows(x: keras.KerasTensor, batch: int) -> list[keras.KerasTensor]:
    rows = floats(2, 1, UNITS, seed=1)
    return [Constant(np.repeat(row, batch, axis=0))(x) for row in rows]


def rows_that_differ(x: keras.KerasTensor, batch: int) -> list[keras.KerasTensor]:
    return [Constant(rows)(x) for rows in floats(2, batch, UNITS, seed=2)]


def given(x: keras.KerasTensor, batch: int) -> list[keras.KerasTensor]:
    return [keras.Input((UNITS,), batch_size=batch, name=name) for name in ("h", "c")]


STATES = {function.__name__: function for function in (zero, equal_rows, rows_that_differ, given)}
CASES = [("zero", 1), ("zero", 3), ("equal_rows", 3), ("rows_that_differ", 3), ("given", 1), ("given", 3)]


class Converted(NamedTuple):
    """A Keras model and its file, and the file's input names in the model's order."""

    model: keras.Model
    path: Path
    names: list[str]

    def expected(self, calls: dict[str, Array]) -> Array:
        count = len(calls["x"])
        return np.stack([ask(self.model, [calls[name][call] for name in self.names]) for call in range(count)])

    def answers(self, calls: dict[str, Array], runtime: str) -> Array:
        return run_calls(self.path, calls, runtime)["output"]


def ask(model: keras.Model, arrays: list[Array]) -> Array:
    return np.asarray(model(arrays if len(arrays) > 1 else arrays[0]))


@functools.cache
def lstm_with(state: str, batch: int) -> keras.Model:
    x = keras.Input((TIME, FEATURES), batch_size=batch, name="x")
    initial = STATES[state](x, batch)
    y, h, c = layers.LSTM(UNITS, return_state=True)(x, initial_state=initial)
    inputs = [x, *initial] if state == "given" else x
    return functional(inputs, layers.Concatenate()([y, h, c]))


def calls_for(names: list[str], batch: int, calls: int, seed: int = 5) -> dict[str, Array]:
    shapes = {"x": (TIME, FEATURES), "h": (UNITS,), "c": (UNITS,)}
    return {name: floats(calls, batch, *shapes[name], seed=seed + k) for k, name in enumerate(names)}


@pytest.fixture(scope="module")
def convert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("states")

    @functools.cache
    def convert(state: str, batch: int, precision: str = "float32") -> Converted:
        model = lstm_with(state, batch)
        names = ["x", "h", "c"] if state == "given" else ["x"]
        data = {name: array.reshape(-1, *array.shape[2:]) for name, array in calls_for(names, batch, 20, 9).items()}
        path = folder / f"{state}-{batch}-{precision}.tflite"
        calibration = data if precision == "int8" else None
        edgelstm.convert(model, path, quantize=precision, calibration=calibration, verify=False)
        return Converted(model, path, names)

    return convert


def repeated(calls: dict[str, Array]) -> dict[str, Array]:
    """The first call three times, another one, and the first again."""
    return {name: array[[0, 0, 0, 1, 0]] for name, array in calls.items()}


@pytest.mark.parametrize("state, batch", CASES)
@every_runtime
def test_consecutive_calls_answer_the_same_and_as_keras(convert, state, batch, runtime):
    converted = convert(state, batch)
    calls = repeated(calls_for(converted.names, batch, 2))
    answers = converted.answers(calls, runtime)
    for call in (1, 2, 4):
        np.testing.assert_array_equal(answers[call], answers[0])
    np.testing.assert_allclose(answers, converted.expected(calls), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("state, batch", [("zero", 3), ("rows_that_differ", 3), ("given", 1)])
@every_runtime
def test_int8_calls_answer_the_same_and_nearly_as_keras(convert, state, batch, runtime):
    converted = convert(state, batch, "int8")
    calls = repeated(calls_for(converted.names, batch, 2))
    answers = converted.answers(calls, runtime)
    for call in (1, 2, 4):
        np.testing.assert_array_equal(answers[call], answers[0])
    assert np.abs(answers - converted.expected(calls)).max() <= INT8_TOLERANCE * np.ptp(answers)


@pytest.mark.parametrize("state", ["equal_rows", "rows_that_differ", "given"])
def test_these_answers_would_show_a_lost_state(state):
    batch = 3
    names = ["x", "h", "c"] if state == "given" else ["x"]
    calls = calls_for(names, batch, 1)
    answers = ask(lstm_with(state, batch), [calls[name][0] for name in names])
    assert np.abs(answers - ask(lstm_with("zero", batch), [calls["x"][0]])).max() > 100 * TOLERANCE


def test_rows_that_differ_would_show_exchanged_rows():
    answers = ask(lstm_with("rows_that_differ", 3), [np.repeat(floats(1, TIME, FEATURES), 3, axis=0)])
    assert min(np.abs(answers[a] - answers[b]).max() for a, b in ((0, 1), (1, 2), (0, 2))) > 100 * TOLERANCE


@pytest.mark.parametrize("state, batch", [("zero", 1), ("equal_rows", 3), ("rows_that_differ", 3), ("given", 3)])
@every_runtime
def test_a_call_that_is_not_finite_leaves_the_next_one_alone(convert, state, batch, runtime):
    converted = convert(state, batch)
    calls = {name: array[[0, 0, 0, 0]] for name, array in calls_for(converted.names, batch, 1).items()}
    for array in calls.values():
        array[1], array[2] = np.nan, np.inf
    answers = converted.answers(calls, runtime)
    assert np.isnan(answers[1]).all()
    np.testing.assert_array_equal(answers[3], answers[0])


def test_nan_in_an_int8_file_leaves_the_next_call_alone(convert):
    converted = convert("zero", 3, "int8")
    calls = {"x": calls_for(converted.names, 3, 1)["x"][[0, 0, 0]]}
    calls["x"][1] = np.nan
    answers = converted.answers(calls, RUNTIMES[0])
    np.testing.assert_array_equal(answers[2], answers[0])


@pytest.mark.parametrize("precision", ["float16", "dynamic"])
def test_large_constant_states_survive_the_quantization_of_constants(precision, tmp_path):
    batch, units = 4, 256  # 1,024 elements: from here on the converter also quantizes constants that are no weights
    x = keras.Input((TIME, FEATURES), batch_size=batch, name="x")
    h, c = floats(2, batch, units, seed=3)
    y = layers.LSTM(units)(x, initial_state=[Constant(h)(x), Constant(c)(x)])
    model = keras.Model(x, y)
    artifact = edgelstm.convert(model, tmp_path / "large.tflite", quantize=precision, verify=False)
    assert {lstm.state for lstm in edgelstm.inspect(artifact.path).lstms} == {"self-resetting"}
    calls = {"x": floats(1, batch, TIME, FEATURES)}
    answers = run_calls(artifact.path, {"x": calls["x"][[0, 0]]})["output"]
    np.testing.assert_array_equal(answers[0], answers[1])
    # One 8-bit step of the weights and of a state of about 3 is 0.02; float16 is finer.
    np.testing.assert_allclose(answers[0], model(calls["x"][0]), rtol=0, atol=0.05)


# How the states are written


def operators(path: Path, code: int) -> tuple[Graph, list]:
    graph = Graph.from_bytes(path.read_bytes())
    return graph, [operator for operator in graph.operators if graph.code(operator) == code]


def ancestors(graph: Graph, tensor: int) -> set[int]:
    """Indices of all tensors that a tensor is computed from, itself included."""
    found, pending = set(), [tensor]
    while pending:
        current = pending.pop()
        if current not in found:
            found.add(current)
            producer = graph.producer(current)
            pending += producer.inputs if producer is not None else []
    return found


def test_lstms_share_the_operators_that_compute_indices(tmp_path):
    x = keras.Input((TIME, FEATURES), name="x")
    y = x
    for _ in range(3):
        y = layers.LSTM(UNITS, return_sequences=True)(y)
    path = edgelstm.convert(functional(x, y), tmp_path / "stack.tflite", verify=False).path
    assert len(operators(path, Op.UNIDIRECTIONAL_SEQUENCE_LSTM)[1]) == 3
    assert len(operators(path, Op.ARG_MAX)[1]) == 1
    assert len(operators(path, Op.GATHER)[1]) == 6


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_final_cell_state_is_read_by_way_of_the_output(convert, precision):
    graph, gathers = operators(convert("rows_that_differ", 3, precision).path, Op.GATHER)
    lstm = next(each for each in graph.operators if graph.code(each) == Op.UNIDIRECTIONAL_SEQUENCE_LSTM)
    readers = [each for each in gathers if each.inputs[0] == lstm.inputs[CELL_STATE]]
    assert len(readers) == 1
    assert lstm.outputs[0] in ancestors(graph, readers[0].inputs[1])


@pytest.mark.parametrize("state, batch", CASES)
def test_every_state_has_a_tensor_and_a_writer_of_its_own(convert, state, batch):
    graph, gathers = operators(convert(state, batch).path, Op.GATHER)
    variables = [k for k, tensor in enumerate(graph.subgraph.tensors) if tensor.isVariable]
    assert len(variables) == 2
    assert [graph.shape(variable) for variable in variables] == [[batch, UNITS]] * 2
    assert sorted(each.outputs[0] for each in gathers if each.outputs[0] in variables) == variables
