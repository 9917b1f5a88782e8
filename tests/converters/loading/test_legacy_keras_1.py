"""Files of Keras 1: its names, its weights gate by gate, its merges."""

from __future__ import annotations

import itertools
from dataclasses import replace
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
VERSION = "1.2.2"
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


class TestData:
    @pytest.mark.parametrize("kind, reset_after", [("LSTM", False), ("GRU", False), ("GRU", True)])
    def test_swapped_gates_are_seen(self, kind: str, reset_after: bool, x: Any) -> None:
        cell = reference.random_cell(kind, FEATURES, UNITS, 1, reset_after=reset_after)
        right, _ = reference.recurrent(cell, x)
        for part in ("kernels", "recurrents", "biases", *(["recurrent_biases"] if reset_after else [])):
            values = getattr(cell, part)
            for a, b in itertools.combinations(reference.GATES[kind], 2):
                wrong, _ = reference.recurrent(replace(cell, **{part: values | {a: values[b], b: values[a]}}), x)
                assert np.abs(wrong - right).max() > 1000 * TOLERANCE

    def test_todays_hard_sigmoid_is_seen(self, x: Any) -> None:
        cell = reference.random_cell("LSTM", FEATURES, UNITS, 1)
        today, _ = reference.recurrent(cell, x, gate=lambda v: np.clip(v / 6 + 0.5, 0, 1))
        assert np.abs(today - reference.recurrent(cell, x)[0]).max() > 1000 * TOLERANCE


class TestRecurrentLayers:
    @pytest.mark.parametrize("kind", ["LSTM", "GRU"])
    @pytest.mark.parametrize("layout", ["gates", "no names", "theano", "one array", "renamed"])
    def test_every_layout_of_weights(self, kind: str, layout: str, x: Any, tmp_path: Path) -> None:
        cell = reference.random_cell(kind, FEATURES, UNITS, 1)
        name = f"{kind.lower()}_1"
        weights = {
            "gates": cell.keras_1(name),
            "no names": [(f"param_{i}", array) for i, (_, array) in enumerate(cell.keras_1(name))],
            "theano": cell.keras_1(name, ending=""),
            "one array": [
                (f"{name}_{part}:0", array) for part, (_, array) in zip("WUb", cell.keras_2(name), strict=True)
            ],
            # The order of another implementation: names count where they tell the gate.
            "renamed": cell.keras_1(f"{name}_1", order={"LSTM": "ofci", "GRU": "hrz"}[kind], ending="_3:0"),
        }[layout]
        consume = "gpu" if layout == "one array" else "cpu"
        config = files.keras_1_recurrent(kind, name, UNITS, batch_input_shape=SHAPE, consume_less=consume)
        path = files.write_h5(tmp_path / "model.h5", files.sequential(config), {name: weights}, VERSION)
        loaded = assert_answers(path, x, reference.recurrent(cell, x)[0][:, -1])
        assert loaded.model.layers[0].cell.recurrent_activation is hard_sigmoid_of_keras_2
        assert loaded.notes == (
            f"hard_sigmoid in '{name}' keeps the meaning that it had in Keras 1.2.2, 0.2 x + 0.5, which Keras 3 "
            "defines otherwise.",
        )

    def test_simple_recurrent_layer_backwards(self, x: Any, tmp_path: Path) -> None:
        cell = reference.random_cell("SimpleRNN", FEATURES, UNITS, 1)
        weights = [(f"rnn_{part}:0", array) for part, (_, array) in zip("WUb", cell.keras_2("rnn"), strict=True)]
        config = files.keras_1_recurrent("SimpleRNN", "rnn", UNITS, go_backwards=True, input_dim=FEATURES)
        path = files.write_h5(tmp_path / "model.h5", files.sequential(config), {"rnn": weights}, VERSION)
        loaded = assert_answers(path, x, reference.recurrent(cell, x, backwards=True)[0][:, -1])
        assert loaded.model.input_shape == (None, None, FEATURES)
        assert loaded.notes == ()

    def test_stack_with_dense_layers_and_dropout(self, x: Any, tmp_path: Path) -> None:
        first, second = (reference.random_cell("LSTM", size, UNITS, seed) for size, seed in ((FEATURES, 1), (UNITS, 2)))
        rng = np.random.default_rng(3)
        steps, last = rng.normal(0, 1, (UNITS, UNITS)), rng.normal(0, 1, (UNITS, 2))
        bias = rng.normal(0, 1, UNITS)
        config = files.sequential(
            files.keras_1_recurrent("LSTM", "a", UNITS, batch_input_shape=SHAPE, return_sequences=True, dropout_W=0.2),
            files.layer("Dropout", "drop", p=0.5),
            files.keras_1_dense("steps", UNITS, "TimeDistributedDense", input_length=None),
            files.keras_1_recurrent("LSTM", "b", UNITS, inner_activation="sigmoid", dropout_U=0.2),
            files.keras_1_dense(
                "out",
                2,
                activation="softmax",
                bias=False,
                W_regularizer={"name": "WeightRegularizer", "l1": 0.0, "l2": 0.01},
            ),
        )
        weights = {
            "a": first.keras_1("a"),
            "drop": [],
            "steps": [("steps_W:0", steps), ("steps_b:0", bias)],
            "b": second.keras_1("b"),
            "out": [("out_W:0", last)],
        }
        h, _ = reference.recurrent(first, x)
        h, _ = reference.recurrent(second, h @ steps + bias, gate=reference.sigmoid)
        scores = np.exp(h[:, -1] @ last)
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION)
        loaded = assert_answers(path, x, scores / scores.sum(-1, keepdims=True))
        assert "in 'a' keeps" in loaded.notes[0]
        assert loaded.model.layers[-1].kernel_regularizer.l2 == pytest.approx(0.01)

    def test_bidirectional_over_words_with_a_mask(self, tmp_path: Path) -> None:
        words = np.array([[3, 1, 4, 0, 0, 0], [0, 2, 0, 1, 4, 3]])
        table = np.random.default_rng(4).normal(0, 1, (5, FEATURES))
        forward, backward = (reference.random_cell("GRU", FEATURES, UNITS, seed) for seed in (1, 2))
        inner = files.keras_1_recurrent("GRU", "gru_1", UNITS, return_sequences=True)
        config = files.sequential(
            files.keras_1_embedding("words", 5, FEATURES, TIME, mask_zero=True, dropout=0.1),
            files.wrapper("Bidirectional", "both", inner, merge_mode="concat"),
            files.wrapper("TimeDistributed", "steps", files.keras_1_dense("dense_1", 2)),
        )
        kernel = np.random.default_rng(5).normal(0, 1, (2 * UNITS, 2))
        weights = {
            "words": [("words_W:0", table)],
            "both": forward.keras_1("forward_gru_1") + backward.keras_1("backward_gru_1"),
            "steps": [("dense_1_W:0", kernel), ("dense_1_b:0", np.array([0.5, -1.0]))],
        }
        h = reference.bidirectional(forward, backward, table[words], mask=words != 0)
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION)
        loaded = assert_answers(path, words, h @ kernel + [0.5, -1.0])
        assert loaded.model.inputs[0].dtype == "int32"  # what every Embedding makes of its input

    def test_version_that_did_not_write_itself_down(self, x: Any, tmp_path: Path) -> None:
        cell = reference.random_cell("LSTM", FEATURES, UNITS, 1)
        config = files.sequential(files.keras_1_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=SHAPE))
        path = files.write_h5(tmp_path / "model.h5", config, {"lstm_1": cell.keras_1("lstm_1")}, None)
        assert_answers(path, x, reference.recurrent(cell, x)[0][:, -1])


class TestOtherLayers:
    @pytest.mark.parametrize("layout", ["1.0", "1.2", "theano"])
    def test_convolution_in_front(self, layout: str, x: Any, tmp_path: Path) -> None:
        rng = np.random.default_rng(6)
        kernel, bias = rng.normal(0, 1, (3, FEATURES, UNITS)), rng.normal(0, 1, UNITS)
        cell = reference.random_cell("LSTM", UNITS, UNITS, 1)
        old = {
            "1.0": np.transpose(kernel, (2, 1, 0))[..., None],  # (filters, features, length, 1)
            "1.2": kernel[:, None],  # (length, 1, features, filters)
            "theano": kernel[::-1, None],  # a convolution, which turns the kernel round
        }[layout]
        end = "" if layout == "theano" else ":0"
        config = files.sequential(
            files.keras_1_conv1d("conv", UNITS, 3, batch_input_shape=SHAPE, activation="relu"),
            files.layer("MaxPooling1D", "pool", pool_length=2, stride=2, border_mode="valid"),
            files.keras_1_recurrent("LSTM", "lstm_1", UNITS),
        )
        weights = {
            "conv": [(f"conv_W{end}", old), (f"conv_b{end}", bias)],
            "lstm_1": cell.keras_1("lstm_1", ending=end),
        }
        h = np.maximum(reference.convolve(x, kernel, bias), 0).reshape(2, 2, 2, UNITS).max(2)
        path = files.write_h5(tmp_path / "model.h5", config, weights, layout if layout != "theano" else VERSION)
        assert_answers(path, x, reference.recurrent(cell, h)[0][:, -1])

    def test_normalization_and_activations(self, x: Any, tmp_path: Path) -> None:
        rng = np.random.default_rng(8)
        gamma, beta, mean = rng.normal(0, 1, (3, FEATURES))
        variance = rng.uniform(0.5, 2, FEATURES)
        cell = reference.random_cell("LSTM", FEATURES, UNITS, 1)
        norm = {"epsilon": 1e-3, "mode": 0, "axis": -1, "momentum": 0.99, "beta_init": "zero", "gamma_init": "one"}
        config = files.sequential(
            files.layer("BatchNormalization", "norm", batch_input_shape=SHAPE, **norm),
            files.layer("LeakyReLU", "leaky", alpha=0.2),
            files.keras_1_recurrent("LSTM", "lstm_1", UNITS),
            files.layer("Activation", "act", activation="hard_sigmoid"),
            files.layer("GaussianNoise", "noise", sigma=0.1),
            files.layer("ThresholdedReLU", "cut", theta=0.5),
        )
        names = ("norm_gamma:0", "norm_beta:0", "norm_running_mean:0", "norm_running_std:0")
        weights = {
            "norm": list(zip(names, (gamma, beta, mean, variance), strict=True)),
            "lstm_1": cell.keras_1("lstm_1"),
        }
        h = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
        h = reference.hard_sigmoid(reference.recurrent(cell, np.where(h > 0, h, 0.2 * h))[0][:, -1])
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION)
        loaded = assert_answers(path, x, np.where(h > 0.5, h, 0))
        assert "hard_sigmoid in 'lstm_1', 'act' keeps" in loaded.notes[0]


MERGES = {
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
    "max": np.maximum,
    "concat": lambda a, b: np.concatenate([a, b], -1),
    "dot": lambda a, b: np.sum(a * b, -1, keepdims=True),
}


def merge(mode: str, **settings: Any) -> files.Config:
    settings = {"mode_type": "raw", "concat_axis": -1, "dot_axes": [1, 1], "output_shape": None} | settings
    return {"class_name": "Merge", "config": {"name": "merge_1", "mode": mode, "arguments": {}} | settings}


class TestMerges:
    @pytest.mark.parametrize("mode", MERGES)
    def test_of_two_inputs(self, mode: str, x: Any, tmp_path: Path) -> None:
        cells = [reference.random_cell("LSTM", FEATURES, UNITS, seed) for seed in (1, 2)]
        nodes: list[Any] = [(files.input_layer(name, SHAPE, input_dtype="float32"), []) for name in "ab"]
        nodes += [(files.keras_1_recurrent("LSTM", f"lstm_{name}", UNITS), [[files.tensor(name)]]) for name in "ab"]
        nodes.append((merge(mode), [[files.tensor("lstm_a"), files.tensor("lstm_b")]]))
        config = files.functional(["a", "b"], ["merge_1"], *nodes)
        weights = {f"lstm_{name}": cell.keras_1(f"lstm_{name}") for name, cell in zip("ab", cells, strict=True)}
        answers = [reference.recurrent(cell, one)[0][:, -1] for cell, one in zip(cells, (x, -x), strict=True)]
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION)
        assert_answers(path, [x, -x], MERGES[mode](*answers))

    def test_of_two_models_as_the_first_layer(self, x: Any, tmp_path: Path) -> None:
        cells = [reference.random_cell("LSTM", FEATURES, UNITS, seed) for seed in (1, 2)]
        branches = [
            files.sequential(files.keras_1_recurrent("LSTM", f"lstm_{i}", UNITS, batch_input_shape=SHAPE))
            for i in (1, 2)
        ]
        kernel = np.random.default_rng(3).normal(0, 1, (2 * UNITS, 2))
        config = files.sequential(merge("concat", layers=branches), files.keras_1_dense("dense_1", 2))
        weights = {f"lstm_{i}": cell.keras_1(f"lstm_{i}") for i, cell in zip((1, 2), cells, strict=True)}
        weights["dense_1"] = [("dense_1_W:0", kernel), ("dense_1_b:0", np.zeros(2))]
        answers = [reference.recurrent(cell, one)[0][:, -1] for cell, one in zip(cells, (x, 2 * x), strict=True)]
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION)
        assert_answers(path, [x, 2 * x], np.concatenate(answers, -1) @ kernel)

    @pytest.mark.parametrize(
        "settings, message",
        [
            ({"mode": "cos"}, r"the layer 'merge_1' is a Merge with mode='cos', which Keras 3 does not have"),
            ({"mode": ["code", None, None], "mode_type": "lambda"}, r"is a Merge with mode=\['code', None, None\]"),
        ],
    )
    def test_what_has_no_twin_is_refused(self, settings: Any, message: str, tmp_path: Path) -> None:
        nodes = [(files.input_layer(name, SHAPE), []) for name in "ab"]
        last = (merge(**({"mode": "sum"} | settings)), [[files.tensor("a"), files.tensor("b")]])
        config = files.functional(["a", "b"], ["merge_1"], *nodes, last)
        with pytest.raises(LoadError, match=message):
            load_model(files.write_h5(tmp_path / "model.h5", config, {}, VERSION))


class TestTwoFiles:
    def test_architecture_and_weights(self, x: Any, tmp_path: Path) -> None:
        cell = reference.random_cell("GRU", FEATURES, UNITS, 1)
        config = files.sequential(files.keras_1_recurrent("GRU", "gru_1", UNITS, batch_input_shape=SHAPE))
        path = files.write_json(tmp_path / "model.json", config, VERSION)
        weights = files.write_weights(tmp_path / "weights.h5", {"gru_1": cell.keras_1("gru_1")}, VERSION)
        assert_answers(path, x, reference.recurrent(cell, x)[0][:, -1], weights=weights)

    def test_model_in_a_model_takes_the_name_of_its_weights(self, x: Any, tmp_path: Path) -> None:
        first, second = (reference.random_cell("LSTM", size, UNITS, seed) for size, seed in ((FEATURES, 1), (UNITS, 2)))
        inner = files.sequential(
            files.keras_1_recurrent("LSTM", "a", UNITS, batch_input_shape=SHAPE, return_sequences=True),
            files.keras_1_recurrent("LSTM", "b", UNITS, return_sequences=True),
        )
        config = files.sequential(inner, files.layer("Activation", "relu", activation="relu"))
        weights = {"sequential_7": first.keras_1("a") + second.keras_1("b"), "relu": []}
        path = files.write_h5(tmp_path / "model.h5", config, weights, VERSION)
        h, _ = reference.recurrent(second, reference.recurrent(first, x)[0])
        assert_answers(path, x, np.maximum(h, 0))


class TestRefusals:
    @pytest.mark.parametrize(
        "change, message",
        [
            (lambda weights: weights[:-1], r"the layer 'lstm\w*' has the weights .*, and the file holds .* for it"),
            (lambda weights: [*weights, ("more_b:0", np.zeros(UNITS))], r"the layer 'lstm\w*' has the weights"),
            (lambda weights: [*weights[3:], ("lstm_1_W_i:0", np.zeros((FEATURES, UNITS)))], "has the weights"),
            (lambda weights: [(name, np.swapaxes(array, 0, -1)) for name, array in weights], "has the weights"),
            (lambda weights: [], r"differ in 'lstm_1'\. Save the model again"),
        ],
        ids=["missing", "extra", "shifted", "transposed", "none"],
    )
    def test_weights_that_do_not_fit(self, change: Any, message: str, tmp_path: Path) -> None:
        cell = reference.random_cell("LSTM", FEATURES, UNITS, 1)
        config = files.sequential(files.keras_1_recurrent("LSTM", "lstm_1", UNITS, batch_input_shape=SHAPE))
        path = files.write_h5(tmp_path / "model.h5", config, {"lstm_1": change(cell.keras_1("lstm_1"))}, VERSION)
        with pytest.raises(LoadError, match=message):
            load_model(path)

    def test_normalization_with_statistics_of_the_batch(self, tmp_path: Path) -> None:
        config = files.sequential(files.layer("BatchNormalization", "norm", mode=2, axis=-1, batch_input_shape=SHAPE))
        message = r"the layer 'norm' has mode=2, which left Keras in 2\.0"
        with pytest.raises(LoadError, match=message):
            load_model(files.write_h5(tmp_path / "model.h5", config, {}, VERSION))

    def test_layers_that_are_gone(self, tmp_path: Path) -> None:
        config = files.sequential(files.layer("Highway", "high", batch_input_shape=SHAPE))
        with pytest.raises(LoadError, match=r"the layer 'high' is of the class Highway, which is not a part of Keras"):
            load_model(files.write_h5(tmp_path / "model.h5", config, {}, VERSION))

    def test_lambda_stays_refused(self, tmp_path: Path) -> None:
        function = {"function": ["4wEAAAA=", None, None], "function_type": "lambda", "output_shape": None}
        config = files.sequential(files.layer("Lambda", "twice", batch_input_shape=SHAPE, **function))
        with pytest.raises(LoadError, match=r"the layer 'twice' is a Lambda, whose code in the file is never run"):
            load_model(files.write_h5(tmp_path / "model.h5", config, {}, VERSION))
