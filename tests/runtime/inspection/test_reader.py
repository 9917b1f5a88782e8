"""Files that nobody vouches for."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.errors import LoadError
from edgelstm.runtime.inspection import Inspection, format_text, inspect, reader

NUM_MUTANTS = 300


def _refusal(path: Path) -> str | None:
    """Returns the sentence with which a file is refused, None if it is inspected; any other error goes through."""
    try:
        inspection = inspect(path)
    except LoadError as error:
        return str(error)
    json.dumps(inspection.to_json(), allow_nan=False)
    assert format_text(inspection)
    return None


def test_mutants_are_inspected_or_refused_with_a_sentence(models: dict[str, Path], tmp_path: Path) -> None:
    original = np.frombuffer(models["sequence_int8"].read_bytes(), np.uint8)
    path, refusals = tmp_path / "mutant.tflite", []
    for seed in range(NUM_MUTANTS):
        rng = np.random.default_rng(seed)
        mutant = original.copy()
        places = rng.integers(8, len(mutant), size=rng.integers(1, 40))
        mutant[places] = rng.choice(np.array([0, 1, 127, 128, 255, *rng.integers(0, 256, 5)], np.uint8), len(places))
        path.write_bytes(mutant.tobytes())
        refusals.append(_refusal(path))
    assert None in refusals
    assert set(refusals) != {None}
    assert all(text is None or text.startswith(f"{path} is truncated or damaged: ") for text in refusals)


def test_truncated_files_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    content = models["int8"].read_bytes()
    path = tmp_path / "cut.tflite"
    for size in range(8, len(content) - 8, 501):
        path.write_bytes(content[:size])
        with pytest.raises(LoadError, match=r"is truncated or damaged: .*; export or download it again"):
            inspect(path)


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "is empty"),
        (b"T", "is not a .tflite file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "a PNG picture"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
        (b"PK\x03\x04" + bytes(64), "a .keras model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\x1c\x00\x00\x00TFL2" + bytes(64), "instead of b'TFL3'"),
        (b"\x08\x00\x00\x00TFL3", "is truncated or damaged"),
        (b"\x00\x00\x00\x00TFL3" + bytes(64), "is truncated or damaged"),
        (b"\xff\xff\xff\xffTFL3" + bytes(64), "is truncated or damaged"),
        (b"\xff" * 4 + b"TFL3" + b"\xff" * 64, "is truncated or damaged"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=re.escape(sentence)) as refusal:
        inspect(path)
    assert str(refusal.value).startswith(str(path))


def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"nowhere\.tflite' cannot be read: No such file or directory"):
        inspect(tmp_path / "nowhere.tflite")
    with pytest.raises(LoadError, match=r"is a folder; give the path of a \.tflite file"):
        inspect(tmp_path)
    with pytest.raises(LoadError, match=r"cannot be read: .*null"):
        inspect("model\0.tflite")
    with pytest.raises(LoadError, match="cannot be read: File name too long"):
        inspect("x" * 5000)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LoadError, match="is not a regular file"):
        inspect(tmp_path / "pipe")


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    path = tmp_path / "model.tflite"
    path.write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so a mode would not do
    with pytest.raises(LoadError, match="cannot be read: Permission denied"):
        inspect(path)


def test_a_file_over_2_gib_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_FILE_BYTES", 100)
    path = tmp_path / "model.tflite"
    path.write_bytes(bytes(101))
    with pytest.raises(LoadError, match="is larger than 2 GiB"):
        inspect(path)


class _Forge:
    """Packs small models that no converter would write."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.buffers, self.model.operatorCodes = (
            3,
            [schema.BufferT()],
            [schema.OperatorCodeT()],
        )
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [self.tensor()], []
        self.graph.inputs = self.graph.outputs = [0]
        self.model.subgraphs = [self.graph]

    @staticmethod
    def tensor() -> Any:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = b"x", [1], 0
        return tensor

    @staticmethod
    def operator(code: int = 0, inputs: Sequence[int] = (0,), outputs: Sequence[int] = (0,)) -> Any:
        operator = schema.OperatorT()
        operator.opcodeIndex = code
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        return operator

    def inspect(self, folder: Path) -> Inspection:
        builder = flatbuffers.Builder(0)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path = folder / "forged.tflite"
        path.write_bytes(bytes(builder.Output()))
        return inspect(path)


def test_the_forged_model_is_sound_until_it_is_broken(tmp_path: Path) -> None:
    inspection = _Forge().inspect(tmp_path)
    assert [tensor.name for tensor in inspection.inputs] == ["x"]
    assert inspection.operators == ()


def _no_graph(forge: _Forge) -> None:
    forge.model.subgraphs = []


def _input_out_of_range(forge: _Forge) -> None:
    forge.graph.inputs = [1]


def _negative_input(forge: _Forge) -> None:
    forge.graph.inputs = [-1]


def _operand_out_of_range(forge: _Forge) -> None:
    forge.graph.operators = [forge.operator(inputs=[0, -2])]


def _code_out_of_range(forge: _Forge) -> None:
    forge.graph.operators = [forge.operator(code=7)]


def _buffer_out_of_range(forge: _Forge) -> None:
    forge.graph.tensors[0].buffer = 9


def _data_behind_the_end(forge: _Forge) -> None:
    forge.model.buffers[0].offset, forge.model.buffers[0].size = 64, 2**62


def _overlapping_data(forge: _Forge) -> None:
    forge.model.buffers = [schema.BufferT() for _ in range(60)]
    forge.graph.tensors = [forge.tensor() for _ in range(60)]
    for index, (buffer, tensor) in enumerate(zip(forge.model.buffers, forge.graph.tensors, strict=True)):
        tensor.buffer, buffer.offset, buffer.size = index, 64 + index, 500


def _too_many_dimensions(forge: _Forge) -> None:
    forge.graph.tensors[0].shape = [2**31 - 1] * 40


def _endless_name(forge: _Forge) -> None:
    forge.graph.tensors[0].name = b"x" * (2**20 + 1)


def _lstm_without_options(forge: _Forge) -> None:
    forge.model.operatorCodes[0].builtinCode = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
    forge.graph.operators = [forge.operator()]


def _loop_over_a_missing_graph(forge: _Forge) -> None:
    forge.model.operatorCodes[0].builtinCode = schema.BuiltinOperator.WHILE
    loop = forge.operator()
    loop.builtinOptions, loop.builtinOptionsType = schema.WhileOptionsT(), schema.BuiltinOptions.WhileOptions
    loop.builtinOptions.bodySubgraphIndex = -1
    forge.graph.operators = [loop]


def _signature_of_a_missing_graph(forge: _Forge) -> None:
    forge.model.signatureDefs = [schema.SignatureDefT()]
    forge.model.signatureDefs[0].subgraphIndex = 5


def _signature_of_a_missing_tensor(forge: _Forge) -> None:
    entry = schema.TensorMapT()
    entry.tensorIndex = 3
    forge.model.signatureDefs = [schema.SignatureDefT()]
    forge.model.signatureDefs[0].inputs = [entry]


@pytest.mark.parametrize(
    "edit, reason",
    [
        (_no_graph, "it holds no graph"),
        (_input_out_of_range, "a tensor index is not below 1"),
        (_negative_input, "a tensor index is not below 1"),
        (_operand_out_of_range, "a tensor index is not below 1"),
        (_code_out_of_range, "an operator has code 7 of 1"),
        (_buffer_out_of_range, "a tensor names buffer 9 of 1"),
        (_data_behind_the_end, "bytes behind the end of the file"),
        (_overlapping_data, "its buffers overlap"),
        (_too_many_dimensions, "a tensor has 40 dimensions"),
        (_endless_name, "a name is 1048577 bytes long"),
        (_lstm_without_options, "an operator UNIDIRECTIONAL_SEQUENCE_LSTM comes without its options"),
        (_loop_over_a_missing_graph, "an operator WHILE calls graph -1 of 1"),
        (_signature_of_a_missing_graph, "a signature names graph 5 of 1"),
        (_signature_of_a_missing_tensor, "a signature names a tensor that is not below 1"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(
    tmp_path: Path, edit: Callable[[_Forge], None], reason: str
) -> None:
    forge = _Forge()
    edit(forge)
    with pytest.raises(LoadError, match=f"is truncated or damaged: .*{re.escape(reason)}"):
        forge.inspect(tmp_path)


def test_a_list_longer_than_the_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    forge = _Forge()
    forge.graph.operators = [forge.operator(inputs=[0] * 77)]
    forge.inspect(tmp_path)
    path = tmp_path / "forged.tflite"
    length = (77).to_bytes(4, "little")
    content = path.read_bytes()
    assert content.count(length) == 1
    path.write_bytes(content.replace(length, (2**31 - 1).to_bytes(4, "little")))
    with pytest.raises(LoadError, match="a list of 2147483647 numbers does not fit"):
        inspect(path)


def test_a_list_that_refers_to_one_part_many_times_is_refused(tmp_path: Path) -> None:
    class SharedOperator(schema.OperatorT):
        """Is written once, however often the graph lists it."""

        offset: int | None = None

        def Pack(self, builder: Any) -> int:
            self.offset = super().Pack(builder) if self.offset is None else self.offset
            return self.offset

    shared = SharedOperator()
    shared.opcodeIndex, shared.inputs, shared.outputs = 0, np.zeros(3_000, np.int32), np.zeros(1, np.int32)
    forge = _Forge()
    forge.graph.operators = [shared] * 3_000
    with pytest.raises(LoadError, match="it refers to more parts than a model has"):
        forge.inspect(tmp_path)


def test_operators_that_call_each_other_in_a_circle_are_inspected(tmp_path: Path) -> None:
    forge = _Forge()
    forge.model.operatorCodes[0].builtinCode = schema.BuiltinOperator.WHILE
    loop = forge.operator()
    loop.builtinOptions, loop.builtinOptionsType = schema.WhileOptionsT(), schema.BuiltinOptions.WhileOptions
    forge.graph.operators = [loop] * 10
    forge.model.buffers[0].data = [1, 2, 3, 4]
    assert len(forge.inspect(tmp_path).loops) == 10


def test_numbers_that_are_not_finite_are_no_obstacle(models: dict[str, Path], tmp_path: Path) -> None:
    for value in (math.nan, math.inf, -math.inf, 0.0, -1.0):
        model = schema.ModelT.InitFromPackedBuf(models["int8"].read_bytes(), 0)
        for tensor in model.subgraphs[0].tensors:
            if tensor.quantization is not None and tensor.quantization.scale is not None:
                tensor.quantization.scale = [value]
        for operator in model.subgraphs[0].operators:
            if isinstance(operator.builtinOptions, schema.UnidirectionalSequenceLSTMOptionsT):
                operator.builtinOptions.cellClip = value
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), b"TFL3")
        path = tmp_path / "model.tflite"
        path.write_bytes(bytes(builder.Output()))
        assert _refusal(path) is None
        assert (inspect(path).to_json()["lstms"][0]["cell_scale"] is None) != math.isfinite(value)


def test_names_are_decoded_and_shown_whatever_their_bytes(tmp_path: Path) -> None:
    forge = _Forge()
    forge.graph.tensors[0].name = b"\x1b[31m\xff\xfe\n\x00"
    inspection = forge.inspect(tmp_path)
    assert inspection.inputs[0].name.startswith("\x1b[31m\ufffd")
    text = format_text(inspection)
    assert "\x1b" not in text
    assert "?[31m" in text
