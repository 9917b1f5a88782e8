"""int8 files in which some layers compute in float: what is float then, and that nothing else is rounded on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import edgelstm
from edgelstm.converters.graph import DTYPES, Graph
from edgelstm.converters.lowering.weights import GATES
from edgelstm.errors import LoweringError
from tests.converters.tiny import FEATURES, RUNTIMES, TIME, UNITS, Array, floats, functional, run_calls, sequential

NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
VOCABULARY, LENGTH, BATCH = 19, 8, 2
LAYERS = ("embedding", "both/forward_inner", "both/backward_inner", "lstm_1", "dense", "answer")
# Sums in another order; rounding anything to 8 bits gives more than 100 times as much.
EXACT = 1e-5


def stacked() -> keras.Model:
    """Every kind of layer, with answers of about 1 that are linear in the last one."""
    tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
    y = layers.Embedding(VOCABULARY, 6, name="embedding")(tokens)
    y = layers.Bidirectional(layers.LSTM(5, return_sequences=True, name="inner"), name="both")(y)
    y = layers.LSTM(7, name="lstm_1")(y)
    y = layers.Dense(11, activation="tanh", name="dense")(y)
    return functional(tokens, layers.Dense(3, name="answer")(y), seed=5)


def sensitive(layer: str) -> keras.Model:
    """`stacked` with one layer that 8 bits spoil: a hundredfold weight, on a unit that is 0."""
    model = stacked()
    units = {"dense": model.get_layer("lstm_1").cell, "lstm_1": model.get_layer("both").forward_layer.cell}[layer]
    bias = np.asarray(units.bias).copy()
    bias[3 * units.units] = -40.0  # the output gate of unit 0
    for weight in (units.kernel, units.recurrent_kernel):
        value = np.asarray(weight).copy()
        value[:, 3 * units.units] = 0.0
        weight.assign(value)
    units.bias.assign(bias)
    kernel = getattr(model.get_layer(layer), "cell", model.get_layer(layer)).kernel
    value = np.asarray(kernel).copy()
    value[0] = 100.0
    kernel.assign(value)
    return model


def tokens(samples: int = 60) -> Array:
    return np.random.default_rng(0).integers(0, VOCABULARY, (samples, LENGTH)).astype(np.int32)


def convert(model: keras.Model, folder: Path, given: dict[str, str], **options: Any) -> Path:
    options = {"calibration": tokens(), "batch": BATCH, "verify": False, **options}
    return edgelstm.convert(model, folder / "m.tflite", quantize="int8", layers=given, **options).path


def error(model: keras.Model, path: Path, runtime: str = RUNTIMES[0]) -> float:
    """Largest difference from Keras over consecutive calls without a reset."""
    data = tokens(20)
    (answers,) = run_calls(path, {"tokens": data.reshape(-1, BATCH, LENGTH)}, runtime).values()
    return float(np.abs(answers.reshape(len(data), -1) - np.asarray(model(data))).max())


def content(path: Path) -> list[tuple[str, str, list[str]]]:
    """Operators with the type of their first computed input or output, and those of their constants."""
    graph = Graph.from_bytes(path.read_bytes())
    rows = []
    for operator in graph.operators:
        types = {tensor: np.dtype(DTYPES[graph.tensor(tensor).type]).name for tensor in operator.inputs if tensor >= 0}
        constants = [dtype for tensor, dtype in types.items() if graph.constant(tensor) is not None]
        output = np.dtype(DTYPES[graph.tensor(operator.outputs[0]).type]).name
        rows.append((NAMES[graph.code(operator)], output, constants))
    return rows


# Answers


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_with_every_layer_in_float32_nothing_is_rounded(runtime, tmp_path):
    model = stacked()
    path = convert(model, tmp_path, dict.fromkeys(LAYERS, "float32"))
    assert error(model, path, runtime) <= EXACT
    assert {dtype for _, dtype, _ in content(path)} <= {"float32", "int32", "bool", "int64"}


def test_without_float_layers_the_same_model_is_rounded_by_far_more(tmp_path):
    model = stacked()
    assert error(model, convert(model, tmp_path, {})) > 100 * EXACT


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("layer", ["lstm_1", "dense"])
def test_a_sensitive_layer_in_float_makes_the_file_as_good_as_without_it(layer, runtime, tmp_path):
    model = sensitive(layer)
    spoilt = error(model, convert(model, tmp_path, {}), runtime)
    for precision in ("float32", "float16"):
        assert error(model, convert(model, tmp_path, {layer: precision}), runtime) < spoilt / 5


@pytest.mark.parametrize("precision, allowed", [("float16", 5e-3), ("dynamic", 0.1)])
def test_other_float_precisions_reach_every_layer(precision, allowed, tmp_path):
    model = stacked()
    path = convert(model, tmp_path, dict.fromkeys(LAYERS, precision))
    assert [lstm.precision for lstm in edgelstm.inspect(path).lstms] == [precision] * 3
    for runtime in RUNTIMES:
        assert EXACT < error(model, path, runtime) <= allowed


# What is float


@pytest.mark.parametrize("layer", LAYERS)
def test_one_float_layer_leaves_the_others_in_int8(layer, tmp_path):
    path = convert(stacked(), tmp_path, {layer: "float32"})
    lstms = [row for row in content(path) if row[0] == "UNIDIRECTIONAL_SEQUENCE_LSTM"]
    dense = [row for row in content(path) if row[0] == "FULLY_CONNECTED"]
    (table,) = [row for row in content(path) if row[0] == "GATHER" and "int32" not in row[2] and row[2]][:1]
    found = {
        "embedding": table[1],
        **dict(zip(("dense", "answer"), (row[1] for row in dense), strict=True)),
        "lstms": sorted(row[1] for row in lstms),
    }
    assert found == {
        "embedding": "float32" if layer == "embedding" else "int8",
        "dense": "float32" if layer == "dense" else "int8",
        "answer": "float32" if layer == "answer" else "int8",
        "lstms": sorted(["float32" if name == layer else "int8" for name in LAYERS[1:4]]),
    }
    activation = next(row for row in content(path) if row[0] == "TANH")
    assert activation[1] == ("float32" if layer == "dense" else "int8")


def test_nothing_is_quantized_between_float_layers(tmp_path):
    path = convert(stacked(), tmp_path, {"embedding": "float32", "both": "float32", "lstm_1": "float32"})
    rows = content(path)
    assert [dtype for name, dtype, _ in rows if name in ("REVERSE_V2", "CONCATENATION")] == ["float32"] * 3
    assert sum(name == "QUANTIZE" for name, _, _ in rows) == 1  # in front of the first int8 layer
    assert sum(name == "DEQUANTIZE" for name, _, _ in rows) == 1  # the answer


def test_float_weights_are_those_of_keras(tmp_path):
    model = stacked()
    graph = Graph.from_bytes(convert(model, tmp_path, {"lstm_1": "float32", "dense": "float32"}).read_bytes())
    constants = {
        graph.tensor(index).name.decode(): graph.constant(index) for index in range(len(graph.subgraph.tensors))
    }
    blocks = np.split(np.asarray(model.get_layer("lstm_1").cell.kernel), 4, axis=1)
    for gate, block in zip(GATES, blocks, strict=True):
        np.testing.assert_array_equal(constants[f"lstm_1/{gate}_gate/kernel"], block.T)
    kernel = np.asarray(model.get_layer("dense").kernel).T
    assert any(
        value is not None and value.shape == kernel.shape and (value == kernel).all() for value in constants.values()
    )


# LSTMs that integers cannot compute


def masked_with_states() -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.Dense(4, name="before")(layers.Masking()(x))
    _, h, c = layers.LSTM(UNITS, return_state=True, name="odd")(y)
    return functional(x, layers.Dense(2, name="answer")(layers.Concatenate()([h, c])), seed=3)


def odd(**arguments: Any) -> keras.Model:
    return sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.LSTM(UNITS, return_sequences=True, name="even"),
        layers.LSTM(UNITS, name="odd", **arguments),
        layers.Dense(2, name="answer"),
        seed=3,
    )


ODD = {
    "relu": lambda: odd(activation="relu"),
    "loop": lambda: odd(recurrent_activation="hard_sigmoid"),
    "masked states": masked_with_states,
}


@pytest.mark.parametrize("name", ODD)
def test_an_lstm_that_cannot_be_int8_may_be_float_in_an_int8_file(name, tmp_path):
    model, data = ODD[name](), floats(40, TIME, FEATURES)
    data[:, 2:4] *= np.arange(40)[:, np.newaxis, np.newaxis] % 2  # two steps masked in every other sample
    with pytest.raises(LoweringError, match=r"'odd'.* cannot be int8|'odd' returns its final states"):
        convert(model, tmp_path, {}, calibration=data)
    path = convert(model, tmp_path, {"odd": "float32"}, calibration=data)
    wanted = np.asarray(model(data[:20]))
    for runtime in RUNTIMES:
        (answers,) = run_calls(path, {"x": data[:20].reshape(-1, BATCH, TIME, FEATURES)}, runtime).values()
        assert np.abs(answers.reshape(wanted.shape) - wanted).max() <= 8 * np.ptp(wanted) / 255


# Other runtimes, streams, integer inputs and outputs


@pytest.mark.parametrize("runtime", ["compiled", "mediapipe", "micro"])
def test_other_forms_of_float_lstms_stand_beside_int8_ones(runtime, tmp_path):
    model, data = odd(), floats(40, TIME, FEATURES)
    calls = data[:20].reshape(-1, BATCH, TIME, FEATURES)
    wanted, errors = np.asarray(model(data[:20])), {}
    for name, given in {"all": ("even", "odd", "answer"), "first": ("even",), "second": ("odd",)}.items():
        layers_of = dict.fromkeys(given, "float32")
        path = convert(model, tmp_path, layers_of, calibration=data, runtime=runtime, verify=True)
        (answers,) = run_calls(path, {"x": calls}).values()
        errors[name] = np.abs(answers.reshape(wanted.shape) - wanted).max()
    assert errors["all"] <= EXACT
    assert max(errors.values()) <= 8 * np.ptp(wanted) / 255


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_a_stream_goes_on_in_float(runtime, tmp_path):
    model, data = odd(), floats(20, TIME, FEATURES)
    given = dict.fromkeys(("even", "odd", "answer"), "float32")
    artifact = edgelstm.convert(
        model, tmp_path / "m.tflite", quantize="int8", layers=given, calibration=data, streaming=True, runtime=runtime
    )
    assert {state["dtype"] for state in artifact.card["state"]["states"]} == {"float32"}
    (parity, *_) = artifact.card["parity"]
    assert parity["max_abs_difference"] <= EXACT
    mixed = edgelstm.convert(
        model, tmp_path / "m.tflite", quantize="int8", layers={"odd": "float32"}, calibration=data, streaming=True
    )
    dtypes = {state["layer"]: state["dtype"] for state in mixed.card["state"]["states"] if state["kind"] == "hidden"}
    assert dtypes == {"even": "int8", "odd": "float32"}


def test_a_loop_is_no_stream_in_an_int8_file(tmp_path):
    with pytest.raises(LoweringError, match="'odd' cannot be streamed in an int8 file: recurrent_activation"):
        convert(ODD["loop"](), tmp_path, {"odd": "float32"}, calibration=floats(9, TIME, FEATURES), streaming=True)


def test_int8_inputs_and_outputs_of_float_layers_are_rounded_once(tmp_path):
    model, data = odd(), floats(40, TIME, FEATURES)
    path = convert(model, tmp_path, dict.fromkeys(("even", "odd", "answer"), "float32"), calibration=data, io="int8")
    inspection = edgelstm.inspect(path)
    assert [entry.dtype for entry in (*inspection.inputs, *inspection.outputs)] == ["int8", "int8"]
    given, result = inspection.inputs[0], inspection.outputs[0]
    stored = np.clip(np.round(data[:20] / given.scale) + given.zero_point, -128, 127).astype(np.int8)
    real = (stored.astype(np.float32) - given.zero_point) * np.float32(given.scale)
    (answers,) = run_calls(path, {"x": stored.reshape(-1, BATCH, TIME, FEATURES)}).values()
    wanted = np.asarray(model(real))
    inside = np.abs(wanted) < np.abs(np.asarray(model(data))).max(axis=0)  # beyond the calibrated range int8 ends
    assert inside.mean() > 0.9
    assert np.abs(answers.reshape(wanted.shape) - wanted)[inside].max() <= 0.51 * result.scale + EXACT


# The card


def test_the_card_tells_the_layers_and_warns_of_nothing_that_was_asked_for(tmp_path):
    given = {"both": "float32", "dense": "float16"}
    model, data = stacked(), tokens()
    for precision in ("int8", "dynamic"):
        artifact = edgelstm.convert(
            model, tmp_path / "m.tflite", quantize=precision, layers=given, calibration=data, batch=BATCH
        )
        card = artifact.card
        assert (card["precision"], card["layers"]) == (precision, given)
        assert [lstm["precision"] for lstm in card["lstms"]] == ["float32", "float32", precision]
        assert not [warning for warning in card["warnings"] if "float32 although" in warning]
        assert [lstm.precision for lstm in edgelstm.inspect(artifact.path).lstms] == ["float32", "float32", precision]


def test_a_layer_that_is_coarser_than_its_file_is_verified_by_its_own_tolerance(tmp_path):
    artifact = edgelstm.convert(stacked(), tmp_path / "m.tflite", layers={"lstm_1": "dynamic"}, batch=BATCH)
    assert artifact.card["precision"] == "float32"
    assert all(parity["passed"] and parity["max_abs_difference"] > EXACT for parity in artifact.card["parity"])
