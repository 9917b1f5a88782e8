"""Files of stand-alone Keras 2, up to 2.3: lists of layers, cuDNN, hard_sigmoid, masks as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.converters.legacy_functions import hard_sigmoid_of_keras_2
from edgelstm.converters.loading import load_model
from edgelstm.errors import LoadError
from tests.converters.loading import legacy_files as files
from tests.converters.loading import legacy_reference as reference

pytest.importorskip("keras")

TIME, FEATURES, UNITS = 6, 3, 4
# float32 in Keras against float64 here: a few roundings of 6e-8 for each of 6 steps, on answers around 1.
TOLERANCE = 2e-6
VERSION = "2.2.4"
SHAPE = [None, TIME, FEATURES]
MASK = np.array([[0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 1, 1]], bool)


@pytest.fixture(scope="module")
def x() -> Any:
    return np.random.default_rng(7).normal(0, 1, (2, TIME, FEATURES))


def assert_answers(path: Path, inputs: Any, expected: Any, **options: Any) -> Any:
    """Loads a model and compares every element of what it answers; returns what was loaded."""
    loaded = load_model(path, **options)
    tensors = [np.asarray(one, np.float32) for one in inputs] if isinstance(inputs, list) else np.float32(inputs)
    answers = loaded.model(tensors, training=False)
    pairs = zip(answers, expected, strict=True) if isinstance(expected, list) else [(answers, expected)]
    for answer, right in pairs:
        np.testing.assert_allclose(answer, right, rtol=0, atol=TOLERANCE, equal_nan=False)
    return loaded


def cells(kind: str, *features: int, reset_after: bool = False) -> list[reference.Cell]:
    return [
        reference.random_cell(kind, size, UNITS, seed, reset_after=reset_after) for seed, size in enumerate(features)
    ]


def masked(x: Any, mask: Any = MASK) -> Any:
    """Inputs whose masked steps are zeros, as Masking marks them."""
    return np.where(mask[..., None], x, 0)


class TestRecurrentLayers:
    @pytest.mark.parametrize("version", ["2.0.8", "2.2.4", "2.3.1"])
    @pytest.mark.parametrize("form", ["list", "named"])
    def test_sequential_model(self, form: str, version: str, x: Any, tmp_path: Path) -> None:
        (cell,) = cells("LSTM", FEATURES)
        kernel = np.random.default_rng(3).normal(0, 1, (UNITS, 2))
        layers = (
            files.keras_2_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=SHAPE, dtype="float32"),
            files.layer("Dropout", "dropout_1", rate=0.2, noise_shape=None, seed=None),
            files.keras_2_dense("dense_1", 2, activation="hard_sigmoid"),
        )
        config = files.sequential(*layers) if form == "list" else files.named_sequential("sequential_1", *layers)
        weights = {
            "lstm_1": cell.keras_2("lstm_1"),
            "dropout_1": [],
            "dense_1": [("dense_1/kernel:0", kernel), ("dense_1/bias:0", np.array([0.1, -0.2]))],
        }
        path = files.write_h5(tmp_path / "model.h5", config, weights, version, "tensorflow")
        h = reference.recurrent(cell, x)[0][:, -1]
        loaded = assert_answers(path, x, reference.hard_sigmoid(h @ kernel + [0.1, -0.2]))
        assert loaded.notes == (
            f"hard_sigmoid in 'lstm_1', 'dense_1' keeps the meaning that it had in Keras {version}, 0.2 x + 0.5, which "
            "Keras 3 defines otherwise.",
        )

    @pytest.mark.parametrize("told", ["False", "not at all", "True"])
    def test_gru_resets_before_or_after_its_product(self, told: str, x: Any, tmp_path: Path) -> None:
        (cell,) = cells("GRU", FEATURES, reset_after=told == "True")
        setting = {} if told == "not at all" else {"reset_after": told == "True"}
        config = files.sequential(files.keras_2_recurrent("GRU", "gru_1", UNITS, batch_input_shape=SHAPE, **setting))
        path = files.write_h5(tmp_path / "model.h5", config, {"gru_1": cell.keras_2("gru_1")}, VERSION, "tensorflow")
        assert_answers(path, x, reference.recurrent(cell, x)[0][:, -1])

    @pytest.mark.parametrize("version, gate", [("2.2.4", reference.hard_sigmoid), ("2.3.1", reference.sigmoid)])
    def test_default_of_the_recurrent_activation(self, version: str, gate: Any, x: Any, tmp_path: Path) -> None:
        (cell,) = cells("LSTM", FEATURES)
        layer = files.keras_2_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=SHAPE)
        del layer["config"]["recurrent_activation"]
        weights = {"lstm_1": cell.keras_2("lstm_1")}
        path = files.write_h5(tmp_path / "model.h5", files.sequential(layer), weights, version, "tensorflow")
        assert_answers(path, x, reference.recurrent(cell, x, gate=gate)[0][:, -1])

    def test_default_that_is_not_known_is_refused(self, tmp_path: Path) -> None:
        layer = files.keras_2_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=SHAPE)
        del layer["config"]["recurrent_activation"]
        path = files.write_h5(tmp_path / "model.h5", files.sequential(layer), {}, "2.2.4-tf")
        with pytest.raises(LoadError, match="the layer 'lstm_1' does not say its recurrent activation"):
            load_model(path)

    @pytest.mark.parametrize("kind", ["LSTM", "GRU"])
    @pytest.mark.parametrize("wrapped", [False, True])
    def test_cudnn(self, kind: str, wrapped: bool, x: Any, tmp_path: Path) -> None:
        first, second = cells(kind, FEATURES, FEATURES, reset_after=kind == "GRU")
        inner = files.cudnn_recurrent(f"CuDNN{kind}", "fast", UNITS, return_sequences=True)
        if wrapped:
            layer = files.wrapper("Bidirectional", "both", inner, merge_mode="concat", batch_input_shape=SHAPE)
            weights = {"both": first.cudnn("both/forward_fast") + second.cudnn("both/backward_fast")}
            expected = reference.bidirectional(first, second, x, gate=reference.sigmoid)
        else:
            layer, weights = inner, {"fast": first.cudnn("fast")}
            layer["config"]["batch_input_shape"] = SHAPE
            expected, _ = reference.recurrent(first, x, gate=reference.sigmoid)
        path = files.write_h5(tmp_path / "model.h5", files.sequential(layer), weights, VERSION, "tensorflow")
        assert assert_answers(path, x, expected).notes == ()

    def test_weights_of_cudnn_in_an_architecture_without_it(self, x: Any, tmp_path: Path) -> None:
        (cell,) = cells("LSTM", FEATURES)
        layer = files.keras_2_recurrent(
            "LSTM", "lstm_1", UNITS, recurrent_activation="sigmoid", batch_input_shape=SHAPE
        )
        path = files.write_json(tmp_path / "model.json", files.sequential(layer), VERSION, "tensorflow")
        weights = files.write_weights(tmp_path / "w.h5", {"lstm_1": cell.cudnn("lstm_1")}, VERSION, "tensorflow")
        expected = reference.recurrent(cell, x, gate=reference.sigmoid)[0][:, -1]
        assert_answers(path, x, expected, weights=weights)

    def test_stacked_cells(self, x: Any, tmp_path: Path) -> None:
        first, second = cells("LSTM", FEATURES, UNITS)
        settings = files.keras_2_recurrent("LSTM", "", UNITS)["config"]
        kept = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "activity_regularizer")
        inner = [
            {"class_name": "LSTMCell", "config": {k: v for k, v in settings.items() if k not in kept} | {"name": name}}
            for name in ("cell_a", "cell_b")
        ]
        cell = {"class_name": "StackedRNNCells", "config": {"name": "stack", "trainable": True, "cells": inner}}
        layer = files.layer("RNN", "rnn_1", cell=cell, return_sequences=True, return_state=False, go_backwards=False)
        layer["config"] |= {"stateful": False, "unroll": False, "batch_input_shape": SHAPE}
        weights = {"rnn_1": first.keras_2("rnn_1") + second.keras_2("rnn_1_1")}
        weights["rnn_1"] = [(f"{name}_{i}:0", array) for i, (name, array) in enumerate(weights["rnn_1"])]
        weights["rnn_1"] = [(name.replace(":0_", "_"), array) for name, array in weights["rnn_1"]]
        path = files.write_h5(tmp_path / "model.h5", files.sequential(layer), weights, VERSION, "tensorflow")
        h, _ = reference.recurrent(first, x)
        assert_answers(path, x, reference.recurrent(second, h)[0])


class TestGraphs:
    def encoder_decoder(self) -> tuple[Any, Any]:
        nodes = [
            (files.input_layer("source", SHAPE), []),
            (files.keras_2_recurrent("LSTM", "encoder", UNITS, return_state=True), [[files.tensor("source")]]),
            (files.input_layer("target", [None, None, FEATURES]), []),
            (
                files.keras_2_recurrent("LSTM", "decoder", UNITS, return_sequences=True, return_state=True),
                [[files.tensor("target"), files.tensor("encoder", 1), files.tensor("encoder", 2)]],
            ),
        ]
        return files.functional(["source", "target"], ["decoder"], *nodes), cells("LSTM", FEATURES, FEATURES)

    def test_states_among_the_inputs(self, x: Any, tmp_path: Path) -> None:
        config, (first, second) = self.encoder_decoder()
        weights = {"encoder": first.keras_2("encoder"), "decoder": second.keras_2("decoder")}
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION, "tensorflow")
        _, states = reference.recurrent(first, x)
        assert_answers(path, [x, -x[:, :4]], reference.recurrent(second, -x[:, :4], states=states)[0])

    def test_weights_of_two_layers_that_changed_places_are_not_mistaken(self, x: Any, tmp_path: Path) -> None:
        config, (first, second) = self.encoder_decoder()
        weights = {"decoder": second.keras_2("decoder"), "encoder": first.keras_2("encoder")}  # another order
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION, "tensorflow")
        _, states = reference.recurrent(first, x)
        assert_answers(path, [x, x], reference.recurrent(second, x, states=states)[0])

    def test_shared_model_counts_its_calls_from_one(self, x: Any, tmp_path: Path) -> None:
        (cell,) = cells("LSTM", FEATURES)
        inner = files.functional(
            ["in"],
            ["lstm_1"],
            (files.input_layer("in", SHAPE), []),
            (files.keras_2_recurrent("LSTM", "lstm_1", UNITS), [[files.tensor("in")]]),
        )
        inner["config"]["name"] = "twin"
        nodes = [
            (files.input_layer("a", SHAPE), []),
            (files.input_layer("b", SHAPE), []),
            (inner, [[files.tensor("a")], [files.tensor("b")]]),
            (files.layer("Subtract", "minus"), [[files.tensor("twin", node=1), files.tensor("twin", node=2)]]),
        ]
        config = files.functional(["a", "b"], ["minus"], *nodes)
        weights = {"twin": cell.keras_2("lstm_1")}
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION, "tensorflow")
        left, right = (reference.recurrent(cell, one)[0][:, -1] for one in (x, x[::-1]))
        assert_answers(path, [x, x[::-1]], left - right)

    def test_frozen_layers_inside_a_model(self, x: Any, tmp_path: Path) -> None:
        """All trainable weights come first, then the others: those of the frozen layer among them."""
        rng = np.random.default_rng(5)
        frozen, gamma, beta, mean = rng.normal(0, 1, (FEATURES, FEATURES)), *rng.normal(0, 1, (3, FEATURES))
        free, variance = rng.normal(0, 1, (FEATURES, FEATURES)), rng.uniform(0.5, 2, FEATURES)
        norm = {"axis": -1, "momentum": 0.99, "epsilon": 1e-3, "center": True, "scale": True}
        inner = files.named_sequential(
            "inner",
            files.keras_2_dense("a", FEATURES, trainable=False, use_bias=False, batch_input_shape=SHAPE),
            files.layer("BatchNormalization", "norm", **norm),
            files.keras_2_dense("b", FEATURES, use_bias=False),
        )
        config = files.named_sequential("outer", inner)
        weights = {
            "inner": [
                ("norm/gamma:0", gamma),
                ("norm/beta:0", beta),
                ("b/kernel:0", free),
                ("a/kernel:0", frozen),
                ("norm/moving_mean:0", mean),
                ("norm/moving_variance:0", variance),
            ]
        }
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION, "tensorflow")
        expected = (gamma * (x @ frozen - mean) / np.sqrt(variance + 1e-3) + beta) @ free
        assert_answers(path, x, expected)


class TestMasks:
    def test_bidirectional_layers_repeat_their_answers(self, x: Any, tmp_path: Path) -> None:
        forward, backward = cells("LSTM", FEATURES, FEATURES)
        inner = files.keras_2_recurrent("LSTM", "lstm_1", UNITS, return_sequences=True)
        config = files.sequential(
            files.layer("Masking", "masking_1", mask_value=0.0, batch_input_shape=SHAPE),
            files.wrapper("Bidirectional", "both", inner, merge_mode="concat"),
        )
        weights = {"both": forward.keras_2("both/forward_lstm_1") + backward.keras_2("both/backward_lstm_1")}
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION, "tensorflow")
        expected = reference.bidirectional(forward, backward, masked(x), mask=MASK)
        assert np.abs(expected[0, 3, :UNITS]).max() > 0.1  # a masked step, for which Keras 3 answers zero
        assert_answers(path, masked(x), expected)

    @pytest.mark.parametrize("kind", ["Add", "Multiply", "Average", "Maximum", "Concatenate"])
    @pytest.mark.parametrize("second", ["masked", "not masked", "the same"])
    def test_merged_steps_are_valid_where_they_are_in_all_inputs(
        self, kind: str, second: str, x: Any, tmp_path: Path
    ) -> None:
        functions = {
            "Add": np.add,
            "Multiply": np.multiply,
            "Average": lambda a, b: (a + b) / 2,
            "Maximum": np.maximum,
            "Concatenate": lambda a, b: np.concatenate([a, b], -1),
        }
        first, other, last = cells("LSTM", FEATURES, FEATURES, UNITS * (1 + (kind == "Concatenate")))
        masks = {"masked": MASK[::-1], "not masked": np.ones_like(MASK), "the same": MASK}
        nodes: list[Any] = [(files.input_layer(name, SHAPE), []) for name in "ab"]
        nodes += [(files.layer("Masking", f"mask_{name}", mask_value=0.0), [[files.tensor(name)]]) for name in "ab"]
        source = {"masked": "mask_b", "not masked": "b", "the same": "mask_a"}[second]
        nodes += [
            (files.keras_2_recurrent("LSTM", f"lstm_{i}", UNITS, return_sequences=True), [[files.tensor(name)]])
            for i, name in ((1, "mask_a"), (2, source))
        ]
        settings = {"axis": -1} if kind == "Concatenate" else {}
        nodes.append((files.layer(kind, "merged", **settings), [[files.tensor("lstm_1"), files.tensor("lstm_2")]]))
        nodes.append((files.keras_2_recurrent("LSTM", "lstm_3", UNITS), [[files.tensor("merged")]]))
        config = files.functional(["a", "b"], ["lstm_3"], *nodes)
        weights = {f"lstm_{i}": cell.keras_2(f"lstm_{i}") for i, cell in ((1, first), (2, other), (3, last))}
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION, "tensorflow")
        a, b = masked(x), masked(-x, MASK[::-1])
        left, _ = reference.recurrent(first, a, mask=MASK)
        right, _ = reference.recurrent(other, a if second == "the same" else b, mask=masks[second])
        merged = functions[kind](left, right)
        assert_answers(path, [a, b], reference.recurrent(last, merged, mask=MASK & masks[second])[0][:, -1])

    def test_joined_in_time(self, x: Any, tmp_path: Path) -> None:
        (cell,) = cells("LSTM", FEATURES)
        nodes: list[Any] = [(files.input_layer(name, SHAPE), []) for name in "ab"]
        nodes += [(files.layer("Masking", f"mask_{name}", mask_value=0.0), [[files.tensor(name)]]) for name in "ab"]
        joined = files.layer("Concatenate", "concatenate", axis=1)
        nodes.append((joined, [[files.tensor("mask_a"), files.tensor("mask_b")]]))
        nodes.append((files.keras_2_recurrent("LSTM", "lstm_1", UNITS), [[files.tensor("concatenate")]]))
        config = files.functional(["a", "b"], ["lstm_1"], *nodes)
        path = files.write_h5(tmp_path / "model.h5", config, {"lstm_1": cell.keras_2("lstm_1")}, VERSION, "tensorflow")
        a, b = masked(x), masked(-x, MASK[::-1])
        mask = np.concatenate([MASK, MASK[::-1]], 1)
        expected = reference.recurrent(cell, np.concatenate([a, b], 1), mask=mask)[0][:, -1]
        assert_answers(path, [a, b], expected)


class TestBatch:
    @pytest.mark.parametrize("size, stateful", [(32, False), (127, False), (32, True)])
    def test_fixed_size_is_kept_or_replaced(self, size: int, stateful: bool, x: Any, tmp_path: Path) -> None:
        (cell,) = cells("LSTM", FEATURES)
        layer = files.keras_2_recurrent(
            "LSTM", "lstm_1", UNITS, batch_input_shape=[size, TIME, FEATURES], stateful=stateful
        )
        weights = {"lstm_1": cell.keras_2("lstm_1")}
        path = files.write_h5(tmp_path / "model.h5", files.sequential(layer), weights, VERSION, "tensorflow")
        assert load_model(path).model.input_shape == (size, TIME, FEATURES)
        expected = reference.recurrent(cell, x)[0][:, -1]
        loaded = assert_answers(path, x, expected, batch=2)
        assert loaded.model.input_shape == (2, TIME, FEATURES)
        assert loaded.notes[0] == f"The batch size is fixed at 2 in place of {size}."
        assert loaded.model.layers[0].stateful is stateful

    def test_free_size_stays_free(self, tmp_path: Path) -> None:
        (cell,) = cells("LSTM", FEATURES)
        config = files.sequential(files.keras_2_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=SHAPE))
        path = files.write_h5(tmp_path / "model.h5", config, {"lstm_1": cell.keras_2("lstm_1")}, VERSION)
        assert load_model(path, batch=2).model.input_shape == tuple(SHAPE)

    def test_less_than_one(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"batch=0 must be at least 1\."):
            load_model(tmp_path / "model.h5", batch=0)


class TestTheano:
    def test_kernels_are_turned_round(self, x: Any, tmp_path: Path) -> None:
        rng = np.random.default_rng(6)
        kernel, bias = rng.normal(0, 1, (3, FEATURES, UNITS)), rng.normal(0, 1, UNITS)
        settings = {"filters": UNITS, "kernel_size": [3], "strides": [1], "padding": "valid", "dilation_rate": [1]}
        config = files.sequential(
            files.layer("Conv1D", "conv", **settings, activation="linear", use_bias=True, batch_input_shape=SHAPE)
        )
        weights = {"conv": [("conv/kernel", kernel[::-1]), ("conv/bias", bias)]}
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION, "theano")
        assert_answers(path, x, reference.convolve(x, kernel, bias))

    def test_other_kernels_are_refused(self, tmp_path: Path) -> None:
        settings = {"filters": UNITS, "kernel_size": [3], "strides": [1], "padding": "valid", "dilation_rate": [1]}
        settings |= {"depth_multiplier": 1, "use_bias": False, "activation": "linear"}
        config = files.sequential(files.layer("SeparableConv1D", "conv", **settings, batch_input_shape=SHAPE))
        shapes = ((3, FEATURES, 1), (1, FEATURES, UNITS))
        weights = {"conv": [(f"conv/{i}", np.zeros(shape)) for i, shape in enumerate(shapes)]}
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION, "theano")
        with pytest.raises(
            LoadError, match="the layer 'conv' was trained on Theano, which stores its kernels in another"
        ):
            load_model(path)


class TestRefusals:
    def test_time_as_the_first_axis(self, tmp_path: Path) -> None:
        layer = files.keras_2_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=SHAPE, time_major=True)
        path = files.write_h5(tmp_path / "model.h5", files.sequential(layer), {}, "2.4.0")
        with pytest.raises(LoadError, match="the layer 'lstm_1' has time_major=True, so that time is its first axis"):
            load_model(path)

    @pytest.mark.parametrize("kind", ["ragged", "sparse"])
    def test_inputs_of_special_kinds(self, kind: str, tmp_path: Path) -> None:
        config = files.named_sequential("model", files.input_layer("in", SHAPE, **{kind: True}))
        path = files.write_h5(tmp_path / "model.h5", config, {}, "2.4.0")
        with pytest.raises(
            LoadError, match=rf"the layer 'in' takes {kind} tensors, which TensorFlow Lite does not have"
        ):
            load_model(path)

    def test_constants_of_cells(self, tmp_path: Path) -> None:
        layer = files.keras_2_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=SHAPE, num_constants=1)
        path = files.write_h5(tmp_path / "model.h5", files.sequential(layer), {}, VERSION)
        with pytest.raises(LoadError, match="the layer 'lstm_1' has num_constants=1, and constants of recurrent cells"):
            load_model(path)

    @pytest.mark.parametrize(
        "change, message",
        [
            (lambda weights: {"other": weights["lstm_1"]}, r"differ in 'lstm_1', 'other'\. Save the model again"),
            (lambda weights: weights | {"other": [("b:0", np.zeros(2))]}, r"differ in 'other'"),
            (lambda weights: {}, r"differ in 'lstm_1'"),
            (lambda weights: {"lstm_1": weights["lstm_1"][:2]}, r"the layer 'lstm_\w+' has the weights kernel"),
            (lambda weights: {"lstm_1": weights["lstm_1"][::-1]}, r"the layer 'lstm_\w+' has the weights kernel"),
            (lambda weights: {"lstm_1": [*weights["lstm_1"], ("more:0", np.zeros(2))]}, "has the weights"),
            (
                lambda weights: {"lstm_1": [(name.replace("kernel", "gamma"), a) for name, a in weights["lstm_1"]]},
                "has the weights kernel",
            ),
        ],
        ids=["another name", "extra layer", "no layer", "missing weight", "other order", "extra weight", "other kinds"],
    )
    def test_weights_that_do_not_fit(self, change: Any, message: str, tmp_path: Path) -> None:
        (cell,) = cells("LSTM", UNITS)  # features = units: shapes alone would not tell kernels apart
        config = files.sequential(
            files.keras_2_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=[None, TIME, UNITS])
        )
        weights = change({"lstm_1": cell.keras_2("lstm_1")})
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION, "tensorflow")
        with pytest.raises(LoadError, match=message):
            load_model(path)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda config: config.update(config=None),
            lambda config: config.update(config=[]),
            lambda config: config["config"][0].pop("config"),
            lambda config: config["config"].append(7),
            lambda config: config["config"][0]["config"].update(batch_input_shape="wide"),
            lambda config: config["config"][0]["config"].update(units="many"),
        ],
    )
    def test_damaged_configurations(self, damage: Any, tmp_path: Path) -> None:
        config = files.sequential(files.keras_2_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=SHAPE))
        damage(config)
        path = files.write_h5(tmp_path / "model.h5", config, {}, VERSION)
        with pytest.raises(LoadError, match=r"is damaged or of an unknown form|cannot rebuild the model"):
            load_model(path)

    def test_hard_sigmoid_elsewhere_than_in_an_activation(self, tmp_path: Path) -> None:
        config = files.sequential(files.layer("Softmax", "odd", axis="hard_sigmoid", batch_input_shape=SHAPE))
        with pytest.raises(LoadError, match=r"the layer 'odd' has axis='hard_sigmoid', which Keras 2\.2\.4 computes"):
            load_model(files.write_h5(tmp_path / "model.h5", config, {}, VERSION))

    def test_model_without_an_input_shape(self, tmp_path: Path) -> None:
        config = files.sequential(files.keras_2_recurrent("LSTM", "lstm_1", UNITS))
        path = files.write_h5(tmp_path / "model.h5", config, {}, VERSION)
        with pytest.raises(LoadError, match=r"does not tell the shape of its input"):
            load_model(path)


def test_old_function_is_registered_with_its_meaning() -> None:
    values = np.linspace(-4, 4, 33, dtype=np.float32)
    np.testing.assert_allclose(hard_sigmoid_of_keras_2(values), reference.hard_sigmoid(values), rtol=0, atol=1e-6)
