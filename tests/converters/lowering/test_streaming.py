"""Where the states of a streaming file stand in it, under which names, and what nothing but the LSTM writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.streaming import KINDS, StreamState, StreamStates, check_streaming
from edgelstm.errors import LoweringError
from tests.converters.tiny import floats, functional, sequential

FEATURES, CHUNK, BATCH = 3, 2, 2
LSTM = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM


def x(name: str = "x") -> Any:
    return keras.Input((None, FEATURES), name=name)


def stack(**second: Any) -> keras.Model:
    return sequential(x(), layers.LSTM(4, return_sequences=True, name="first"), layers.LSTM(5, name="second", **second))


def stream(model: keras.Model, folder: Path, **options: Any) -> Artifact:
    return edgelstm.convert(
        model, folder / "m.tflite", streaming=True, length=CHUNK, batch=BATCH, verify=False, **options
    )


def graph_of(artifact: Artifact) -> Graph:
    return Graph.from_bytes(artifact.path.read_bytes())


def states(artifact: Artifact) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = artifact.card["state"]["states"]
    return found


def names(artifact: Artifact) -> list[str]:
    return [entry["name"] for entry in states(artifact)]


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_states_of_fused_lstms_are_variables_that_only_they_write(precision, tmp_path):
    artifact = stream(stack(), tmp_path, quantize=precision, calibration=floats(8, 12, FEATURES))
    graph = graph_of(artifact)
    by_name = {entry["name"]: entry for entry in states(artifact)}
    assert list(by_name) == [
        "first/hidden_state", "first/cell_state", "second/hidden_state", "second/cell_state"
    ]  # fmt: skip
    found = {}
    for index, tensor in enumerate(graph.subgraph.tensors):
        if tensor.isVariable:
            found[tensor.name.decode()] = index
    assert set(found) == set(by_name)
    for name, index in found.items():
        assert graph.producer(index) is None
        assert [graph.code(reader) for reader in graph.consumers(index)] == [LSTM]
        assert graph.shape(index) == by_name[name]["shape"] == [BATCH, {"first": 4, "second": 5}[name.split("/")[0]]]
        assert by_name[name]["storage"] == "variable"
        assert by_name[name]["input"] is by_name[name]["output"] is None
    # Behind the 18 inputs for x, weights and biases stand the hidden and the cell state.
    for operator in graph.operators:
        if graph.code(operator) == LSTM:
            hidden, cell = (graph.tensor(index).name.decode() for index in operator.inputs[18:20])
            assert (hidden.rpartition("/")[2], cell.rpartition("/")[2]) == ("hidden_state", "cell_state")
    assert [lstm.state for lstm in edgelstm.inspect(artifact.path).lstms] == ["streaming"] * 2


def test_integer_states_have_a_scale_and_zero_point_0(tmp_path):
    artifact = stream(stack(), tmp_path, quantize="int8", calibration=floats(8, 12, FEATURES))
    graph = graph_of(artifact)
    tensors = {tensor.name.decode(): tensor for tensor in graph.subgraph.tensors if tensor.isVariable}
    for entry in states(artifact):
        quantization = tensors[entry["name"]].quantization
        assert float(quantization.scale[0]) == entry["scale"]
        # Runtimes reset variables to bytes of zero.
        assert int(quantization.zeroPoint[0]) == entry["zero_point"] == 0
        assert entry["dtype"] == {"hidden": "int8", "cell": "int16"}[entry["kind"]]


@pytest.mark.parametrize("runtime", ["compiled", "mediapipe"])
@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_states_of_loops_and_steps_are_float_inputs_and_outputs_behind_the_models_own(runtime, precision, tmp_path):
    artifact = stream(stack(), tmp_path, runtime=runtime, quantize=precision, calibration=floats(8, 12, FEATURES))
    expected = ["first_hidden_state", "first_cell_state", "second_hidden_state", "second_cell_state"]
    graph = graph_of(artifact)
    (signature,) = graph.model.signatureDefs
    for side, own, state_names in (
        (signature.inputs, ["x"], expected),
        (signature.outputs, ["second"], [f"next_{name}" for name in expected]),
    ):
        assert [entry.name.decode() for entry in side] == [*own, *state_names]
    assert list(graph.subgraph.inputs) == [entry.tensorIndex for entry in signature.inputs]
    assert list(graph.subgraph.outputs) == [entry.tensorIndex for entry in signature.outputs]
    assert len(set(graph.subgraph.outputs)) == 5
    assert not any(tensor.isVariable for tensor in graph.subgraph.tensors)
    for entry in states(artifact):
        assert (entry["input"], entry["output"]) == (
            entry["name"].replace("/", "_"), f"next_{entry['name'].replace('/', '_')}"
        )  # fmt: skip
        assert (entry["dtype"], entry["scale"], entry["storage"]) == ("float32", None, "input")
        assert entry["shape"] == [BATCH, 4 if entry["layer"] == "first" else 5]


def test_a_layer_that_the_operator_cannot_compute_exchanges_its_states_beside_fused_ones(tmp_path):
    artifact = stream(stack(activation="sigmoid"), tmp_path)
    storages = {entry["name"]: entry["storage"] for entry in states(artifact)}
    assert storages == {
        "first/hidden_state": "variable",
        "first/cell_state": "variable",
        "second/hidden_state": "input",
        "second/cell_state": "input",
    }


def test_names_that_the_model_takes_itself_are_not_taken_again(tmp_path):
    given = x("reader_hidden_state")
    model = functional(given, layers.LSTM(4, name="reader")(given))
    for runtime in ("interpreter", "compiled"):
        artifact = stream(model, tmp_path, runtime=runtime)
        assert names(artifact) == ["reader/hidden_state", "reader/cell_state"]
        assert artifact.card["inputs"][0]["name"] == "reader_hidden_state"
    assert [entry["name"] for entry in artifact.card["inputs"]] == [
        "reader_hidden_state", "reader_hidden_state_2", "reader_cell_state"
    ]  # fmt: skip
    assert [entry["input"] for entry in states(artifact)] == ["reader_hidden_state_2", "reader_cell_state"]


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_each_call_of_a_layer_has_states_of_its_own(runtime, tmp_path):
    left, right = x("left"), x("right")
    reader = layers.LSTM(4, name="reader")
    model = functional([left, right], layers.Subtract()([reader(left), reader(right)]))
    artifact = stream(model, tmp_path, runtime=runtime)
    assert names(artifact) == [
        "reader/hidden_state", "reader/cell_state", "reader_2/hidden_state", "reader_2/cell_state"
    ]  # fmt: skip
    assert {entry["layer"] for entry in states(artifact)} == {"reader"}
    if runtime == "compiled":
        assert states(artifact)[2]["input"] == "reader_2_hidden_state"


def test_layers_inside_others_are_named_by_their_path(tmp_path):
    inner_input = keras.Input((None, FEATURES))
    inner = keras.Model(inner_input, layers.LSTM(4, return_sequences=True, name="reader")(inner_input), name="inner")
    given = x()
    model = functional(given, layers.LSTM(5, name="reader")(inner(given)))
    artifact = stream(model, tmp_path, runtime="compiled")
    assert names(artifact) == [
        "inner/reader/hidden_state", "inner/reader/cell_state", "reader/hidden_state", "reader/cell_state"
    ]  # fmt: skip
    assert [entry["input"] for entry in states(artifact)][:2] == [
        "inner_reader_hidden_state", "inner_reader_cell_state"
    ]  # fmt: skip


def test_the_cells_of_a_layer_have_states_of_their_own(tmp_path):
    model = sequential(x(), layers.RNN([layers.LSTMCell(3), layers.LSTMCell(2)], name="cells"))
    artifact = stream(model, tmp_path)
    assert names(artifact) == ["cells/hidden_state", "cells/cell_state", "cells_2/hidden_state", "cells_2/cell_state"]
    assert [entry["shape"] for entry in states(artifact)] == [[BATCH, 3], [BATCH, 3], [BATCH, 2], [BATCH, 2]]


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_an_output_that_is_a_state_is_an_output_beside_it(runtime, tmp_path):
    given = x()
    model = functional(given, layers.LSTM(4, return_state=True, name="reader")(given)[1:])
    artifact = stream(model, tmp_path, runtime=runtime)
    loaded = edgelstm.load(artifact.path)
    answer = loaded(floats(BATCH, CHUNK, FEATURES))
    assert len(answer) == 2
    for value, state in zip(answer.values(), loaded.states.values(), strict=True):
        np.testing.assert_array_equal(value, state)


def test_a_state_becomes_json_and_back():
    state = StreamState("a/cell_state", "a", "cell", (1, 4), "int16", 2**-12, "variable")
    as_json = state.to_json()
    assert as_json == {
        "name": "a/cell_state", "layer": "a", "kind": "cell", "shape": [1, 4], "dtype": "int16", "scale": 2**-12,
        "zero_point": 0, "storage": "variable", "input": None, "output": None,
    }  # fmt: skip
    given = StreamState("a/cell_state", "a", "cell", (1, 4), "float32", None, "input", "a_cell", "next_a_cell")
    assert given.to_json()["zero_point"] is None


def empty_graph() -> Graph:
    subgraph = schema.SubGraphT()
    subgraph.tensors, subgraph.operators, subgraph.inputs, subgraph.outputs = [], [], [], []
    signature = schema.SignatureDefT()
    signature.inputs, signature.outputs = [], []
    model = schema.ModelT()
    model.version, model.subgraphs, model.signatureDefs = 3, [subgraph], [signature]
    model.buffers, model.operatorCodes = [schema.BufferT()], []
    return Graph(model)


def call(**changes: Any) -> LstmCall:
    return LstmCall(**{"index": 0, "layer": "reader", "units": 4, "activation": "tanh", **changes})


def test_calls_that_start_at_zero_and_run_forwards_are_streamed():
    graph = empty_graph()
    zeros = [graph.add_constant(kind, np.zeros((1, 4), np.float32)) for kind in KINDS]
    check_streaming(graph, call(), zeros)


@pytest.mark.parametrize(
    "changes, initial, message",
    [
        ({"backwards": True}, 0.0, "Layer 'reader' reads its sequence backwards, from a last step"),
        ({"masked": True}, 0.0, "Layer 'reader' skips masked steps, and a stream has none: add --padding none"),
        ({}, 0.5, "Layer 'reader' starts from states that the model computes or is given"),
        ({}, None, "Layer 'reader' starts from states that the model computes or is given"),
    ],
)
def test_other_calls_are_refused(changes, initial, message):
    graph = empty_graph()
    hidden = graph.add_constant("hidden", np.zeros((1, 4), np.float32))
    if initial is None:
        cell = graph.add_tensor("computed", [1, 4], np.float32)
    else:
        cell = graph.add_constant("cell", np.full((1, 4), initial, np.float32))
    with pytest.raises(LoweringError, match=message):
        check_streaming(graph, call(**changes), [hidden, cell])


def test_int16_states_are_given_out_as_floats():
    graph, reader = empty_graph(), call()
    states = StreamStates(graph, [reader])
    for kind in KINDS:
        states.give(reader, kind, 1)
        states.take(reader, kind, graph.add_tensor("", [1, 4], np.int16))
    assert [state.dtype for state in states.expose()] == ["float32"] * 2
    codes = [graph.code(operator) for operator in graph.operators]
    assert codes.count(schema.BuiltinOperator.DEQUANTIZE) == 2
    for index in (*graph.subgraph.inputs, *graph.subgraph.outputs):
        assert graph.tensor(index).type == schema.TensorType.FLOAT32
