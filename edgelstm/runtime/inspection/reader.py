"""Reads a .tflite file that nobody vouches for: every index and length is checked, and the work is bounded."""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.errors import LoadError
from edgelstm.runtime.inspection.records import (
    NO_TENSOR,
    BufferRecord,
    DamagedError,
    GraphRecord,
    ModelRecord,
    OperatorRecord,
    SignatureRecord,
    TensorRecord,
)

IDENTIFIER = b"TFL3"
MAX_FILE_BYTES = 2**31  # what offsets within a flatbuffer can span; larger models are not for small devices
MAX_RANK = 32  # runtimes take 8 at most
MAX_NAME_BYTES = 2**20  # the converter joins the names of fused layers into long ones
MAX_WORK = 2_000_000  # an unrolled LSTM of 1,000 steps takes about 600,000; this many take seconds
TABLE_WORK = 10  # reading a table costs as much as ten numbers

# What damaged bytes make the accessors of the format and numpy raise.
DAMAGE = (
    struct.error,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)

_OTHER_FORMATS = (
    (b"\x89HDF", "an HDF5 file (a Keras model?): convert it first"),
    (b"PK\x03\x04", "a zip archive (a .keras model?): convert it first"),
    (b"\x89PNG", "a PNG picture: give the path of a .tflite file"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the real file with `git lfs pull`"),
    (b"<", "a web page or XML file: download the model itself"),
)


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_OPERATORS = _names(schema.BuiltinOperator)
_DTYPES = {value: name.lower() for value, name in _names(schema.TensorType).items()}


def read_bytes(path: Path) -> bytes:
    """Reads a whole model file.

    Raises:
        LoadError: If the file is missing, not a regular file, not readable, too large, or not a .tflite file.
    """
    try:
        # A pipe would block for ever in open(), a device would never end.
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise LoadError(f"{path} is {kind}; give the path of a .tflite file.")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LoadError(f"{str(path)!r} cannot be read: {reason}.") from error
    except MemoryError as error:
        raise LoadError(f"{path} does not fit into memory.") from error
    _check_format(path, data)
    return data


def _check_format(path: Path, data: bytes) -> None:
    if not data:
        raise LoadError(f"{path} is empty; export or download the model again.")
    if len(data) > MAX_FILE_BYTES:
        raise LoadError(f"{path} is larger than 2 GiB, the most that can be inspected.")
    if data[4:8] == IDENTIFIER:
        return
    for start, advice in _OTHER_FORMATS:
        if data.startswith(start):
            raise LoadError(f"{path} is not a .tflite file but {advice}.")
    raise LoadError(f"{path} is not a .tflite file: bytes 4 to 8 are {data[4:8]!r} instead of {IDENTIFIER!r}.")


def parse(data: bytes) -> ModelRecord:
    """Parses the content of a model file.

    Args:
        data: The file's content, with the right identifier.

    Raises:
        DamagedError: If parts do not fit together, or there are more of them than the file can hold.
        Exception: One of `DAMAGE`, where an offset leads outside the file.
    """
    return _Reader(data).model()


class _Reader:
    """Walks one file. Offsets may point to the same place many times, so the work is counted, not the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._base = _address(np.frombuffer(data, np.uint8))
        self._work_left = MAX_WORK

    def model(self) -> ModelRecord:
        model = schema.Model.GetRootAs(self._data, 0)
        buffers = tuple(self._buffer(table) for table in self._tables(model.BuffersLength(), model.Buffers))
        codes = [self._operator_code(c) for c in self._tables(model.OperatorCodesLength(), model.OperatorCodes)]
        graphs = tuple(
            self._graph(table, codes, len(buffers)) for table in self._tables(model.SubgraphsLength(), model.Subgraphs)
        )
        if not graphs:
            raise DamagedError("it holds no graph")
        for graph in graphs:
            _check_called_graphs(graph, len(graphs))
        entries = self._tables(model.MetadataLength(), model.Metadata)
        metadata = [table.Buffer() for table in entries]
        metadata += self._numbers(model.MetadataBufferLength(), model.MetadataBufferAsNumpy)
        signatures = self._tables(model.SignatureDefsLength(), model.SignatureDefs)
        return ModelRecord(
            description=self._text(model.Description()),
            graphs=graphs,
            buffers=buffers,
            metadata=frozenset(metadata),
            signatures=tuple(self._signature(table, graphs) for table in signatures),
            metadata_names=frozenset(self._text(table.Name()) for table in entries),
        )

    def _spend(self, work: int) -> None:
        self._work_left -= work
        if self._work_left < 0:
            raise DamagedError("it refers to more parts than a model has")

    def _tables(self, length: int, get: Callable[[int], Any]) -> list[Any]:
        if length * 4 > len(self._data):
            raise DamagedError(f"a list of {length} parts does not fit into {len(self._data)} bytes")
        self._spend(length * TABLE_WORK)
        return [get(index) for index in range(length)]

    def _numbers(self, length: int, as_numpy: Callable[[], Any]) -> tuple[int, ...]:
        if length == 0:
            return ()
        if length * 4 > len(self._data):
            raise DamagedError(f"a list of {length} numbers does not fit into {len(self._data)} bytes")
        self._spend(length)
        return tuple(as_numpy().tolist())

    def _text(self, value: bytes | None) -> str:
        if value is None:
            return ""
        if len(value) > MAX_NAME_BYTES:
            raise DamagedError(f"a name is {len(value)} bytes long")
        self._spend(len(value) // 64)
        return value.decode("utf-8", errors="replace")

    def _buffer(self, table: Any) -> BufferRecord:
        if table.Offset() > 1:  # large files keep their data behind the flatbuffer; 0 and 1 are placeholders
            start, size = table.Offset(), table.Size()
        elif table.DataLength() == 0:
            return BufferRecord(0, 0)
        else:
            size = table.DataLength()
            if size > len(self._data):
                raise DamagedError(f"a buffer of {size} bytes does not fit into {len(self._data)} bytes")
            start = _address(table.DataAsNumpy()) - self._base
        if start + size > len(self._data):
            raise DamagedError(f"a buffer ends {start + size - len(self._data)} bytes behind the end of the file")
        return BufferRecord(start, size)

    def _operator_code(self, table: Any) -> tuple[str, bool, int]:
        # Codes up to 127 stand in the old 8-bit field, later ones in the new field; the other holds less.
        code = max(table.DeprecatedBuiltinCode(), table.BuiltinCode())
        if code == schema.BuiltinOperator.CUSTOM:
            return self._text(table.CustomCode()) or "CUSTOM", True, table.Version()
        return _OPERATORS.get(code, f"BUILTIN {code}"), False, table.Version()

    def _graph(self, table: Any, codes: list[tuple[str, bool, int]], num_buffers: int) -> GraphRecord:
        tensors = tuple(self._tensor(t, num_buffers) for t in self._tables(table.TensorsLength(), table.Tensors))
        operators = self._tables(table.OperatorsLength(), table.Operators)
        return GraphRecord(
            inputs=self._indices(table.InputsLength(), table.InputsAsNumpy, len(tensors), 0),
            outputs=self._indices(table.OutputsLength(), table.OutputsAsNumpy, len(tensors), 0),
            tensors=tensors,
            operators=tuple(self._operator(operator, codes, len(tensors)) for operator in operators),
        )

    def _tensor(self, table: Any, num_buffers: int) -> TensorRecord:
        shape = self._numbers(table.ShapeSignatureLength(), table.ShapeSignatureAsNumpy)
        shape = shape or self._numbers(table.ShapeLength(), table.ShapeAsNumpy)
        if len(shape) > MAX_RANK:
            raise DamagedError(f"a tensor has {len(shape)} dimensions")
        if table.Buffer() >= num_buffers:
            raise DamagedError(f"a tensor names buffer {table.Buffer()} of {num_buffers}")
        quantization = table.Quantization()
        num_scales = 0 if quantization is None else quantization.ScaleLength()
        is_per_tensor = num_scales == 1
        return TensorRecord(
            name=self._text(table.Name()),
            shape=shape,
            dtype=_DTYPES.get(table.Type(), f"type {table.Type()}"),
            buffer=table.Buffer(),
            is_variable=bool(table.IsVariable()),
            scale=float(quantization.Scale(0)) if is_per_tensor else None,
            zero_point=_zero_point(quantization) if is_per_tensor else None,
            is_quantized=num_scales > 0,
        )

    def _operator(self, table: Any, codes: list[tuple[str, bool, int]], num_tensors: int) -> OperatorRecord:
        if table.OpcodeIndex() >= len(codes):
            raise DamagedError(f"an operator has code {table.OpcodeIndex()} of {len(codes)}")
        name, is_custom, version = codes[table.OpcodeIndex()]
        return OperatorRecord(
            name=name,
            is_custom=is_custom,
            inputs=self._indices(table.InputsLength(), table.InputsAsNumpy, num_tensors, NO_TENSOR),
            outputs=self._indices(table.OutputsLength(), table.OutputsAsNumpy, num_tensors, NO_TENSOR),
            intermediates=self._indices(
                table.IntermediatesLength(), table.IntermediatesAsNumpy, num_tensors, NO_TENSOR
            ),
            options={} if is_custom else _options(table, name),
            version=version,
        )

    def _indices(self, length: int, as_numpy: Callable[[], Any], num_tensors: int, lowest: int) -> tuple[int, ...]:
        indices = self._numbers(length, as_numpy)
        if indices and not lowest <= min(indices) <= max(indices) < num_tensors:
            raise DamagedError(f"a tensor index is not below {num_tensors}")
        return indices

    def _signature(self, table: Any, graphs: tuple[GraphRecord, ...]) -> SignatureRecord:
        graph = table.SubgraphIndex()
        if graph >= len(graphs):
            raise DamagedError(f"a signature names graph {graph} of {len(graphs)}")
        return SignatureRecord(
            key=self._text(table.SignatureKey()),
            graph=graph,
            inputs=self._tensor_map(table.InputsLength(), table.Inputs, graphs[graph]),
            outputs=self._tensor_map(table.OutputsLength(), table.Outputs, graphs[graph]),
        )

    def _tensor_map(self, length: int, get: Callable[[int], Any], graph: GraphRecord) -> tuple[tuple[str, int], ...]:
        entries = [(self._text(table.Name()), table.TensorIndex()) for table in self._tables(length, get)]
        if any(index >= len(graph.tensors) for _, index in entries):
            raise DamagedError(f"a signature names a tensor that is not below {len(graph.tensors)}")
        return tuple(entries)


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def _zero_point(quantization: Any) -> int:
    return int(quantization.ZeroPoint(0)) if quantization.ZeroPointLength() else 0


def _lstm_options(options: Any) -> dict[str, int | float | bool]:
    return {"activation": int(options.FusedActivationFunction()), "cell_clip": float(options.CellClip())}


def _old_lstm_options(options: Any) -> dict[str, int | float | bool]:
    return {**_lstm_options(options), "is_basic": options.KernelType() == schema.LSTMKernelType.BASIC}


def _sequence_lstm_options(options: Any) -> dict[str, int | float | bool]:
    return {**_lstm_options(options), "time_major": bool(options.TimeMajor())}


# Operator -> (the type its options have, how to read them). Keys that end in "_graph" are subgraph indices.
# An ADD may come without, the others not.
_OptionsReader = tuple[type, int, Callable[[Any], dict[str, int | float | bool]]]
_OPTIONS: Mapping[str, _OptionsReader] = {
    "ADD": (
        schema.AddOptions,
        schema.BuiltinOptions.AddOptions,
        lambda options: {"activation": int(options.FusedActivationFunction())},
    ),
    "LSTM": (schema.LSTMOptions, schema.BuiltinOptions.LSTMOptions, _old_lstm_options),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (
        schema.UnidirectionalSequenceLSTMOptions,
        schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions,
        _sequence_lstm_options,
    ),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (
        schema.BidirectionalSequenceLSTMOptions,
        schema.BuiltinOptions.BidirectionalSequenceLSTMOptions,
        _sequence_lstm_options,
    ),
    "WHILE": (
        schema.WhileOptions,
        schema.BuiltinOptions.WhileOptions,
        lambda options: {"cond_graph": options.CondSubgraphIndex(), "body_graph": options.BodySubgraphIndex()},
    ),
    "IF": (
        schema.IfOptions,
        schema.BuiltinOptions.IfOptions,
        lambda options: {"then_graph": options.ThenSubgraphIndex(), "else_graph": options.ElseSubgraphIndex()},
    ),
}


def _options(table: Any, name: str) -> dict[str, int | float | bool]:
    """Reads the options of an LSTM, a control flow operator or an ADD; those of others do not matter here."""
    if name not in _OPTIONS:
        return {}
    options_class, options_type, read = _OPTIONS[name]
    union = table.BuiltinOptions()
    if name == "ADD" and (union is None or table.BuiltinOptionsType() != options_type):
        return {}
    if union is None or table.BuiltinOptionsType() != options_type:
        raise DamagedError(f"an operator {name} comes without its options")
    options = options_class()
    options.Init(union.Bytes, union.Pos)
    return read(options)


def _check_called_graphs(graph: GraphRecord, num_graphs: int) -> None:
    for operator in graph.operators:
        for key, value in operator.options.items():
            if key.endswith("_graph") and not 0 <= value < num_graphs:
                raise DamagedError(f"an operator {operator.name} calls graph {int(value)} of {num_graphs}")
