from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.errors import ModelRunError
from edgelstm.targets.profile.pieces import Piece
from edgelstm.targets.profile.work import read_work
from tests.one_operator import Op, Tensor, one_operator, pack, unpack
from tests.tiny_models import BATCH, FEATURES, TIME, UNITS, TinyModels


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


def product(rows: int = 5, *, weights: str = "float32", source: str = "float32") -> bytes:
    """A product of (rows, 3) with weights of (4, 3)."""
    scale = None if source == "float32" else 0.1
    return one_operator(
        Op.FULLY_CONNECTED,
        [
            Tensor("x", source, (rows, 3), scale=scale),
            Tensor("w", weights, (4, 3), np.ones((4, 3)), scale=None if weights == "float32" else 0.1),
        ],
        [Tensor("y", source, (rows, 4), scale=scale)],
        schema.FullyConnectedOptionsT(),
    )


def pieces_of(path, content, **settings):
    path.write_bytes(content)
    return read_work(path, **settings).pieces


def test_a_fused_lstm_is_read_as_its_formulas_say(models):
    work = read_work(models["fused_lstm"])
    (lstm,) = [piece for piece in work.pieces if piece.kernel]
    rows = BATCH * TIME
    assert dataclasses.replace(lstm, weights=()) == Piece(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        kernel="lstm_float32",
        macs=rows * 4 * UNITS * (FEATURES + UNITS),
        weight_bytes=4 * 4 * UNITS * (FEATURES + UNITS),
        passes=rows,
        activations=rows * 5 * UNITS,  # three sigmoids and two hyperbolic tangents
        elements=rows * 8 * UNITS,
        moved_bytes=4 * (rows * FEATURES + rows * UNITS + 2 * BATCH * UNITS),
        steps=rows,
        dot_products=rows * 8 * UNITS,
    )
    assert (work.turns, work.expanded_bytes) == (0, 0)
    assert work.file_bytes == models["fused_lstm"].stat().st_size


def test_unrolled_steps_multiply_as_often_as_the_fused_operator(models):
    work = read_work(models["unrolled_lstm"])
    products = [piece for piece in work.pieces if piece.kernel]
    macs = BATCH * TIME * 4 * UNITS * (FEATURES + UNITS)
    assert sum(piece.macs * piece.runs for piece in products) == macs
    assert {piece.kernel for piece in products} == {"float32"}
    assert all(piece.operators == piece.runs for piece in work.pieces)
    activations = sum(piece.activations * piece.runs for piece in work.pieces)
    assert activations == BATCH * TIME * 5 * UNITS


@pytest.mark.parametrize("source, weights, kernel, weight_bytes, quantized", [
    ("float32", "float32", "float32", 48, 0),
    ("float32", "int8", "dynamic", 12, 15),
    ("int8", "int8", "int8", 12, 0),
    ("int16", "int8", "int16", 12, 0),
])  # fmt: skip
def test_the_kernel_follows_from_the_types_of_values_and_weights(
    source, weights, kernel, weight_bytes, quantized, tmp_path
):
    (piece,) = pieces_of(tmp_path / "m.tflite", product(source=source, weights=weights))
    assert (piece.kernel, piece.macs, piece.weight_bytes, piece.quantized) == (kernel, 60, weight_bytes, quantized)
    assert piece.elements == 20


@pytest.mark.parametrize("code, options, shape, found", [
    (Op.TANH, None, (2, 3), {"activations": 6, "moved_bytes": 48}),
    (Op.RESHAPE, schema.ReshapeOptionsT(), (2, 3), {"moved_bytes": 0}),
    (Op.RELU, None, (2, 3), {"elements": 6, "moved_bytes": 48}),
])  # fmt: skip
def test_operators_that_multiply_nothing(code, options, shape, found, tmp_path):
    content = one_operator(code, [Tensor("x", "float32", shape)], [Tensor("y", "float32", shape)], options)
    (piece,) = pieces_of(tmp_path / "m.tflite", content)
    assert piece == Piece(piece.operator, **found)


def test_a_look_up_reads_its_rows_and_not_its_table(tmp_path):
    table = Tensor("table", "float32", (1000, 8), np.zeros((1000, 8)))
    content = one_operator(
        Op.GATHER, [table, Tensor("i", "int32", (3,))], [Tensor("y", "float32", (3, 8))], schema.GatherOptionsT()
    )
    (piece,) = pieces_of(tmp_path / "m.tflite", content)
    assert piece.moved_bytes == 2 * 3 * 8 * 4


def with_open_sizes(content: bytes, *signature: int) -> bytes:
    model = unpack(content)
    for tensor in (model.subgraphs[0].tensors[0], model.subgraphs[0].tensors[-1]):
        tensor.shapeSignature = [*signature, tensor.shape[-1]]
    return pack(model)


def test_a_batch_multiplies_all_but_the_weights(tmp_path, models):
    fixed = tmp_path / "fixed.tflite"
    (one,) = pieces_of(fixed, product(rows=1))
    (eight,) = pieces_of(fixed, product(rows=1), batch=8)
    assert eight == dataclasses.replace(
        one, macs=8 * one.macs, elements=8 * one.elements, moved_bytes=8 * one.moved_bytes
    )
    free = tmp_path / "free.tflite"
    assert pieces_of(free, with_open_sizes(product(rows=1), -1), batch=8) == (eight,)
    assert pieces_of(free, with_open_sizes(product(rows=1), -1)) == (one,)
    lstm, larger = (
        next(piece for piece in read_work(models["fused_lstm"], batch=batch).pieces if piece.steps)
        for batch in (None, 3 * BATCH)
    )
    assert (larger.passes, larger.weight_bytes) == (3 * lstm.passes, lstm.weight_bytes)
    with pytest.raises(ModelRunError, match="needs a file of a batch that divides it, not 2"):
        read_work(models["fused_lstm"], batch=3)


def test_a_length_is_for_files_that_leave_it_open(tmp_path):
    content = one_operator(
        Op.TANH, [Tensor("x", "float32", (1, 1, 3))], [Tensor("y", "float32", (1, 1, 3))], signature=False
    )
    open_file = tmp_path / "open.tflite"
    assert pieces_of(open_file, with_open_sizes(content, 1, -1), length=7)[0].activations == 21
    with pytest.raises(ModelRunError, match="leaves its length open"):
        read_work(open_file)
    fixed = tmp_path / "fixed.tflite"
    with pytest.raises(ModelRunError, match="the file fixes its length, so it has none of 7 steps"):
        pieces_of(fixed, content, length=7)
    assert pieces_of(fixed, content, length=1) == pieces_of(fixed, content)
    other = one_operator(
        Op.TANH, [Tensor("x", "float32", (2, 7, 3))], [Tensor("y", "float32", (2, 7, 3))], signature=False
    )
    assert pieces_of(fixed, other, batch=2, length=7) == pieces_of(fixed, other)
    with pytest.raises(ModelRunError, match="so it has none of 3 steps"):
        pieces_of(fixed, other, length=3)


@pytest.mark.parametrize("content, message", [
    (b"", "is empty"),
    (b"PK\x03\x04 and so on", "is not a .tflite file but a zip archive"),
    (b"\x1c\x00\x00\x00TFL3" + bytes(100), "truncated or damaged"),
])  # fmt: skip
def test_a_damaged_file_is_a_sentence(content, message, tmp_path):
    with pytest.raises(ModelRunError, match=message):
        pieces_of(tmp_path / "m.tflite", content)
    with pytest.raises(ModelRunError, match="cannot be read"):
        read_work(tmp_path / "none.tflite")


def test_a_file_whose_end_is_missing_is_a_sentence(models, tmp_path):
    content = models["fused_lstm"].read_bytes()
    path = tmp_path / "cut.tflite"
    for length in range(8, len(content) // 2, 97):
        path.write_bytes(content[:length])
        with pytest.raises(ModelRunError, match="is truncated or damaged"):
            read_work(path)
