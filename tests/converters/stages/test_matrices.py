from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgelstm.converters.stages.matrices import Matrix, choose, matrices_of, notes_on_others, parse_overrides
from edgelstm.errors import SettingError, StageError
from tests.converters.forms import BY_NAME, LeakyCell

WHERE = ("Setting 'layers'", "Setting 'overrides'")


def names(model: Any) -> list[str]:
    return sorted(matrix.name for matrix in matrices_of(model))


def matrix(layer: Any, shape: tuple[int, ...], suffix: str) -> Matrix:
    layer.build(shape)
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    return next(each for each in matrices_of(model) if each.name.endswith(suffix))


@pytest.mark.parametrize(
    "layer, gates",
    [(layers.LSTM(3), 4), (layers.GRU(3), 3), (layers.SimpleRNN(3), 1)],
    ids=["lstm", "gru", "simple_rnn"],
)
def test_gates_are_matrices_of_their_own(layer, gates):
    for suffix, rows in (("/kernel", 5), ("recurrent_kernel", 3)):
        found = matrix(layer, (None, 7, 5), suffix)
        weights = np.arange(rows * 3 * gates).reshape(rows, 3 * gates)
        pieces = found.view.split(weights)
        np.testing.assert_array_equal(pieces, np.split(weights, gates, axis=1))
        np.testing.assert_array_equal(found.view.join(pieces, weights.shape), weights)


@pytest.mark.parametrize(
    "layer, shape, suffix",
    [
        (layers.Dense(4), (None, 5), "kernel"),
        (layers.Conv1D(4, 3), (None, 7, 5), "kernel"),
        (layers.Conv2D(4, (3, 2)), (None, 7, 6, 5), "kernel"),
        (layers.Conv2DTranspose(4, (3, 2)), (None, 7, 6, 5), "kernel"),
        (layers.DepthwiseConv2D((3, 2), depth_multiplier=2), (None, 7, 6, 5), "kernel"),
        (layers.SeparableConv1D(4, 3), (None, 7, 5), "pointwise_kernel"),
        (layers.SeparableConv1D(4, 3), (None, 7, 5), "depthwise_kernel"),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (None, 7, 5), "kernel"),
        (layers.EinsumDense("abcd,cde->abe", (None, 3)), (None, 7, 5, 2), "kernel"),
        (layers.EinsumDense("abc,bcd->abd", (7, 3)), (None, 7, 5), "kernel"),
        (layers.EinsumDense("...x,yx->...y", 3), (None, 7, 5), "kernel"),
    ],
    ids=lambda value: value.name if isinstance(value, layers.Layer) else None,
)
def test_a_row_reads_inputs_and_a_column_writes_outputs(layer, shape, suffix):
    """The columns of a weight's matrix tell which features of the answer it can move."""
    found = matrix(layer, shape, suffix)
    weights, x = found.read(), np.random.default_rng(0).normal(size=(2, *shape[1:])).astype(np.float32)
    columns = found.view.split(np.zeros(weights.shape)).shape[2]
    positions = np.broadcast_to(np.arange(columns), found.view.split(np.zeros(weights.shape)).shape)
    column_of = found.view.join(positions, weights.shape)
    before = np.asarray(layer(x))
    moved: dict[int, set[tuple[int, ...]]] = {column: set() for column in range(columns)}
    for index in np.ndindex(weights.shape):
        changed = weights.copy()
        changed[index] += 1
        found.variable.assign(changed)
        features = np.argwhere(np.abs(np.asarray(layer(x)) - before).max(axis=0) > 1e-6)
        tail = features[:, -(2 if suffix == "kernel" and "bde" in getattr(layer, "equation", "") else 1) :]
        moved[int(column_of[index])] |= {tuple(each) for each in tail}
    if suffix == "depthwise_kernel":  # what comes between is mixed once more
        return
    assert len({frozenset(each) for each in moved.values()}) == columns
    assert all(len(each) == 1 for each in moved.values())


def test_embeddings_are_rows_of_tokens():
    model = keras.Sequential([keras.Input((4,)), layers.Embedding(9, 5)])
    (found,) = matrices_of(model)
    assert found.view.split(found.read()).shape == (1, 9, 5)


def test_matrices_are_found_wherever_they_are_and_each_once():
    x = keras.Input((7, 5))
    shared = layers.LSTM(5, return_sequences=True, name="shared")
    inner = keras.Sequential([keras.Input((7, 5)), layers.GRU(5, return_sequences=True, name="gru")], name="inner")
    y = inner(shared(shared(x)))
    y = layers.Bidirectional(layers.LSTM(2, return_sequences=True, name="reader"), name="both")(inner(y))
    y = layers.TimeDistributed(layers.Dense(3, name="dense"), name="steps")(layers.BatchNormalization()(y))
    y = layers.MultiHeadAttention(2, 3, name="attention")(y, y)
    cells = [layers.LSTMCell(3, name="first"), layers.SimpleRNNCell(2, name="second")]
    model = keras.Model(x, layers.LayerNormalization()(layers.RNN(cells, name="cells")(y)))
    both = [f"both/{way}_reader/{kind}kernel" for way in ("forward", "backward") for kind in ("", "recurrent_")]
    attention = [f"attention/{part}/kernel" for part in ("query", "key", "value", "attention_output")]
    stack = next(layer.name for layer in model.layers[-2].cell._flatten_layers(recursive=False))
    inside = [f"cells/{stack}/{name}/{kind}kernel" for name in ("first", "second") for kind in ("", "recurrent_")]
    top = ["shared/kernel", "shared/recurrent_kernel", "inner/gru/kernel", "inner/gru/recurrent_kernel"]
    assert names(model) == sorted([*top, *both, "steps/dense/kernel", *attention, *inside])
    assert notes_on_others(model, matrices_of(model)) == ()


def test_what_is_not_known_is_told():
    x = keras.Input((7, 5))
    y = layers.RNN(LeakyCell(name="leaky"), name="reader", return_sequences=True)(layers.LSTM(5)(x)[:, None])
    model = keras.Model(x, layers.Dense(2, name="answer")(layers.LayerNormalization()(y)))
    assert [name for name in names(model) if "reader" in name] == []
    assert notes_on_others(model, matrices_of(model)) == (
        "Layer 'reader/leaky' (LeakyCell) is left as it is: weights of its kind are not known.",
    )


def test_quantized_layers_and_lora_are_left_alone():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="adapted"), layers.Dense(8, name="plain")])
    model.get_layer("adapted").enable_lora(2)
    assert names(model) == ["plain/kernel"]
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8)])
    model.layers[0].quantize("int8")
    assert names(model) == []


@pytest.fixture(scope="module")
def nested() -> Any:
    inner = keras.Sequential(
        [keras.Input((7, 5)), layers.LSTM(4, name="lstm"), layers.Dense(4, name="dense")], name="in"
    )
    x = keras.Input((7, 5))
    outer = layers.LSTM(5, name="lstm", return_sequences=True)(x)
    return keras.Model(x, layers.Dense(2, name="dense")(layers.Dropout(0.5, name="drop")(inner(outer))))


@pytest.mark.parametrize(
    "chosen, overrides, expected",
    [
        ("all", {}, {"lstm": 0.8, "dense": 0.8, "in/lstm": 0.8, "in/dense": 0.8}),
        ("in", {}, {"in/lstm": 0.8, "in/dense": 0.8}),
        ("in/lstm, Dense", {}, {"in/lstm": 0.8, "in/dense": 0.8, "dense": 0.8}),
        ("LSTM", {"in": 0}, {"lstm": 0.8}),
        ("LSTM", {"in/dense": 0.3}, {"lstm": 0.8, "in/lstm": 0.8, "in/dense": 0.3}),
        ("all", {"in": 0.1, "lstm": 0.5}, {"lstm": 0.5, "dense": 0.8, "in/lstm": 0.5, "in/dense": 0.1}),
        ("all", {"lstm": 0.5, "LSTM": 0.2}, {"lstm": 0.5, "dense": 0.8, "in/lstm": 0.5, "in/dense": 0.8}),
        ("LSTM", {"LSTM": 0.5, "in/lstm": 0.3}, {"lstm": 0.5, "in/lstm": 0.3}),
    ],
)
def test_layers_are_chosen_by_name_path_and_class(nested, chosen, overrides, expected):
    found = choose(nested, WHERE, chosen, 0.8, overrides)
    assert {each.name.rpartition("/")[0]: value for each, value in found} == expected
    assert len(found) == sum(2 if "lstm" in name else 1 for name in expected)


def test_a_single_weight_can_be_chosen(nested):
    found = choose(nested, WHERE, "all", 0.8, {"recurrent_kernel": 0.0, "in/lstm/recurrent_kernel": 0.5, "Dense": 0.0})
    assert {each.name: value for each, value in found} == {
        "lstm/kernel": 0.8,
        "in/lstm/kernel": 0.8,
        "in/lstm/recurrent_kernel": 0.5,
    }


@pytest.mark.parametrize(
    "chosen, overrides, message",
    [
        ("lsmt", {}, "'layers' names 'lsmt', which is no layer of the model. Did you mean 'lstm'\\? It has .*in/dense"),
        ("all", {"densee": 0.5}, "'overrides' names 'densee', which is no layer of the model. Did you mean 'dense'"),
        ("all", {"in/lsmt": 0.5}, "Did you mean 'in/lstm'"),
        ("drop", {}, "names 'drop', a layer \\(Dropout\\) without weights that can be changed"),
    ],
)
def test_unknown_layers_are_told_with_the_nearest_name(nested, chosen, overrides, message):
    with pytest.raises(SettingError, match=message):
        choose(nested, WHERE, chosen, 0.8, overrides)


def test_nothing_to_change_is_an_error(nested):
    with pytest.raises(StageError, match="the settings leave every layer alone"):
        choose(nested, WHERE, "LSTM", 0.8, {"LSTM": 0})
    with pytest.raises(StageError, match="no layer of a known kind"):
        choose(BY_NAME["custom_cell"].build(), WHERE, "all", 0.8, {})


def test_overrides_are_read():
    assert parse_overrides("it", " a=0.5, in/b = 0,") == {"a": 0.5, "in/b": 0.0}
    assert parse_overrides("it", "") == {}


@pytest.mark.parametrize("text", ["a", "a=", "=0.5", "a=b", "a=nan", "a=1=2", "a:0.5"])
def test_overrides_written_otherwise_are_refused(text):
    with pytest.raises(SettingError, match=r"it must be written as 'layer=number, other=number', which '.*' is not"):
        parse_overrides("it", text)
