"""Layers with a precision of their own: which there are, how they are named, and what is refused."""

from __future__ import annotations

import keras
import pytest
from keras import layers

import edgelstm
from edgelstm.converters.graph import ABSENT, Graph
from edgelstm.converters.lowering.calls import Loop, LstmCall, Trace
from edgelstm.converters.lowering.mixed import coarsest, layer_of, precision_layers, resolve_layers, scope_name
from edgelstm.errors import LoweringError
from tests.converters.tiny import FEATURES, TIME, UNITS, floats, sequential
from tests.tiny_models import affine


def everything() -> keras.Model:
    """A model with all kinds of layers that can have a precision of their own, and some that cannot."""
    x = keras.Input((8, 6), name="x")
    tokens = keras.Input((8,), dtype="int32", name="tokens")
    y = layers.Concatenate()([x, layers.Embedding(9, 4, name="words")(tokens)])
    y = layers.SeparableConv1D(6, 3, padding="same", name="separable")(layers.Conv1D(5, 3, padding="same", name="c")(y))
    y = layers.LayerNormalization()(y)
    y = layers.Bidirectional(layers.LSTM(3, return_sequences=True, name="inner"), name="both")(y)
    y = layers.MultiHeadAttention(2, 3, name="attention")(y, y)
    y = layers.TimeDistributed(layers.Dense(4, name="each"), name="steps")(y)
    encoder = keras.Sequential(
        [layers.Input((8, 4)), layers.LSTM(3, return_sequences=True, name="lstm")], name="encoder"
    )
    y = layers.GRU(3, name="gru", return_sequences=True)(encoder(y))
    y = layers.RNN(layers.LSTMCell(3), name="cells")(layers.Dropout(0.5, name="dropout")(y))
    return keras.Model([x, tokens], layers.Dense(2, name="answer")(y))


def test_the_layers_are_listed_in_graph_order_by_path():
    assert precision_layers(everything()) == [
        "words",
        "c",
        "separable",
        "both/forward_inner",
        "both/backward_inner",
        "attention/query",
        "attention/key",
        "attention/value",
        "attention/attention_output",
        "steps",
        "encoder/lstm",
        "cells",
        "answer",
    ]


def test_a_shared_layer_is_listed_once():
    x, shared = keras.Input((TIME, FEATURES)), layers.LSTM(FEATURES, return_sequences=True, name="shared")
    assert precision_layers(keras.Model(x, shared(shared(x)))) == ["shared"]


# Names

PATHS = ["embedding", "both/forward_inner", "both/backward_inner", "encoder/lstm", "encoder/dense", "answer"]


def traced() -> Trace:
    names = [*PATHS, "both", "encoder", "dropout", "gru"]
    calls = [LstmCall(0, "both/forward_inner", UNITS, "tanh"), LstmCall(1, "lookalike", UNITS, "tanh")]
    return Trace(calls, [Loop("gru", "its cell is a GRUCell")], paths=dict(enumerate(names)), weighted=list(PATHS))


def test_a_layer_that_holds_others_stands_for_all_of_them():
    assert resolve_layers({"both": "float32"}, traced()) == {
        "both/forward_inner": "float32",
        "both/backward_inner": "float32",
    }


def test_the_nearest_name_decides_whatever_the_order():
    for names in (("encoder", "encoder/lstm"), ("encoder/lstm", "encoder")):
        given = {name: {"encoder": "float16", "encoder/lstm": "float32"}[name] for name in names}
        assert resolve_layers(given, traced()) == {"encoder/lstm": "float32", "encoder/dense": "float16"}


def test_int8_takes_a_layer_out_again():
    given = {"encoder": "dynamic", "encoder/dense": "int8"}
    assert resolve_layers(given, traced()) == {"encoder/lstm": "dynamic"}


def test_a_traced_lstm_can_have_one_even_if_the_model_does_not_list_it():
    assert resolve_layers({"lookalike": "float32"}, traced()) == {"lookalike": "float32"}


@pytest.mark.parametrize(
    "name, text",
    [
        (
            "encodr/lstm",
            r"There is no layer 'encodr/lstm'.* Did you mean 'encoder/lstm'\? Layers that can: embedding, ",
        ),
        ("lstm", r"There is no layer 'lstm'.* Did you mean 'encoder/lstm'\?"),
        ("enc", r"There is no layer 'enc' to give a precision of its own\. Layers that can: embedding"),
        ("dropout", r"Layer 'dropout' has no weights that could have a precision of their own\. Layers that can: emb"),
        ("gru", r"Layer 'gru' cannot have a precision of its own: its cell is a GRUCell, so it stays Keras' own loop"),
    ],
)
def test_names_without_weights_are_refused_with_those_that_have_some(name, text):
    with pytest.raises(LoweringError, match=text):
        resolve_layers({"answer": "float32", name: "float32"}, traced())


def test_a_long_list_of_layers_is_cut():
    with pytest.raises(LoweringError, match=r"layer_10, layer_11 and 3 more\.$"):
        resolve_layers({"x": "float32"}, Trace(weighted=[f"layer_{number}" for number in range(15)]))


@pytest.mark.parametrize(
    "precisions, expected",
    [
        (["float32"], "float32"),
        (["float32", "float16"], "float16"),
        (["float16", "dynamic", "float32"], "dynamic"),
        (["float32", "int8"], "int8"),
    ],
)
def test_the_coarsest_precision_is_that_with_the_largest_error(precisions, expected):
    assert coarsest(precisions) == expected


# Whose an operator is


def owner(weights: str, output: str, known: list[str]) -> str | None:
    graph = Graph.from_bytes(affine())
    constant, result = graph.add_tensor(weights, [2, 2], "float32"), graph.add_tensor(output, [2, 2], "float32")
    operator = graph.add_operator(9, [constant], [result])
    return layer_of(graph, operator, constant, known)


@pytest.mark.parametrize(
    "weights, output, path",
    [
        ("model_1/dense_1/MatMul", "output", "dense"),
        ("model_1/dense_1_2/MatMul", "output", "dense_1"),
        ("arith.constant7", "model_1/dense_1/BiasAdd;model_1/dense_1_2/MatMul", "dense_1"),
        ("model_1/dense_1/MatMul", "model_1/dense_1/MatMul;model_1/relu_1/Relu", "dense"),
        ("model_1/encoder_1/dense_1/MatMul", "x", "encoder/dense"),
        ("model_1/frames_1/dense_1/MatMul1", "model_1/frames_1/Reshape_1", "frames/cnn/dense"),
        ("model_1/frames_1/other_1/MatMul1", "model_1/frames_1/Reshape_1", None),
        ("model_1/LSTM_____1/MatMul", "x", "LSTM №1"),
        ("arith.constant", "output", None),
    ],
)
def test_scopes_tell_the_layer_of_an_operator(weights, output, path):
    known = ["dense", "dense_1", "encoder/dense", "frames/cnn/dense", "LSTM №1"]
    if path == "LSTM №1":
        weights = f"model_1/{scope_name(path)}_1/MatMul"
    assert owner(weights, output, known) == path


def test_without_weights_the_output_alone_decides():
    graph = Graph.from_bytes(affine())
    result = graph.add_tensor("model_1/dense_1/Tanh", [2, 2], "float32")
    assert layer_of(graph, graph.add_operator(28, [], [result]), ABSENT, ["dense"]) == "dense"


# At the door


def small() -> keras.Model:
    return sequential(
        layers.Input((TIME, FEATURES), name="x"), layers.LSTM(UNITS, name="lstm_1"), layers.Dropout(0.5, name="dropout")
    )


@pytest.mark.parametrize(
    "given, error, text",
    [
        ({"lstm_2": "float32"}, LoweringError, r"There is no layer 'lstm_2'.* Did you mean 'lstm_1'\?"),
        ({"dropout": "float32"}, LoweringError, "Layer 'dropout' has no weights"),
        ({"lstm_1": "int4"}, ValueError, r"layers=\{'lstm_1': 'int4'\} is not known, only 'dynamic', 'float16'"),
        ({"lstm_1": "int8"}, ValueError, r"layers=\{'lstm_1': 'int8'\} needs quantize='int8', not 'dynamic'"),
    ],
)
def test_a_refused_layer_leaves_nothing_behind(given, error, text, tmp_path):
    with pytest.raises(error, match=text):
        edgelstm.convert(small(), tmp_path / "m.tflite", quantize="dynamic", layers=given)
    assert list(tmp_path.iterdir()) == []


def test_int8_is_what_a_layer_of_an_int8_file_is_anyway(tmp_path):
    model, data, files = small(), floats(20, TIME, FEATURES), []
    for given in (None, {"lstm_1": "int8"}):
        path = tmp_path / f"{len(files)}.tflite"
        edgelstm.convert(model, path, quantize="int8", layers=given, calibration=data, verify=False)
        files.append(path.read_bytes())
    assert files[0] == files[1]
