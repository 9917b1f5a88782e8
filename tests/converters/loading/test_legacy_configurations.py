"""Configurations of the Keras inside TensorFlow by hand, names of all kinds, and layers of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.converters.legacy_functions import hard_sigmoid_of_keras_2
from edgelstm.converters.loading import load_model
from edgelstm.errors import LoadError
from tests.converters.loading import legacy_files as files
from tests.converters.loading import legacy_reference as reference

keras = pytest.importorskip("keras")

TIME, FEATURES, UNITS = 6, 3, 4
# float32 in Keras against float64 here: a few roundings of 6e-8 for each of 6 steps, on answers around 1.
TOLERANCE = 2e-6
SHAPE = [None, TIME, FEATURES]


@pytest.fixture(scope="module")
def x() -> Any:
    return np.random.default_rng(7).normal(0, 1, (2, TIME, FEATURES))


def assert_answers(path: Path, inputs: Any, expected: Any, **options: Any) -> Any:
    """Loads a model and compares every element of what it answers; returns what was loaded."""
    loaded = load_model(path, **options)
    tensors = [np.asarray(one, np.float32) for one in inputs] if isinstance(inputs, list) else np.float32(inputs)
    answer = loaded.model(tensors, training=False)
    np.testing.assert_allclose(answer, expected, rtol=0, atol=TOLERANCE, equal_nan=False)
    return loaded


def cell(seed: int, features: int = FEATURES) -> reference.Cell:
    return reference.random_cell("LSTM", features, UNITS, seed)


def tensorflow_lstm(name: str, **settings: Any) -> files.Config:
    """LSTM of TensorFlow 2.1 to 2.11."""
    common = {"dtype": "float32", "recurrent_activation": "sigmoid", "time_major": False, "implementation": 2}
    return files.keras_2_recurrent("LSTM", name, UNITS, **(common | settings))


class TestTensorFlow:
    def test_states_as_arguments(self, x: Any, tmp_path: Path) -> None:
        nodes = [
            (files.input_layer("x", SHAPE, ragged=False), []),
            (tensorflow_lstm("encoder", return_state=True), [[files.tensor("x")]]),
            (
                tensorflow_lstm("decoder"),
                [[files.tensor("x", initial_state=[["encoder", 0, 1], ["encoder", 0, 2]], training=None)]],
            ),
        ]
        config = files.functional(["x"], ["decoder"], *nodes)
        weights = {
            f"{name}": cell(seed).keras_2(f"{name}/lstm_cell") for seed, name in ((1, "encoder"), (2, "decoder"))
        }
        path = files.write_h5(tmp_path / "model.h5", config, weights, "2.2.4-tf", "tensorflow")
        _, states = reference.recurrent(cell(1), x, gate=reference.sigmoid)
        expected = reference.recurrent(cell(2), x, gate=reference.sigmoid, states=states)[0][:, -1]
        assert assert_answers(path, x, expected).notes == ()

    def test_operations_between_layers(self, x: Any, tmp_path: Path) -> None:
        def operation(function: str, name: str) -> files.Config:
            return files.layer("TFOpLambda", name, dtype="float32", function=function)

        half = {"class_name": "TFOpLambda", "config": {"name": "half", "function": "math.multiply"}}
        nodes = [
            (files.input_layer("x", SHAPE), []),
            (tensorflow_lstm("a", return_sequences=True), [[files.tensor("x")]]),
            (tensorflow_lstm("b", return_sequences=True), [[files.tensor("x")]]),
            (operation("__operators__.add", "sum"), [["a", 0, 0, {"y": ["b", 0, 0], "name": None}]]),
            (half, [["_CONSTANT_VALUE", -1, 0.5, {"y": ["sum", 0, 0], "name": None}]]),
            (operation("concat", "both"), [[files.tensor("half", axis=-1), files.tensor("a", axis=-1)]]),
            (operation("math.reduce_mean", "mean"), [files.tensor("both", axis=1, keepdims=False)]),
        ]
        config = files.functional(["x"], ["mean"], *nodes, kind="Functional")
        weights = {name: cell(seed).keras_2(f"{name}/lstm_cell") for seed, name in ((1, "a"), (2, "b"))}
        path = files.write_h5(tmp_path / "model.h5", config, weights, "2.4.0", "tensorflow")
        a, b = (reference.recurrent(cell(seed), x, gate=reference.sigmoid)[0] for seed in (1, 2))
        assert_answers(path, x, np.concatenate([(a + b) / 2, a], -1).mean(1))

    def test_inner_layers_with_and_without_modules(self, x: Any, tmp_path: Path) -> None:
        inner = tensorflow_lstm("lstm", return_sequences=True) | {
            "module": "tensorflow.python.keras.layers.recurrent_v2",
            "registered_name": None,
            "shared_object_id": 3,
        }
        policy = {"class_name": "Policy", "config": {"name": "float32"}}
        config = files.named_sequential(
            "model > one",
            files.input_layer("in", SHAPE, dtype="float32"),
            files.wrapper("Bidirectional", "both", inner, merge_mode="sum", dtype=policy),
            files.layer(
                "BatchNormalizationV1", "norm", axis=[2], momentum=0.99, epsilon=0.01, fused=None, renorm=False
            ),
            build_input_shape=SHAPE,
        )
        rng = np.random.default_rng(3)
        values = [*rng.normal(0, 1, (3, UNITS)), rng.uniform(0.5, 2, UNITS)]
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        weights = {
            "both": cell(1).keras_2("both/forward_lstm/lstm_cell_1")
            + cell(2).keras_2("both/backward_lstm/lstm_cell_2"),
            "norm": [(f"norm/{name}:0", value) for name, value in zip(names, values, strict=True)],
            "top_level_model_weights": [],
        }
        path = files.write_h5(tmp_path / "model.h5", config, weights, "2.9.0", "tensorflow")
        h = reference.bidirectional(cell(1), cell(2), x, gate=reference.sigmoid)
        h = h[..., :UNITS] + h[..., UNITS:]
        gamma, beta, mean, variance = values
        assert_answers(path, x, gamma * (h - mean) / np.sqrt(variance + 0.01) + beta)

    @pytest.mark.parametrize("name", ["TensorFlowOpLayer", "AddLoss", "InstanceProperty"])
    def test_layers_that_have_no_twin(self, name: str, tmp_path: Path) -> None:
        nodes = [(files.input_layer("x", SHAPE), []), (files.layer(name, "odd"), [[files.tensor("x")]])]
        path = files.write_h5(tmp_path / "model.h5", files.functional(["x"], ["odd"], *nodes), {}, "2.3.0-tf")
        with pytest.raises(LoadError, match=r"the layer 'odd' (holds|adds|reads) a"):
            load_model(path)


class TestNames:
    @pytest.mark.parametrize("name", ["rnn/inner", "a > b", "my layer", "lstm.1"])
    def test_of_all_kinds(self, name: str, x: Any, tmp_path: Path) -> None:
        nodes = [
            (files.input_layer("x", SHAPE), []),
            (files.keras_2_recurrent("LSTM", name, UNITS, return_sequences=True), [[files.tensor("x")]]),
            (files.layer("Activation", "relu", activation="relu"), [[files.tensor(name)]]),
        ]
        config = files.functional(["x"], ["relu"], *nodes)
        path = files.write_h5(tmp_path / "model.h5", config, {name: cell(1).keras_2(name)}, "2.2.4", "tensorflow")
        loaded = assert_answers(path, x, np.maximum(reference.recurrent(cell(1), x)[0], 0))
        assert loaded.model.layers[1].name == name.replace("/", "_")

    def test_two_layers_of_one_name(self, tmp_path: Path) -> None:
        nodes = [(files.input_layer("x", SHAPE), []), (files.input_layer("x", SHAPE), [])]
        path = files.write_h5(tmp_path / "model.h5", files.functional(["x"], ["x"], *nodes), {}, "2.2.4")
        with pytest.raises(LoadError, match="two layers have the same name"):
            load_model(path)

    @pytest.mark.parametrize("inbound", [[[["gone", 0, 0, {}]]], [[["x", 5, 0, {}]]], [[["last", 0, 0, {}]]], ["x"]])
    def test_nodes_that_lead_nowhere(self, inbound: Any, tmp_path: Path) -> None:
        nodes = [
            (files.input_layer("x", SHAPE), []),
            (files.layer("Activation", "last", activation="relu"), inbound),
        ]
        path = files.write_h5(tmp_path / "model.h5", files.functional(["x"], ["last"], *nodes), {}, "2.2.4")
        with pytest.raises(LoadError, match=r"is damaged or of an unknown form|cannot rebuild the model"):
            load_model(path)


OWN_LAYERS = """
import keras

class Gate(keras.layers.Layer):
    def __init__(self, activation=None, inner=None, note=None, **settings):
        super().__init__(**settings)
        self.activation = keras.activations.get(activation)
        self.inner = keras.layers.deserialize(inner) if inner else None
    def build(self, shape):
        if self.inner:
            self.inner.build(shape)
    def call(self, x):
        return self.activation(self.inner(x) if self.inner else x)

def cube(x):
    return x ** 3
"""


class TestOwnLayers:
    @pytest.fixture(autouse=True)
    def own_layers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        (tmp_path / "own_gates.py").write_text(OWN_LAYERS)
        monkeypatch.chdir(tmp_path)
        yield
        sys.modules.pop("own_gates", None)

    def model(self, tmp_path: Path, weights: files.Weights, **settings: Any) -> Path:
        first = files.layer("Activation", "as_is", activation="linear", batch_input_shape=SHAPE)
        config = files.sequential(first, files.layer("Gate", "gate", **settings))
        return files.write_h5(tmp_path / "model.h5", config, weights, "2.2.4", "tensorflow")

    def test_hard_sigmoid_keeps_its_meaning(self, x: Any, tmp_path: Path) -> None:
        path = self.model(tmp_path, {}, activation="hard_sigmoid")
        loaded = assert_answers(path, x, reference.hard_sigmoid(x), custom=("own_gates:Gate",))
        assert "hard_sigmoid in 'gate' keeps the meaning" in loaded.notes[0]

    def test_layers_inside_are_rewritten(self, x: Any, tmp_path: Path) -> None:
        inner = files.keras_2_recurrent("LSTM", "inner", UNITS, return_sequences=True)
        path = self.model(tmp_path, {"gate": cell(1).keras_2("gate/inner")}, activation="tanh", inner=inner)
        loaded = assert_answers(path, x, np.tanh(reference.recurrent(cell(1), x)[0]), custom=("own_gates:Gate",))
        assert loaded.model.layers[-1].inner.cell.recurrent_activation is hard_sigmoid_of_keras_2

    @pytest.mark.parametrize("note", ["hard_sigmoid", {"deep": ["hard_sigmoid"]}])
    def test_hard_sigmoid_of_unknown_use_is_refused(self, note: Any, tmp_path: Path) -> None:
        path = self.model(tmp_path, {}, activation="tanh", note=note)
        with pytest.raises(LoadError, match=r"the layer 'gate' has \w+='hard_sigmoid', which Keras 2\.2\.4 computes"):
            load_model(path, custom=("own_gates:Gate",))

    def test_own_function_as_an_activation(self, x: Any, tmp_path: Path) -> None:
        config = files.sequential(files.layer("Activation", "act", activation="cube", batch_input_shape=SHAPE))
        path = files.write_h5(tmp_path / "model.h5", config, {}, "2.2.4")
        assert_answers(path, x / 2, (x / 2) ** 3, custom=("own_gates:cube",))
        with pytest.raises(LoadError, match=r"the layer 'act' uses the function cube, .*--custom module:cube"):
            load_model(path)

    def test_without_its_code_it_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(LoadError, match=r"the layer 'gate' is of the class Gate, .*--custom module:Gate"):
            load_model(self.model(tmp_path, {}))


class TestNotes:
    @pytest.mark.parametrize("version, told", [("2.2.4", True), ("2.4.0", False)])
    def test_masks_in_front_of_a_given_state(self, version: str, told: bool, tmp_path: Path) -> None:
        nodes = [
            (files.input_layer("x", SHAPE), []),
            (files.input_layer("h", [None, UNITS]), []),
            (files.layer("Masking", "mask", mask_value=0.0), [[files.tensor("x")]]),
            (tensorflow_lstm("lstm"), [[files.tensor("mask"), files.tensor("h"), files.tensor("h")]]),
        ]
        config = files.functional(["x", "h"], ["lstm"], *nodes)
        path = files.write_h5(tmp_path / "model.h5", config, {"lstm": cell(1).keras_2("lstm")}, version, "tensorflow")
        notes = load_model(path).notes
        assert any("first steps of a sequence are masked, 'lstm' answers zero" in note for note in notes) is told

    def test_what_only_training_uses(self, tmp_path: Path) -> None:
        own = {"class_name": "Orthogonalize", "config": {"factor": 0.1}}
        layer = files.keras_2_recurrent("LSTM", "lstm", UNITS, kernel_regularizer=own, batch_input_shape=SHAPE)
        layer["config"] |= {"kernel_initializer": own, "recurrent_activation": "sigmoid"}
        path = files.write_h5(
            tmp_path / "model.h5", files.sequential(layer), {"lstm": cell(1).keras_2("lstm")}, "2.2.4"
        )
        assert load_model(path).notes == (
            "Left out, because Keras 3 does not have it and only training uses it: kernel_regularizer of 'lstm'.",
        )


def test_version_that_is_not_told_counts_as_keras_1(x: Any, tmp_path: Path) -> None:
    config = files.sequential(files.keras_1_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=SHAPE))
    path = files.write_json(tmp_path / "model.json", config, None)
    weights = files.write_weights(tmp_path / "weights.h5", {"lstm_1": cell(1).keras_1("lstm_1")}, None)
    assert_answers(path, x, reference.recurrent(cell(1), x)[0][:, -1], weights=weights)
