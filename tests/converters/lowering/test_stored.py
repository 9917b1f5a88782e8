"""How weights are stored where layers have precisions of their own: as was asked for, else as by the converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import edgelstm
from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.stored import WEIGHT_INPUTS
from tests.converters.tiny import RUNTIMES, Array, floats, functional, run_calls

NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
TOKENS = 40
# Of answers of about 1: weights with 11 bits, and weights and inputs with 8.
ERRORS = {"float32": 1e-5, "float16": 5e-3, "dynamic": 0.1}


def many_kinds(*, transposed: bool = True) -> keras.Model:
    """All operators with weights, each of 1,024 weights and more except that of the answer."""
    x, tokens = keras.Input((7, 12), name="x"), keras.Input((7,), dtype="int32", name="tokens")
    y = layers.Concatenate()([x, layers.Embedding(TOKENS, 28, name="words")(tokens)])
    y = layers.Conv1D(40, 2, activation="relu", name="conv")(y)
    y = layers.DepthwiseConv1D(3, depth_multiplier=9, name="depthwise")(y)
    y = layers.EinsumDense("abc,bcd->abd", output_shape=(4, 20), name="einsum")(y)
    y = layers.Conv1DTranspose(22, 3, name="transposed")(y) if transposed else y
    y = layers.LSTM(9, return_sequences=True, name="lstm")(y)
    y = layers.Dense(120, activation="tanh", name="dense")(y)
    y = layers.LSTM(5, name="last")(y)
    return functional([x, tokens], layers.Dense(50, name="answer")(y), seed=2)


KINDS = {
    "words": "GATHER",
    "conv": "CONV_2D",
    "depthwise": "DEPTHWISE_CONV_2D",
    "einsum": "BATCH_MATMUL",
    "transposed": "TRANSPOSE_CONV",
    "dense": "FULLY_CONNECTED",
}


def inputs(calls: int, batch: int = 2) -> dict[str, Array]:
    tokens = np.random.default_rng(1).integers(0, TOKENS, (calls, batch, 7)).astype(np.int32)
    return {"x": floats(calls, batch, 7, 12, seed=4), "tokens": tokens}


def expected(model: keras.Model, data: dict[str, Array]) -> Array:
    return np.stack([np.asarray(model([x, tokens])) for x, tokens in zip(data["x"], data["tokens"], strict=True)])


def convert(folder: Path, **options: Any) -> Path:
    return edgelstm.convert(many_kinds(), folder / "m.tflite", batch=2, **options).path


def weights(path: Path) -> dict[str, list[tuple[str, Array]]]:
    """How the weights of each kind of operator are stored, and their real values, in the order of the file."""
    graph = Graph.from_bytes(path.read_bytes())
    found: dict[str, list[tuple[str, Array]]] = {}
    for operator in graph.operators:
        place = WEIGHT_INPUTS.get(graph.code(operator))
        tensor = None if place is None else operator.inputs[place.position]
        if tensor is None:
            continue
        source = graph.producer(tensor)
        tensor = source.inputs[0] if source is not None and NAMES[graph.code(source)] == "DEQUANTIZE" else tensor
        stored = graph.constant(tensor)
        if stored is not None and stored.ndim > 1 and stored.size > 200:  # no state of an LSTM
            precision = {"float32": "float32", "float16": "float16", "int8": "dynamic"}[stored.dtype.name]
            value = stored if precision != "dynamic" else _real(graph, tensor, stored)
            found.setdefault(NAMES[graph.code(operator)], []).append((precision, value.astype(np.float32)))
    return found


def _real(graph: Graph, tensor: int, stored: Array) -> Array:
    parameters = graph.tensor(tensor).quantization
    shape = [1] * stored.ndim
    shape[parameters.quantizedDimension] = -1
    scale = np.asarray(parameters.scale, np.float32)
    assert not np.any(parameters.zeroPoint)
    return stored.astype(np.float32) * (scale.reshape(shape) if scale.size > 1 else scale)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, list[tuple[str, Array]]]:
    """The weights of a float32 file without layers of their own."""
    return weights(convert(tmp_path_factory.mktemp("plain"), verify=False))


def test_the_model_has_all_operators_with_weights(plain):
    assert set(plain) == set(KINDS.values()) == {NAMES[code] for code in WEIGHT_INPUTS}
    assert {kind: len(found) for kind, found in plain.items()} == {
        kind: 2 if kind == "FULLY_CONNECTED" else 1 for kind in plain
    }


@pytest.mark.parametrize("base", ["float32", "float16", "dynamic"])
def test_each_layer_is_stored_as_asked_and_the_answers_are_right(base, plain, tmp_path):
    chosen = dict(zip(KINDS, ["dynamic", "float16", "float32", "dynamic", "float16", "float32"], strict=True))
    if base == "float32":
        chosen = dict.fromkeys(KINDS, "dynamic")
    path = convert(tmp_path, quantize=base, layers=chosen)
    for name, kind in KINDS.items():
        precision, value = weights(path)[kind][0]
        assert precision == chosen[name], name
        exact = plain[kind][0][1]
        step = {"float32": 0.0, "float16": 2.0**-11, "dynamic": 0.51 / 127}[precision]
        assert np.abs(value - exact).max() <= step * np.abs(exact).max(), name
    # The answer's matrix is smaller than 1,024 elements, which dynamic leaves alone unless it is named.
    assert weights(path)["FULLY_CONNECTED"][-1][0] == {"dynamic": "float32"}.get(base, base)
    model, data = many_kinds(), inputs(6)
    for runtime in RUNTIMES:
        (answers,) = run_calls(path, data, runtime).values()
        assert np.abs(answers - expected(model, data)).max() <= ERRORS["dynamic"]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_is_dynamic_in_no_layer_is_as_exact_as_its_precision(precision, tmp_path):
    path = convert(tmp_path, quantize="dynamic", layers=dict.fromkeys((*KINDS, "lstm", "last", "answer"), precision))
    model, data = many_kinds(), inputs(6)
    (answers,) = run_calls(path, data).values()
    assert np.abs(answers - expected(model, data)).max() <= ERRORS[precision]


def test_the_smallest_named_matrix_becomes_int8(tmp_path):
    path = convert(tmp_path, quantize="float32", layers={"answer": "dynamic"}, verify=False)
    assert [precision for precision, _ in weights(path)["FULLY_CONNECTED"]] == ["float32", "dynamic"]


@pytest.mark.parametrize("base", ["float16", "dynamic"])
def test_what_has_no_precision_of_its_own_is_stored_as_the_converter_stores_it(base, tmp_path):
    # Runtimes before 2.17 refuse what the converter makes of a transposed convolution in dynamic.
    stock, ours = (
        edgelstm.convert(
            many_kinds(transposed=False), tmp_path / f"{len(given)}.tflite", quantize=base, layers=given, verify=False
        ).path
        for given in ({}, {"lstm": base})
    )
    there, here = weights(stock), weights(ours)
    assert there.keys() == here.keys()
    for kind, found in there.items():
        for (precision, value), (own_precision, own) in zip(found, here[kind], strict=True):
            assert own_precision == precision, kind
            # A weight in the middle between two steps may be rounded the other way.
            differ = np.abs(own - value) > 1e-6 * np.abs(value).max()
            assert differ.mean() < 0.01
            assert np.abs(own - value).max() <= 1.01 * np.abs(value).max() / 127
    operators = [edgelstm.inspect(path).operators for path in (stock, ours)]
    assert operators[0] == operators[1]


def test_float16_reaches_the_weights_in_a_loop_of_keras(tmp_path):
    x = keras.Input((6, 4), name="x")
    y = layers.GRU(20, name="gru")(layers.LSTM(8, return_sequences=True, name="lstm")(x))
    model = functional(x, y)
    path = edgelstm.convert(model, tmp_path / "m.tflite", quantize="float16", layers={"lstm": "float32"}).path
    sizes = edgelstm.inspect(path).weight_bytes
    kernel, recurrent = 4 * 8 * (4 + 8) + 4 * 8, 3 * 20 * (8 + 20)
    assert sizes["float16"] >= 2 * recurrent
    assert 4 * kernel <= sizes["float32"] <= 4 * kernel + 400
