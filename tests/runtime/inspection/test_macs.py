"""Multiply-accumulates by the formula of each layer."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.runtime.inspection import format_text
from edgelstm.runtime.inspection.macs import count_macs
from edgelstm.runtime.inspection.records import GraphRecord, ModelRecord, OperatorRecord, TensorRecord

TIME, FEATURES, UNITS = 7, 5, 6
LSTM = TIME * 4 * UNITS * (FEATURES + UNITS)


def sequence(*more):
    return keras.Sequential([layers.Input((TIME, FEATURES), name="x"), *more])


@pytest.mark.parametrize("build, macs", [
    (lambda: sequence(layers.LSTM(UNITS)), LSTM),
    (lambda: sequence(layers.LSTM(UNITS), layers.Dense(3)), LSTM + 3 * UNITS),
    (lambda: sequence(layers.Bidirectional(layers.LSTM(UNITS))), 2 * LSTM),
    (lambda: sequence(layers.LSTM(UNITS, return_sequences=True), layers.LSTM(3)),
     LSTM + TIME * 12 * (UNITS + 3)),
    (lambda: sequence(layers.Dense(4), layers.LSTM(UNITS)), TIME * (4 * FEATURES + 4 * UNITS * (4 + UNITS))),
    (lambda: sequence(layers.Conv1D(3, 2, padding="same"), layers.LSTM(UNITS)),
     TIME * (2 * FEATURES * 3 + 4 * UNITS * (3 + UNITS))),
    (lambda: keras.Sequential([
        layers.Input((8, 9, 2), name="x"), layers.Conv2D(3, (3, 2)), layers.DepthwiseConv2D(2), layers.Flatten(),
        layers.Dense(2)]), 6 * 8 * 3 * (3 * 2 * 2) + 5 * 7 * 3 * 4 + 2 * 105),
    (lambda: keras.Sequential([layers.Input((TIME,), dtype="int32", name="x"), layers.Embedding(30, FEATURES),
                               layers.LSTM(UNITS)]), LSTM),
])  # fmt: skip
def test_each_layer_counts_what_its_formula_says(build, macs, tmp_path):
    path = edgelstm.convert(build(), tmp_path / "m.tflite", verify=False).path
    assert edgelstm.inspect(path).macs == macs


def test_a_batch_counts_each_row_and_weights_of_8_bits_as_others(tmp_path):
    model = sequence(layers.LSTM(UNITS))
    for precision in ("float16", "dynamic", "int8"):
        data = np.random.default_rng(0).normal(size=(8, TIME, FEATURES)).astype(np.float32)
        path = edgelstm.convert(
            model, tmp_path / f"{precision}.tflite", quantize=precision, batch=3, verify=False, calibration=data
        ).path
        assert edgelstm.inspect(path).macs == 3 * LSTM


def test_unrolled_steps_count_as_the_operator_does_and_loops_are_not_counted(tmp_path):
    model = sequence(layers.LSTM(UNITS))
    unrolled = edgelstm.convert(model, tmp_path / "u.tflite", runtime="mediapipe", verify=False).path
    assert edgelstm.inspect(unrolled).macs == LSTM
    loop = edgelstm.convert(model, tmp_path / "l.tflite", runtime="compiled", verify=False).path
    assert edgelstm.inspect(loop).macs is None
    assert "multiply-accumulates" not in format_text(edgelstm.inspect(loop))
    assert f"{LSTM:,} multiply-accumulates a call" in format_text(edgelstm.inspect(unrolled))


def tensor(*shape: int) -> TensorRecord:
    return TensorRecord("", shape, "float32", 0, False, None, None, False)


@pytest.mark.parametrize("source, other, product, macs", [
    ((2, 3, 4), (2, 4, 5), (2, 3, 5), 2 * 3 * 4 * 5),
    ((2, 4, 3), (2, 4, 5), (2, 3, 5), 2 * 3 * 4 * 5),  # the first one transposed
    ((2, -1, 4), (2, 4, 5), (2, -1, 5), None),
])  # fmt: skip
def test_products_of_two_activations(source, other, product, macs):
    operator = OperatorRecord("BATCH_MATMUL", False, (0, 1), (2,), (), {})
    graph = GraphRecord((0, 1), (2,), (tensor(*source), tensor(*other), tensor(*product)), (operator,))
    assert count_macs(ModelRecord("", (graph,), ())) == macs
