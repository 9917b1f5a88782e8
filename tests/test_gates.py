"""Hard sigmoid gates: exact steps unless the user asks for sigmoids, and then with the difference said."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.converters.legacy_functions import hard_sigmoid_of_keras_2
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.integer import check_integer
from edgelstm.errors import LoweringError
from tests.converters.tiny import FEATURES, TIME, UNITS, Array, floats, run_calls, sequential
from tests.lstm_reference import ACTIVATIONS, LstmWeights, lstm_reference, sigmoid

GATES: dict[str, Any] = {"hard_sigmoid": "hard_sigmoid", "hard_sigmoid_of_keras_2": hard_sigmoid_of_keras_2}
SENTENCE = re.compile(
    r"APPROXIMATE: the gates of (?P<layers>.+) are sigmoids in this file and hard sigmoids in the model\. "
    r"Answers differ from the model's by up to (?P<largest>[\d.e-]+) \(mean (?P<mean>[\d.e-]+)\)"
    r"(, with the same decision in (?P<same>[\d.]+)% of the calls)?, on (?P<origin>.+)\."
)

every_gate = pytest.mark.parametrize("gate", GATES)


def model_with(gate: str, *, classes: int = 0, seed: int = 3, **arguments: Any) -> keras.Model:
    head = [layers.Dense(classes, activation="softmax")] if classes else []
    lstm = layers.LSTM(UNITS, recurrent_activation=GATES.get(gate, gate), return_sequences=not classes, **arguments)
    return sequential(layers.Input((TIME, FEATURES), name="x"), lstm, *head, seed=seed)


def reference(model: keras.Model, x: Array, gate: Any) -> Array:
    """Returns the LSTM's outputs on x with some gate, in float64."""
    kernel, recurrent_kernel, bias = (np.asarray(value, np.float64) for value in model.layers[0].get_weights())
    return lstm_reference(x, LstmWeights(kernel, recurrent_kernel, bias), gate=gate).outputs


def warning_of(artifact: edgelstm.Artifact) -> re.Match[str]:
    (found,) = filter(None, map(SENTENCE.fullmatch, artifact.card["warnings"]))
    return found


# Exact, unless told otherwise


@every_gate
def test_by_default_gates_are_computed_as_the_model_has_them(gate, tmp_path):
    model, x = model_with(gate), 2 * floats(4, 1, TIME, FEATURES)
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", verify=False)
    got = run_calls(artifact.path, {"x": x})["output"][:, 0]
    np.testing.assert_allclose(got, reference(model, x[:, 0], ACTIVATIONS[gate]), rtol=0, atol=1e-5)
    (lstm,) = artifact.card["lstms"]
    assert (lstm["form"], lstm["recurrent_activation"]) == ("loop", gate)
    assert not artifact.card["approximate_gates"]
    assert any("becomes a loop: recurrent_activation" in warning for warning in artifact.card["warnings"])


def test_these_data_tell_the_three_gates_apart():
    model, x = model_with("hard_sigmoid"), 2 * floats(4, TIME, FEATURES)
    answers = [reference(model, x, gate) for gate in (sigmoid, *map(ACTIVATIONS.__getitem__, GATES))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(answers[one] - answers[other]).max() > 100 * 1e-5


@every_gate
def test_exact_gates_can_have_int8_weights(gate, tmp_path):
    model, x = model_with(gate), floats(4, 1, TIME, FEATURES)
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", quantize="dynamic", verify=False)
    got = run_calls(artifact.path, {"x": x})["output"][:, 0]
    assert np.abs(got - reference(model, x[:, 0], ACTIVATIONS[gate])).max() < 0.03  # weights and values in 8 bits


# Approximate


@every_gate
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_on_request_gates_are_sigmoids_of_the_fused_operator(gate, precision, tmp_path):
    model, x = model_with(gate), floats(30, TIME, FEATURES)
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", quantize=precision, approximate_gates=True, calibration=x)
    (lstm,) = artifact.card["lstms"]
    assert (lstm["form"], lstm["recurrent_activation"]) == ("fused", "sigmoid")
    assert artifact.card["operators"]["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    assert artifact.card["approximate_gates"]
    got = run_calls(artifact.path, {"x": x[:5, np.newaxis]})["output"][:, 0]
    tolerance = 1e-5 if precision == "float32" else 0.05
    np.testing.assert_allclose(got, reference(model, x[:5], sigmoid), rtol=0, atol=tolerance)


@every_gate
def test_the_difference_is_measured_on_the_users_data_and_said(gate, tmp_path):
    model, x = model_with(gate), 1.5 * floats(30, TIME, FEATURES, seed=5)
    artifact = edgelstm.convert(
        model, tmp_path / "m.tflite", approximate_gates=True, calibration={"x": x}, verify=False
    )
    said = warning_of(artifact)
    difference = np.abs(reference(model, x, sigmoid) - reference(model, x, ACTIVATIONS[gate]))
    assert float(said["largest"]) == pytest.approx(difference.max(), rel=0.01)
    assert float(said["mean"]) == pytest.approx(difference.mean(), rel=0.01)
    assert said["origin"] == "your data"
    assert said["layers"].endswith(model.layers[0].name)
    assert said["same"] is None
    assert difference.max() > 1e-3


def test_how_many_decisions_stay_the_same_is_said_of_classifiers(tmp_path):
    model, x = model_with("hard_sigmoid_of_keras_2", classes=3, seed=0), 2 * floats(200, TIME, FEATURES, seed=2)
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", approximate_gates=True, calibration=x, verify=False)
    head = model.layers[1]
    decisions = []
    for gate in (sigmoid, ACTIVATIONS["hard_sigmoid_of_keras_2"]):
        kernel, bias = (np.asarray(value, np.float64) for value in head.get_weights())
        decisions.append((reference(model, x, gate)[:, -1] @ kernel + bias).argmax(axis=1))
    same = float((decisions[0] == decisions[1]).mean())
    assert 0.5 < same < 1
    assert float(warning_of(artifact)["same"]) / 100 == pytest.approx(same, abs=0.006)


def test_generated_data_are_called_what_they_are(tmp_path):
    artifact = edgelstm.convert(model_with("hard_sigmoid"), tmp_path / "m.tflite", approximate_gates=True, verify=False)
    assert warning_of(artifact)["origin"] == "generated inputs, which say little: give --calibration F.npz"


def test_the_model_has_its_own_gates_again_afterwards(tmp_path):
    model, x = model_with("hard_sigmoid"), floats(3, TIME, FEATURES)
    before = np.asarray(model(x))
    edgelstm.convert(model, tmp_path / "m.tflite", approximate_gates=True, verify=False)
    np.testing.assert_array_equal(np.asarray(model(x)), before)
    with pytest.raises(LoweringError):  # nor after a failure
        edgelstm.convert(
            model_with("hard_sigmoid", activation=keras.ops.sin), tmp_path / "n.tflite", quantize="int8",
            calibration=x, approximate_gates=True,
        )  # fmt: skip


def test_every_layer_with_such_gates_is_named_and_no_other(tmp_path):
    model = sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.Bidirectional(
            layers.LSTM(UNITS, recurrent_activation="hard_sigmoid", return_sequences=True), name="both"
        ),
        layers.LSTM(UNITS, return_sequences=True, name="soft"),
        layers.RNN(
            [layers.LSTMCell(UNITS, recurrent_activation=hard_sigmoid_of_keras_2), layers.LSTMCell(3)], name="old"
        ),
    )
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", approximate_gates=True)
    named = warning_of(artifact)["layers"]
    assert "both" in named
    assert "old" in named
    assert "soft" not in named
    assert artifact.card["operators"]["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 5
    assert all(parity["passed"] for parity in artifact.card["parity"])


# Refusals


@pytest.mark.parametrize(
    "build",
    [
        lambda: model_with("sigmoid"),
        lambda: model_with("sigmoid", activation="hard_sigmoid"),
        lambda: sequential(layers.Input((TIME, FEATURES)), layers.GRU(UNITS, recurrent_activation="hard_sigmoid")),
        lambda: sequential(layers.Input((TIME, FEATURES)), layers.Dense(2, activation="hard_sigmoid")),
    ],
    ids=["sigmoid", "only the activation", "gru", "no lstm"],
)
def test_where_there_is_nothing_to_approximate_the_flag_is_refused(build, tmp_path):
    with pytest.raises(LoweringError, match="nothing to approximate: leave --approximate-gates out"):
        edgelstm.convert(build(), tmp_path / "m.tflite", approximate_gates=True)
    assert list(tmp_path.iterdir()) == []


@every_gate
@pytest.mark.parametrize(
    "runtime, instead", [("interpreter", "--quantize dynamic, float16 or float32"), ("micro", "--quantize float32")]
)
def test_int8_is_refused_with_the_ways_out_that_the_runtime_has(gate, runtime, instead, tmp_path):
    text = f"'{gate}', and the fused operator's gates are sigmoid.* Use {instead}, or --approximate-gates"
    data = floats(8, TIME, FEATURES)
    with pytest.raises(LoweringError, match=text):
        edgelstm.convert(model_with(gate), tmp_path / "m.tflite", quantize="int8", runtime=runtime, calibration=data)
    assert list(tmp_path.iterdir()) == []


def test_other_gates_are_refused_without_that_way_out():
    call = LstmCall(0, "m/lstm", UNITS, "tanh", recurrent_activation="tanh")
    with pytest.raises(
        LoweringError, match=r"cannot be int8: recurrent_activation='tanh'.*Use --quantize dynamic or float16\.$"
    ):
        check_integer([call])
