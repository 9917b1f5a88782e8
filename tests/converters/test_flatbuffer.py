"""Equal parts of a file stand once, and what is read back is what was written."""

from __future__ import annotations

import copy
import functools
import itertools
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import edgelstm
from edgelstm.converters.flatbuffer import BUFFER_ALIGNMENT, SharingBuilder
from edgelstm.converters.graph import Graph, quantization
from tests.converters.tiny import floats, run_calls, sequential
from tests.tiny_models import affine_int8, fused_lstm, two_by_two

Op = schema.BuiltinOperator
STEPS, FEATURES = 12, 6
# Bytes of an LSTM of 8 units and a dense layer: 4,304 and 5,200; without sharing they are 4,736 and 6,032.
BOUNDS = {"dynamic": 4_400, "int8": 5_300}


class PlainBuilder(flatbuffers.Builder):
    """Writes every part anew."""

    def CreateNumpyVector(self, x):
        if x.dtype != np.uint8:
            return super().CreateNumpyVector(x)
        self.StartVector(1, x.size, BUFFER_ALIGNMENT)
        self.head = self.Head() - x.size
        self.Bytes[self.Head() : self.Head() + x.size] = x.tobytes()
        self.vectorNumElems = x.size
        return self.EndVector()


def plain_bytes(model: Any) -> bytes:
    builder = PlainBuilder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def read(data: bytes) -> Any:
    return schema.ModelT.InitFromPackedBuf(data, 0)


def assert_equal(one: Any, other: Any, where: str = "model") -> None:
    """Compares all fields of all objects; floats by their bits."""
    assert type(one) is type(other), where
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        assert one.shape == other.shape, where
        assert one.tobytes() == other.tobytes(), where
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{where}[{index}]")
    elif hasattr(one, "__dict__"):
        assert vars(one).keys() == vars(other).keys(), where
        for name in vars(one):
            assert_equal(getattr(one, name), getattr(other, name), f"{where}.{name}")
    else:
        assert one == other, where


def graph_of_equal_parts() -> Graph:
    """Equal and nearly equal shapes, scales, names, options, signatures and whole tensors."""
    model = schema.ModelT()
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], []
    subgraph = schema.SubGraphT()
    subgraph.tensors, subgraph.operators, subgraph.inputs, subgraph.outputs = [], [], [], []
    model.subgraphs = [subgraph]
    graph = Graph(model)
    x = graph.add_tensor("x", [1, 8], np.float32)
    twins = [graph.add_tensor("twin", [1, 8], np.float32) for _ in range(2)]
    scales = (0.5, 0.25, 0.5, 0.0, -0.0)
    quantized = [graph.add_tensor(f"q{i}", [8, 1], np.int8, quantization=quantization(s)) for i, s in enumerate(scales)]
    per_row = quantization(0.5)
    per_row.scale, per_row.zeroPoint = np.array([0.5, 0.5], np.float32), np.array([0, 0], np.int64)
    quantized.append(graph.add_tensor("rows", [1, 8], np.int8, quantization=per_row))
    for value in (np.zeros(2, np.int32), np.zeros(1, np.int64), np.zeros(8, np.int8)):
        graph.add_constant("zeros", value)
    for alpha, target in zip((0.5, 0.25, 0.5), [*twins, *quantized], strict=False):
        options = schema.LeakyReluOptionsT()
        options.alpha = alpha
        graph.add_operator(
            Op.LEAKY_RELU, [x], [target], options=options, options_type=schema.BuiltinOptions.LeakyReluOptions
        )
    for code, kind in ((Op.ADD, "AddOptions"), (Op.MUL, "MulOptions")):  # both empty, of different types
        options = getattr(schema, f"{kind}T")()
        graph.add_operator(code, twins, [x], options=options, options_type=getattr(schema.BuiltinOptions, kind))
    graph.subgraph.inputs, graph.subgraph.outputs = [x], [twins[0], quantized[0]]
    model.signatureDefs = [_signature(key, "xy"[i], i) for i, key in enumerate((b"one", b"two"))]
    return graph


def _signature(key: bytes, name: str, tensor: int) -> Any:
    signature, entry = schema.SignatureDefT(), schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), tensor
    signature.signatureKey, signature.inputs, signature.outputs = key, [entry], [copy.copy(entry)]
    return signature


GRAPHS = {
    "equal parts": graph_of_equal_parts,
    **{
        function.__name__: functools.partial(lambda make: Graph.from_bytes(make()), function)
        for function in (fused_lstm, affine_int8, two_by_two)
    },
}
every_graph = pytest.mark.parametrize("name", GRAPHS)


@every_graph
def test_what_is_read_back_is_what_an_unshared_file_says(name):
    graph = GRAPHS[name]()
    plain, shared = plain_bytes(graph.model), graph.to_bytes()
    assert len(shared) < len(plain)
    assert_equal(read(shared), read(plain))


@every_graph
def test_the_same_graph_gives_the_same_bytes(name):
    graph = GRAPHS[name]()
    assert graph.to_bytes() == graph.to_bytes() == Graph.from_bytes(graph.to_bytes()).to_bytes()


def test_the_comparison_sees_every_field():
    reference = read(graph_of_equal_parts().to_bytes())
    changes = [
        lambda model: setattr(model.subgraphs[0].tensors[1], "name", b"twim"),
        lambda model: setattr(model.subgraphs[0].tensors[7].quantization, "scale", np.zeros(1, np.float32)),
        lambda model: setattr(model.subgraphs[0].operators[1].builtinOptions, "alpha", 0.5),
        lambda model: setattr(model.signatureDefs[1].inputs[0], "tensorIndex", 0),
        lambda model: setattr(model.subgraphs[0].tensors[0], "shape", np.array([8, 1], np.int32)),
    ]
    for change in changes:
        changed = copy.deepcopy(reference)
        change(changed)
        with pytest.raises(AssertionError):
            assert_equal(changed, reference)


def test_equal_parts_stand_at_one_place():
    model = schema.Model.GetRootAs(graph_of_equal_parts().to_bytes(), 0)
    graph = model.Subgraphs(0)
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    assert tensors[1]._tab.Pos == tensors[2]._tab.Pos
    assert len({_place(tensor, 4) for tensor in tensors if list(tensor.ShapeAsNumpy()) == [1, 8]}) == 1
    scales = [tensor.Quantization() for tensor in tensors[3:8]]
    assert scales[0]._tab.Pos == scales[2]._tab.Pos
    assert len({scale._tab.Pos for scale in scales}) == 4
    assert len({_place(scale, 10) for scale in scales}) == 1  # zero points


def _place(table: Any, field: int) -> int:
    return int(table._tab.Vector(table._tab.Offset(field)))


def test_texts_may_be_given_as_text_or_bytes():
    builder = SharingBuilder(16)
    assert builder.CreateString("größe") == builder.CreateString("größe".encode()) != builder.CreateString("groesse")


def test_vectors_of_references_are_never_shared():
    """Their bytes are distances: those of two lists may be equal while what they lead to differs."""
    builder = SharingBuilder(16)
    lists = []
    for text in ("abcd", "efgh"):
        string = builder.CreateString(text)
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(string)
        lists.append(builder.EndVector())
    data = [bytes(builder.Bytes[len(builder.Bytes) - offset :][:8]) for offset in lists]
    assert data[0] == data[1]
    assert lists[0] != lists[1]


def test_vectors_of_equal_bytes_but_other_elements_are_not_shared():
    builder = SharingBuilder(16)
    dtypes = (np.int16, np.int32, np.int64)
    offsets = [builder.CreateNumpyVector(np.zeros(8 // np.dtype(dtype).itemsize, dtype)) for dtype in dtypes]
    assert len(set(offsets)) == len(dtypes)
    assert builder.CreateNumpyVector(np.zeros(2, np.int32)) == offsets[1]
    assert builder.CreateNumpyVector(np.zeros(3, np.int32)) not in offsets


def test_tables_keep_their_layout_wherever_they_begin():
    """Numbers of 8 bytes are padded as their place demands, so that equal tables may have layouts of their own."""
    builder, written = SharingBuilder(16), []
    for index, start in enumerate((5, 5, 6, 5, 6, 7, 7, 8)):
        builder.CreateString(f"{index}" * (index % 3))
        schema.BufferStart(builder)
        schema.BufferAddOffset(builder, start)
        schema.BufferAddSize(builder, 9)
        written.append((start, schema.BufferEnd(builder)))
    builder.Finish(written[-1][1])
    data = builder.Output()
    for start, offset in written:
        table = schema.Buffer()
        table.Init(data, len(data) - offset)
        assert (table.Offset(), table.Size()) == (start, 9)
    assert len({offset for _, offset in written}) == len({start for start, _ in written})


def test_what_is_taken_back_leaves_no_trace():
    """A part behind one that was taken back is the same as without it."""
    once, twice = SharingBuilder(16), SharingBuilder(16)
    for builder, times in ((once, 1), (twice, 3)):
        for _ in range(times):
            shape = builder.CreateNumpyVector(np.arange(5, dtype=np.int64))
            schema.TensorStart(builder)
            schema.TensorAddShape(builder, shape)
            schema.TensorAddBuffer(builder, 7)
            tensor = schema.TensorEnd(builder)
        builder.Finish(tensor)
    assert bytes(once.Output()) == bytes(twice.Output())


# A converted file


def small_model(quantize: str, folder: Path) -> tuple[Path, Graph]:
    model = sequential(
        layers.Input((STEPS, FEATURES), name="x"), layers.LSTM(8, name="lstm"), layers.Dense(1, name="answer")
    )
    data = floats(20, STEPS, FEATURES)
    artifact = edgelstm.convert(model, folder / "m.tflite", quantize=quantize, calibration=data, verify=False)
    return artifact.path, Graph.from_bytes(artifact.path.read_bytes())


@pytest.mark.parametrize("quantize", BOUNDS)
def test_a_small_lstm_is_a_small_file_and_answers_the_same_bits(quantize, tmp_path):
    path, graph = small_model(quantize, tmp_path)
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(plain_bytes(graph.model))
    assert path.stat().st_size <= BOUNDS[quantize] < plain.stat().st_size
    calls = {"x": floats(4, 1, STEPS, FEATURES, seed=1)}
    one, other = run_calls(path, calls), run_calls(plain, calls)
    assert len(np.unique(one["answer"])) > 1
    np.testing.assert_array_equal(one["answer"], other["answer"])


@pytest.mark.parametrize("quantize", BOUNDS)
def test_a_file_holds_nothing_that_says_nothing(quantize, tmp_path):
    _, graph = small_model(quantize, tmp_path)
    assert graph.model.buffers[1:]
    assert all(buffer.data is not None for buffer in graph.model.buffers[1:])
    for tensor in graph.subgraph.tensors:
        assert tensor.quantization is None or tensor.quantization.scale is not None
    texts = [buffer.data.tobytes() for buffer in graph.model.buffers[1:]]
    assert not any(one == other for one, other in itertools.combinations(texts, 2))
