"""TimeDistributed as one batch: the same answers from one copy of the inner layers' operators."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import edgelstm
from edgelstm.converters.lowering import time_distributed

layers = keras.layers


def random_weights(model):
    rng = np.random.default_rng(3)
    for variable in model.weights:
        values = rng.normal(scale=0.4, size=variable.shape)
        variable.assign(np.abs(values) + 0.1 if variable.name == "moving_variance" else values)
    return model


def operators(model, tmp_path):
    artifact = edgelstm.convert(model, tmp_path / "m.tflite")
    return artifact.card["operators"]


def cnn_model(frames):
    cnn = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
        ]
    )
    clip = keras.Input((frames, 8, 8, 2))
    return random_weights(keras.Model(clip, layers.LSTM(4)(layers.TimeDistributed(cnn)(clip))))


def test_a_cnn_over_frames_stands_in_the_file_once(tmp_path):
    assert operators(cnn_model(frames=5), tmp_path)["CONV_2D"] == 1


def test_a_dense_layer_behind_a_masked_lstm_stands_in_the_file_once(tmp_path):
    steps = keras.Input((6, 3))
    hidden = layers.LSTM(4, return_sequences=True)(layers.Masking()(steps))
    model = random_weights(keras.Model(steps, layers.TimeDistributed(layers.Dense(2))(hidden)))
    assert operators(model, tmp_path)["FULLY_CONNECTED"] == 1


@keras.saving.register_keras_serializable("edgelstm_tests")
class AcrossTheBatch(layers.Layer):
    """Subtracts the mean over its batch, which folding time into the batch would change."""

    def call(self, inputs):
        return inputs - keras.ops.mean(inputs, axis=0, keepdims=True)

    def compute_output_shape(self, input_shape):
        return input_shape


def test_a_custom_layer_is_called_step_by_step(tmp_path):
    steps = keras.Input((3, 4))
    model = keras.Model(steps, layers.LSTM(3)(layers.TimeDistributed(AcrossTheBatch())(steps)))
    # Folded, its mean would go over the steps, and verification would refuse the file.
    steps = np.random.default_rng(0).normal(size=(8, 3, 4))
    artifact = edgelstm.convert(random_weights(model), tmp_path / "m.tflite", batch=2, calibration=steps)
    assert artifact.card["parity"][0]["passed"]


@pytest.mark.parametrize("inner", [layers.LSTM, layers.GRU], ids=["fused", "loop"])
def test_a_recurrent_layer_over_each_step_stands_in_the_file_once(inner, tmp_path):
    steps = keras.Input((2, 4, 3))
    model = random_weights(keras.Model(steps, layers.TimeDistributed(inner(3))(steps)))
    found = operators(model, tmp_path)
    assert found.get("UNIDIRECTIONAL_SEQUENCE_LSTM", 0) + found.get("WHILE", 0) == 1


def test_a_stateful_layer_is_not_folded(tmp_path):
    steps = keras.Input(batch_shape=(2, 3, 4, 3))
    model = random_weights(keras.Model(steps, layers.TimeDistributed(layers.LSTM(3))(steps)))
    assert operators(model, tmp_path)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    layer = layers.LSTM(3, stateful=True)
    assert not time_distributed._treats_rows_alike(layer, keras)
