"""Full integer LSTMs: scales, refusals, and the models that stock quantization gets wrong."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.integer import Ranges, asymmetric, cell_exponent, check_integer
from edgelstm.errors import CalibrationError, LoweringError
from tests.converters.tiny import FEATURES, TIME, UNITS, Array, floats, functional, run_calls, sequential

# Formulas


@pytest.mark.parametrize(
    "peak, exponent",
    [
        (0.0, 0),
        (1e-6, 0),
        (0.99, 0),
        (1.0, 0),
        (1.01, 1),
        (2.0, 1),
        (10.0, 4),
        (16.0, 4),
        (16.01, 5),
        (64.0, 6),
        (1000.0, 6),
    ],
)
def test_the_cell_state_gets_the_fewest_bits_that_hold_it_within_the_kernels_limits(peak, exponent):
    assert cell_exponent(peak) == exponent


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (0.0, 3.0), (-2.0, 0.0), (-0.3, 4.0), (-1e-5, 1e-5), (-60.0, 1.0)])
def test_asymmetric_covers_the_range_and_holds_zero_exactly(low, high):
    scale, zero_point = asymmetric((low, high))
    assert -128 <= zero_point <= 127
    assert scale == np.float32(scale)
    ends = scale * (np.array([-128, 127]) - zero_point)
    np.testing.assert_allclose(ends, [low, high], rtol=0, atol=0.51 * scale)


def test_ranges_always_cover_zero_and_ignore_tensors_never_seen():
    ranges = Ranges(np.array([1.0, np.nan, -2.0]), np.array([3.0, np.nan, -1.0]), {})
    assert ranges.of(0) == (0.0, 3.0)
    assert ranges.of(2) == (-2.0, 0.0)
    assert ranges.of(0, 1, 2) == (-2.0, 3.0)


def test_ranges_are_never_empty():
    low, high = Ranges(np.zeros(1), np.zeros(1), {}).of(0)
    assert low == 0
    assert high > low
    low, high = Ranges(np.array([np.nan]), np.array([np.nan]), {}).of(0)
    assert high > low


# Refusals


def test_other_activations_than_tanh_are_refused():
    with pytest.raises(LoweringError, match=r"Layer 'm/lstm': activation 'relu' cannot be int8.*--quantize dynamic"):
        check_integer([LstmCall(0, "m/lstm", UNITS, "relu")])


def test_masked_final_states_are_refused():
    call = LstmCall(0, "m/lstm", UNITS, "tanh", freeze_weight=0.5)
    with pytest.raises(LoweringError, match=r"Layer 'm/lstm' returns its final states behind a mask.*--padding none"):
        check_integer([call])


def test_a_call_that_the_kernel_computes_rightly_is_not_refused():
    check_integer([LstmCall(0, "m/lstm", UNITS, "tanh")])


def masked_with_states() -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    _, h, c = layers.LSTM(UNITS, return_state=True)(layers.Masking()(x))
    return functional(x, layers.Concatenate()([h, c]))


REFUSED = {
    "relu": (lambda: sequential(layers.Input((TIME, FEATURES)), layers.LSTM(UNITS, activation="relu")), "relu"),
    "masked states": (masked_with_states, "behind a mask"),
    "gru": (lambda: sequential(layers.Input((TIME, FEATURES)), layers.GRU(UNITS)), "GRUCell.*--quantize float16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_converting_to_int8_is_refused_and_writes_nothing(name, tmp_path):
    build, text = REFUSED[name]
    with pytest.raises(LoweringError, match=text):
        edgelstm.convert(build(), tmp_path / "m.tflite", quantize="int8", calibration=floats(8, TIME, FEATURES))
    assert list(tmp_path.iterdir()) == []


def test_a_gru_is_refused_in_dynamic(tmp_path):
    with pytest.raises(LoweringError, match=r"Layer '.*gru.*' cannot be quantized to int8 weights.*float16"):
        edgelstm.convert(REFUSED["gru"][0](), tmp_path / "m.tflite", quantize="dynamic")


def test_int8_without_data_is_refused_by_the_names_of_the_inputs(tmp_path):
    model = sequential(layers.Input((TIME, FEATURES), name="pulse"), layers.LSTM(UNITS))
    with pytest.raises(CalibrationError, match=r"int8 needs data .*--calibration F\.npz .*\(pulse\)"):
        edgelstm.convert(model, tmp_path / "m.tflite", quantize="int8")


# A cell state that counts far beyond 10, where the stock converter clips it, and down again

UP, DOWN = 15, 14


def counter() -> keras.Model:
    """Four cells that count +1 and -1 in steps of 1, 0.9, 0.8 and 0.7; their gates are wide open."""
    model = keras.Sequential([layers.Input((UP + DOWN, 1), name="x"), layers.LSTM(4, return_sequences=True)])
    kernel = np.zeros((1, 16), np.float32)
    kernel[0, 8:12] = np.arctanh([0.999999, 0.9, 0.8, 0.7])
    bias = np.full(16, 20.0, np.float32)
    bias[8:12] = 0
    model.layers[0].set_weights([kernel, np.zeros((4, 16), np.float32), bias])
    return model


def counts(*signs: float) -> Array:
    """Up to 15 and down to 1, for each sign."""
    rows = np.concatenate([np.ones(UP), -np.ones(DOWN)])[:, np.newaxis] * np.array(signs)[:, np.newaxis, np.newaxis]
    return rows.astype(np.float32)


def counted(precision: str, folder) -> tuple[Array, Array]:
    model, data = counter(), counts(1, -1, 0.5)
    calibration = data if precision == "int8" else None
    path = edgelstm.convert(model, folder / "m.tflite", quantize=precision, calibration=calibration, verify=False).path
    (answers,) = run_calls(path, {"x": data[:, np.newaxis]}).values()
    return answers[:, 0], np.asarray(model(data))


def test_this_counter_would_show_a_clip_at_10():
    clipped, c = np.zeros(4), np.zeros(4)
    for step in counts(1)[0, :, 0]:
        c = c + np.array([0.999999, 0.9, 0.8, 0.7]) * step
        clipped = np.clip(clipped + np.array([0.999999, 0.9, 0.8, 0.7]) * step, -10, 10)
    assert np.abs(np.tanh(c) - np.tanh(clipped)).max() > 1


def test_counting_in_float32_is_exact(tmp_path):
    answers, expected = counted("float32", tmp_path)
    np.testing.assert_allclose(answers, expected, rtol=1e-5, atol=1e-6)


# 8-bit kernels move each count by half a percent, over 15 steps by up to 0.1; the gates of int8 end at
# sigmoid(8) = 0.99966, which loses another 0.1. The stock clip errs by 1.7.
@pytest.mark.parametrize("precision, tolerance", [("dynamic", 0.1), ("int8", 0.25)])
def test_counting_in_8_bits_goes_up_and_comes_down_again(precision, tolerance, tmp_path):
    answers, expected = counted(precision, tmp_path)
    assert np.abs(answers - expected).max() <= tolerance


def test_the_cell_scale_covers_the_peak_within_the_sequence_not_only_its_end(tmp_path):
    path = tmp_path / "m.tflite"
    edgelstm.convert(counter(), path, quantize="int8", calibration=counts(1, -1), verify=False)
    (lstm,) = edgelstm.inspect(path).lstms
    assert lstm.cell_scale == 2.0 ** (math.ceil(math.log2(UP)) - 15)


# A cell state so small that stock int8 answers a constant


def test_an_lstm_with_a_tiny_cell_state_follows_its_input_in_int8(tmp_path):
    model = sequential(layers.Input((TIME, FEATURES), name="x"), layers.LSTM(UNITS))
    model.layers[0].set_weights([1e-3 * value for value in model.layers[0].get_weights()])
    data = floats(40, TIME, FEATURES)
    path = tmp_path / "m.tflite"
    edgelstm.convert(model, path, quantize="int8", calibration=data, verify=False)
    assert [lstm.cell_scale for lstm in edgelstm.inspect(path).lstms] == [2.0**-15]
    answers = run_calls(path, {"x": data[:, np.newaxis]})["output"][:, 0]
    expected = np.asarray(model(data))
    for unit in range(UNITS):
        assert np.corrcoef(answers[:, unit], expected[:, unit])[0, 1] > 0.9


# One output with several readers


def two_readers() -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.LSTM(UNITS, return_sequences=True)(x)
    return functional(x, [layers.GlobalMaxPooling1D(name="top")(y), layers.GlobalAveragePooling1D(name="mean")(y)])


def masked_stack() -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True))(layers.Masking()(x))
    return functional(x, layers.Dense(2)(layers.LSTM(UNITS)(y)))


def with_final_states() -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    y, h, c = layers.LSTM(UNITS, return_sequences=True, return_state=True)(x)
    return functional(x, layers.LSTM(UNITS)(y, initial_state=[h, c]))


@pytest.mark.parametrize("build", [two_readers, masked_stack, with_final_states], ids=lambda build: build.__name__)
def test_answers_are_right_and_the_scales_of_each_lstm_are_one(build, tmp_path):
    model, data, path = build(), floats(40, TIME, FEATURES), tmp_path / "m.tflite"
    data[:, :2] *= np.arange(40)[:, np.newaxis, np.newaxis] % 2  # two leading steps masked in every other sample
    artifact = edgelstm.convert(model, path, quantize="int8", calibration=data, verify=False)
    lstms = edgelstm.inspect(path).lstms
    assert len(lstms) == {"two_readers": 1, "masked_stack": 3, "with_final_states": 2}[build.__name__]
    for lstm in lstms:
        assert lstm.output_scale == lstm.hidden_scale == lstm.intermediate_scale
        assert 2.0**-15 <= lstm.cell_scale <= 2.0**-9
    got = run_calls(path, {"x": data[:10, np.newaxis]})
    expected = model(data[:10])
    expected = expected if isinstance(expected, list) else [expected]
    for tensor, wanted in zip(artifact.card["outputs"], expected, strict=True):
        answers = got[tensor["name"]][:, 0]
        step = np.ptp(wanted) / 255
        # A mistaken scale moves answers by more than 50 steps; weights and gates in 8 bits by a few.
        assert np.abs(answers - wanted).max() <= 8 * step


def test_all_zero_weights_give_all_zero_answers(tmp_path):
    model = sequential(layers.Input((TIME, FEATURES), name="x"), layers.LSTM(UNITS))
    model.layers[0].set_weights([np.zeros_like(value) for value in model.layers[0].get_weights()])
    path = tmp_path / "m.tflite"
    edgelstm.convert(model, path, quantize="int8", calibration=floats(8, TIME, FEATURES), verify=False)
    np.testing.assert_array_equal(run_calls(path, {"x": floats(3, 1, TIME, FEATURES)})["output"], 0)
