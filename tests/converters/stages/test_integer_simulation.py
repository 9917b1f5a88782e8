"""The exact simulation of integer LSTMs, against TensorFlow Lite's own kernel."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from numpy.typing import NDArray

import edgelstm
from edgelstm.converters.graph import ABSENT, Graph, quantization
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.fused import add_lstm
from edgelstm.converters.lowering.integer import asymmetric
from edgelstm.converters.lowering.weights import GATES, quantize_symmetric
from edgelstm.converters.stages.integer.fixed_point import (
    multiply,
    quantize_multiplier,
    rounding_shift,
    sigmoid_table,
    tanh_table,
)
from edgelstm.converters.stages.integer.kernel import IntegerLstm, Quantized, read_lstms
from edgelstm.converters.stages.integer.lstm import LstmSimulation
from edgelstm.converters.stages.integer.ranges import Range
from tests.converters.tiny import functional
from tests.one_operator import Op, Tensor, one_operator

Array = NDArray[Any]

# Fixed point


def test_halves_are_rounded_away_from_zero():
    np.testing.assert_array_equal(rounding_shift(np.array([-6, -5, -3, -2, -1, 0, 1, 2, 3, 5, 6]), 2), [
        -2, -1, -1, -1, 0, 0, 0, 1, 1, 1, 2,
    ])  # fmt: skip


@pytest.mark.parametrize("scale", [0.5, 1.0, 0.3, 3.7, 1e-6, 0.9999999999])
def test_a_factor_and_its_integers_are_the_same(scale):
    multiplier, shift = quantize_multiplier(scale)
    assert 2**30 <= multiplier < 2**31
    assert multiplier * 2.0 ** (shift - 31) == pytest.approx(scale, rel=2**-30)
    values = np.array([-100_000, -7, 0, 3, 99_999])
    np.testing.assert_allclose(multiply(values, (multiplier, shift)), values * scale, rtol=0, atol=0.51 + 1e-6)


def test_tables_are_the_functions_up_to_the_error_of_16_bits():
    x = np.arange(-(2**15), 2**15)
    np.testing.assert_allclose(sigmoid_table() / 2**15, 1 / (1 + np.exp(-x / 2**12)), rtol=0, atol=8 / 2**15)
    for bits in range(7):
        np.testing.assert_allclose(tanh_table(bits) / 2**15, np.tanh(x / 2 ** (15 - bits)), rtol=0, atol=13 / 2**15)


# The kernel


def lstm_file(lstm: IntegerLstm, batch: int, time: int, hidden: Array | None, cell: Array | None) -> bytes:
    """A file of nothing but an integer LSTM whose states start as given, by QUANTIZE-free copies of constants."""
    features, units = lstm.kernels[0][0].shape[1], lstm.units
    content = one_operator(Op.RESHAPE, [Tensor("x", "int8", (batch, time, features), scale=lstm.x.scale)], [])
    graph = Graph.from_bytes(content)
    graph.remove(list(graph.operators))
    x = graph.subgraph.inputs[0]
    graph.tensor(x).quantization = quantization(lstm.x.scale, lstm.x.zero_point)
    of_hidden = quantization(lstm.hidden.scale, lstm.hidden.zero_point)
    kernels, recurrent, biases = [], [], []
    for position, gate in enumerate(GATES):
        (kernel, scale), (recurrent_kernel, recurrent_scale) = lstm.kernels[position], lstm.recurrent_kernels[position]
        kernels.append(graph.add_constant(f"{gate}/k", kernel, quantization=quantization(scale)))
        recurrent.append(graph.add_constant(f"{gate}/r", recurrent_kernel, quantization=quantization(recurrent_scale)))
        of_bias = quantization(scale * lstm.x.scale)
        biases.append(graph.add_constant(f"{gate}/b", lstm.biases[position], quantization=of_bias))
    hidden_state = graph.add_tensor("h", (batch, units), np.int8, quantization=of_hidden, variable=True)
    of_cell = quantization(2.0 ** (lstm.cell_exponent - 15))
    cell_state = graph.add_tensor("c", (batch, units), np.int16, quantization=of_cell, variable=True)
    output = graph.add_tensor("y", (batch, time, units), np.int8, quantization=of_hidden)
    graph.subgraph.outputs = [output]
    intermediates = [graph.add_tensor(f"{gate}/i", [0], np.float32) for gate in GATES]
    intermediates.append(graph.add_tensor("hidden/i", [0], np.int8, quantization=of_hidden))
    inputs = [x, *kernels, *recurrent, *[ABSENT] * 3, *biases, *[ABSENT] * 2, hidden_state, cell_state]
    add_lstm(graph, LstmCall(0, "m", units, "tanh"), inputs, [output], version=1, intermediates=intermediates)
    graph.model.signatureDefs = []
    return graph.to_bytes()


def run_file(content: bytes, x: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    """Outputs and last cell state of the stock kernel from given states."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    tensors = {each["name"]: each["index"] for each in interpreter.get_tensor_details()}
    for name, value in (("x", x), ("h", hidden), ("c", cell)):
        interpreter.set_tensor(tensors[name], value)
    interpreter.invoke()
    return interpreter.get_tensor(tensors["y"]), interpreter.get_tensor(tensors["c"])


def random_lstm(rng: np.random.Generator, units: int, features: int, exponent: int, spread: float) -> IntegerLstm:
    """Weights and biases that differ from gate to gate, scales like those of calibrated models."""
    x = Quantized(*asymmetric((-float(rng.uniform(0, 4)), float(rng.uniform(0.1, 4)))))
    hidden = Quantized(*asymmetric((-float(rng.uniform(0.2, 1)), float(rng.uniform(0.2, 1)))))
    kernels, recurrent, biases = [], [], []
    for gate in range(4):
        kernels.append(quantize_symmetric(rng.normal(0, spread, (units, features)).astype(np.float32)))
        recurrent.append(quantize_symmetric(rng.normal(0, spread / 2, (units, units)).astype(np.float32)))
        bias = rng.normal((0, 1 + exponent, 0.5, -0.5)[gate], 0.5, units) / (x.scale * kernels[-1][1])
        biases.append(np.round(bias).astype(np.int32))
    kernels, recurrent = ([(w, float(np.float32(s))) for w, s in part] for part in (kernels, recurrent))
    return IntegerLstm("m", kernels, recurrent, biases, x, hidden, exponent)


CASES = [
    # units, features, time, batch, integer bits of the cell, spread of the weights
    (4, 1, 100, 1, 0, 0.3),
    (5, 3, 1, 3, 0, 0.5),
    (6, 7, 60, 3, 1, 0.5),
    (16, 40, 20, 3, 2, 0.3),
    (17, 9, 100, 1, 3, 0.5),
    (31, 2, 40, 3, 4, 1.0),
    (33, 12, 100, 3, 5, 0.2),
    (64, 40, 50, 1, 6, 0.2),
    (64, 16, 100, 3, 0, 0.1),
    (8, 8, 100, 3, 6, 2.0),
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("units, features, time, batch, exponent, spread", CASES)
def test_the_simulation_is_the_stock_kernel_bit_by_bit(units, features, time, batch, exponent, spread, seed):
    rng = np.random.default_rng([seed, units, features])
    lstm = random_lstm(rng, units, features, exponent, spread)
    x = rng.integers(-128, 128, (batch, time, features)).astype(np.int8)
    hidden = rng.integers(-128, 128, (batch, units)).astype(np.int8)
    cell = rng.integers(-(2**15), 2**15, (batch, units)).astype(np.int16)
    expected, expected_cell = run_file(lstm_file(lstm, batch, time, hidden, cell), x, hidden, cell)
    outputs, last_cell = lstm.run(x, hidden, cell)
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(last_cell, expected_cell)
    assert len(np.unique(expected)) > 10


@pytest.mark.parametrize("seed", [0])
@pytest.mark.parametrize("units, features, time, batch, exponent, spread", CASES)
def test_the_trainable_simulation_is_the_exact_one_bit_by_bit(units, features, time, batch, exponent, spread, seed):
    rng = np.random.default_rng([seed, units, features])
    layer = layers.LSTM(units, return_sequences=True, return_state=True)
    layer.build((None, time, features))
    weights = [rng.normal(0, spread, weight.shape).astype(np.float32) for weight in layer.get_weights()]
    weights[2] += np.repeat(np.array([0, 1 + exponent, 0.5, -0.5], np.float32), units)
    layer.set_weights(weights)
    x_range = Range(features)
    simulation = LstmSimulation(layer, x_range)
    simulation.cell_peak = 2.0**exponent
    simulation.output.observe(np.array([-rng.uniform(0.2, 1), rng.uniform(0.2, 1)], np.float32))
    x_range.observe(np.array([-rng.uniform(0, 4), rng.uniform(0.1, 4)], np.float32))
    for number, each in enumerate((x_range, simulation.output)):
        each.start(layer, f"range_{number}", learn=True)
    exact = exact_lstm(weights, x_range.limits(), simulation.output.limits(), exponent)
    x = rng.normal(0, 2, (batch, time, features)).astype(np.float32)
    hidden, cell = rng.uniform(-1, 1, (batch, units)), rng.uniform(-1, 1, (batch, units)) * 2**exponent
    outputs, _, last_cell = layer(x, initial_state=[hidden.astype(np.float32), cell.astype(np.float32)])
    stored_cell = np.clip(np.round(cell.astype(np.float32) * 2.0 ** (15 - exponent)), -(2**15), 2**15 - 1)
    expected, expected_cell = exact.run(exact.x.store(x), exact.hidden.store(hidden), stored_cell.astype(np.int16))
    np.testing.assert_allclose(outputs, exact.hidden.real(expected), rtol=0, atol=1e-3 * exact.hidden.scale)
    np.testing.assert_array_equal(np.asarray(last_cell) * 2.0 ** (15 - exponent), expected_cell)


def exact_lstm(weights: list[Array], x: tuple[float, float], hidden: tuple[float, float], exponent: int) -> IntegerLstm:
    """The integers of Keras' weights, as the exporter stores them."""
    of_x, of_hidden = Quantized(*asymmetric(x)), Quantized(*asymmetric(hidden))
    kernels, recurrent = (
        [quantize_symmetric(np.ascontiguousarray(block.T)) for block in np.split(weight, 4, axis=1)]
        for weight in weights[:2]
    )
    biases = [
        np.round(bias / (of_x.scale * scale)).astype(np.int32)
        for bias, (_, scale) in zip(np.split(weights[2], 4), kernels, strict=True)
    ]
    kernels, recurrent = ([(w, float(np.float32(s))) for w, s in part] for part in (kernels, recurrent))
    return IntegerLstm("m", kernels, recurrent, biases, of_x, of_hidden, exponent)


def bidirectional() -> keras.Model:
    x = keras.Input((12, 5), name="x")
    return functional(x, layers.Bidirectional(layers.LSTM(8, return_sequences=True), merge_mode=None)(x), seed=4)


def test_the_lstms_of_an_exported_file_are_read_and_simulated_bit_by_bit(tmp_path):
    model = bidirectional()
    rng = np.random.default_rng(5)
    calibration = rng.normal(size=(40, 12, 5)).astype(np.float32)
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", quantize="int8", calibration=calibration, batch=3)
    forward, backward = read_lstms(Graph.from_bytes(artifact.path.read_bytes()))
    x = 1.5 * rng.normal(size=(3, 12, 5)).astype(np.float32)  # some beyond the calibrated range
    interpreter = Interpreter(model_path=str(artifact.path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]
    lstms = {"forward": forward, "backward": backward}
    lstms = {way: next(each for each in lstms.values() if way in each.name) for way in lstms}
    expected = lstms["forward"].hidden.real(lstms["forward"].run(lstms["forward"].x.store(x))[0])
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-6)
    reversed_x = lstms["backward"].x.store(x[:, ::-1])
    expected = lstms["backward"].hidden.real(lstms["backward"].run(reversed_x)[0])[:, ::-1]
    np.testing.assert_allclose(found[1], expected, rtol=0, atol=1e-6)


# Ranges


def started_range(low: float, high: float) -> tuple[Range, Any]:
    layer = layers.Dense(1)
    layer.build((None, 1))
    made = Range(features=1)
    made.observe(np.array([low, high]))
    made.start(layer, "range", learn=True)
    return made, next(weight for weight in layer.trainable_weights if weight.name == "range")


def test_gradients_of_a_range_are_those_of_lsq():
    made, weight = started_range(-2.0, 3.0)
    x = tf.constant([-9.0, -0.33, 0.0, 1.27, 7.0, 8.0])
    direction = np.array([0.5, 2.0, 3.0, -1.0, 0.25, 1.0], np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(made.quantized(x) * direction)
    on_x, on_weight = tape.gradient(value, [x, weight.value])
    np.testing.assert_allclose(on_x, direction * [0, 1, 1, 1, 0, 0], rtol=1e-6)
    scale, zero_point = asymmetric((-2.0, 3.0))
    inside = x.numpy()[1:4] / scale
    rounding = np.sum((np.round(inside) - inside) * direction[1:4]) / 255  # d scale / d high = 1/255 = -d scale / d low
    by_low, by_high = direction[0] - rounding, direction[4] + direction[5] + rounding
    expected = np.array([-2.0 * by_low, 3.0 * by_high]) / np.sqrt(127)
    np.testing.assert_allclose(on_weight, expected, rtol=1e-3)
    ends = made.quantized(tf.constant([-9.0, 9.0])).numpy()
    np.testing.assert_allclose(ends, scale * (np.array([-128, 127]) - zero_point), rtol=1e-6)


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (0.0, 3.0), (-2.0, 0.0), (-0.3, 4.0), (-60.0, 1.0), (-0.7, 0.93)])
def test_a_range_has_the_scale_that_the_exporter_chooses(low, high):
    made, weight = started_range(low, high)
    for factors in ((0.0, 0.0), (-0.3, 0.1), (0.05, -0.7)):
        weight.assign(factors)
        scale, zero_point = made.parameters()
        assert (float(scale), int(zero_point)) == asymmetric(made.limits())
    assert (made.limits()[0] == 0) == (low == 0)


def test_a_tensor_that_is_always_zero_gets_a_range_as_the_exporter_gives_it():
    made, _ = started_range(0.0, 0.0)
    assert made.limits() == (0.0, 1.0)
