"""A TFLite flatbuffer as a graph that can be edited: look up, add, rewire, sort, prune, write.

A `Graph` edits one subgraph, the first one unless told otherwise; the others are carried along untouched.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence, Sized
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.flatbuffer import SharingBuilder

FILE_IDENTIFIER = b"TFL3"
ABSENT = -1  # the index of an optional input that is not given

DTYPES: dict[int, Any] = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.BOOL: np.bool_,
}
TENSOR_TYPES = {np.dtype(dtype): tensor_type for tensor_type, dtype in DTYPES.items()}

Array = npt.NDArray[Any]


class Graph:
    """One subgraph of a TFLite model, editable.

    Tensors are named by their index, operators by their `OperatorT` object. Indices of existing
    tensors never change until `prune_tensors`; new tensors are appended.

    Attributes:
        model: The unpacked `ModelT`, shared by the graphs of all its subgraphs.
        position: Number of the subgraph in the model.
        subgraph: The `SubGraphT`.
    """

    def __init__(self, model: Any, position: int = 0) -> None:
        """Wraps a subgraph of an unpacked `ModelT`."""
        self.model = model
        self.position = position
        self.subgraph = model.subgraphs[position]
        if self.subgraph.operators is None:
            self.subgraph.operators = []
        for operator in self.subgraph.operators:
            operator.inputs = [] if operator.inputs is None else [int(i) for i in operator.inputs]
            operator.outputs = [] if operator.outputs is None else [int(i) for i in operator.outputs]
        self.subgraph.inputs = [int(i) for i in self.subgraph.inputs]
        self.subgraph.outputs = [int(i) for i in self.subgraph.outputs]

    @classmethod
    def from_bytes(cls, data: bytes) -> Graph:
        """Reads a complete .tflite file held in memory; the file must come from the converter itself."""
        return cls(schema.ModelT.InitFromPackedBuf(data, 0))

    def to_bytes(self) -> bytes:
        """The model as a .tflite file, deterministic: same graph, same bytes."""
        builder = SharingBuilder(1 << 16)
        builder.Finish(self.model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def add_subgraph(self, name: str) -> Graph:
        """Appends an empty subgraph to the model, for the condition or the body of a loop."""
        subgraph = schema.SubGraphT()
        subgraph.name = name.encode()
        subgraph.tensors, subgraph.operators, subgraph.inputs, subgraph.outputs = [], [], [], []
        self.model.subgraphs.append(subgraph)
        return Graph(self.model, len(self.model.subgraphs) - 1)

    # -- reading

    @property
    def operators(self) -> list[Any]:
        """The operators in execution order."""
        return self.subgraph.operators  # type: ignore[no-any-return]

    def tensor(self, index: int) -> Any:
        """The `TensorT` of an index."""
        return self.subgraph.tensors[index]

    def shape(self, index: int) -> list[int]:
        """The static shape of a tensor."""
        shape = self.tensor(index).shape
        return [] if shape is None else [int(size) for size in shape]

    def code(self, operator: Any) -> int:
        """The builtin operator code of an operator."""
        entry = self.model.operatorCodes[operator.opcodeIndex]
        return max(int(entry.builtinCode), int(entry.deprecatedBuiltinCode))

    def custom_name(self, operator: Any) -> str | None:
        """The name of a custom operator, None for a built-in one."""
        if self.code(operator) != schema.BuiltinOperator.CUSTOM:
            return None
        return str(self.model.operatorCodes[operator.opcodeIndex].customCode.decode("utf-8", "replace"))

    def producer(self, tensor: int) -> Any | None:
        """The operator that writes a tensor, None for inputs and constants."""
        return next((operator for operator in self.operators if tensor in operator.outputs), None)

    def consumers(self, tensor: int) -> list[Any]:
        """The operators that read a tensor."""
        return [operator for operator in self.operators if tensor in operator.inputs]

    def is_used(self, tensor: int) -> bool:
        """Whether an operator or a graph output reads a tensor."""
        return tensor in self.subgraph.outputs or bool(self.consumers(tensor))

    def constant(self, tensor: int) -> Array | None:
        """The value of a constant tensor, None where the tensor is computed at run time."""
        if tensor == ABSENT:
            return None
        entry = self.tensor(tensor)
        data = self.model.buffers[entry.buffer].data
        if data is None or len(data) == 0 or entry.isVariable:
            return None
        dtype = DTYPES[entry.type]
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype).reshape(self.shape(tensor))

    def float_constant(self, tensor: int) -> tuple[Array, bool] | None:
        """The float32 value of a constant, also behind DEQUANTIZE of float16; second, whether it was float16."""
        value = self.constant(tensor)
        if value is not None:
            return value.astype(np.float32), value.dtype == np.float16
        operator = self.producer(tensor)
        if operator is None or self.code(operator) != schema.BuiltinOperator.DEQUANTIZE:
            return None
        value = self.constant(operator.inputs[0])
        if value is None or value.dtype != np.float16:
            return None
        return value.astype(np.float32), True

    # -- writing

    def add_tensor(
        self, name: str, shape: Sequence[int], dtype: Any, *, quantization: Any = None, variable: bool = False
    ) -> int:
        """Appends a tensor without a value and returns its index."""
        entry = schema.TensorT()
        entry.name = name.encode()
        entry.shape = np.asarray(shape, np.int32)
        entry.type = TENSOR_TYPES[np.dtype(dtype)]
        entry.buffer = 0  # buffer 0 is always empty
        entry.isVariable = variable
        entry.quantization = quantization
        entry.hasRank = True
        self.subgraph.tensors.append(entry)
        return len(self.subgraph.tensors) - 1

    def add_constant(self, name: str, value: Array, *, quantization: Any = None) -> int:
        """Appends a constant tensor and returns its index."""
        index = self.add_tensor(name, value.shape, value.dtype, quantization=quantization)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.tensor(index).buffer = len(self.model.buffers) - 1
        return index

    def add_operator(
        self,
        code: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        version: int = 1,
        options: Any = None,
        options_type: int = 0,
        intermediates: Sequence[int] = (),
    ) -> Any:
        """Appends an operator; `sort` puts it in its place."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._operator_code(code, version)
        operator.inputs = list(inputs)
        operator.outputs = list(outputs)
        operator.builtinOptions = options
        operator.builtinOptionsType = options_type
        if intermediates:
            operator.intermediates = list(intermediates)
        self.operators.append(operator)
        return operator

    def _operator_code(self, code: int, version: int) -> int:
        for index, entry in enumerate(self.model.operatorCodes):
            if entry.builtinCode == code and entry.version == version and entry.customCode is None:
                return index
        entry = schema.OperatorCodeT()
        entry.builtinCode = code
        entry.deprecatedBuiltinCode = min(code, 127)  # the schema's old byte field; 127 says "look at builtinCode"
        entry.version = version
        self.model.operatorCodes.append(entry)
        return len(self.model.operatorCodes) - 1

    def replace(self, old: int, new: int) -> None:
        """Lets every reader of a tensor, graph and signature outputs included, read another one."""
        for operator in self.operators:
            operator.inputs = [new if tensor == old else tensor for tensor in operator.inputs]
        self.subgraph.outputs = [new if tensor == old else tensor for tensor in self.subgraph.outputs]
        for signature in self.model.signatureDefs or []:
            for entry in signature.outputs:
                if entry.tensorIndex == old:
                    entry.tensorIndex = new

    def remove(self, operators: Iterable[Any]) -> None:
        """Drops operators; whoever read their outputs must have been rewired before."""
        gone = {id(operator) for operator in operators}
        self.subgraph.operators = [operator for operator in self.operators if id(operator) not in gone]

    # -- putting in order

    def sort(self) -> None:
        """Sorts operators so that each stands behind what it reads, otherwise keeping their order."""
        position = {id(operator): index for index, operator in enumerate(self.operators)}
        written_by = {tensor: operator for operator in self.operators for tensor in operator.outputs}
        waiting: dict[int, int] = {}
        readers: dict[int, list[Any]] = {}
        for operator in self.operators:
            sources = {id(written_by[tensor]) for tensor in operator.inputs if tensor in written_by}
            waiting[id(operator)] = len(sources)
            for source in sources:
                readers.setdefault(source, []).append(operator)
        by_position = list(self.operators)
        ready = [position[id(operator)] for operator in by_position if waiting[id(operator)] == 0]
        heapq.heapify(ready)
        ordered = []
        while ready:
            operator = by_position[heapq.heappop(ready)]
            ordered.append(operator)
            for reader in readers.get(id(operator), ()):
                waiting[id(reader)] -= 1
                if waiting[id(reader)] == 0:
                    heapq.heappush(ready, position[id(reader)])
        assert len(ordered) == len(by_position), "the edited graph has a cycle"
        self.subgraph.operators = ordered

    def prune_operators(self) -> None:
        """Sorts, and drops operators whose outputs nobody reads and operator codes nobody uses."""
        self.sort()
        wanted = set(self.subgraph.outputs)
        kept = []
        for operator in reversed(self.operators):
            if wanted.intersection(operator.outputs):
                kept.append(operator)
                wanted.update(operator.inputs)
        self.subgraph.operators = kept[::-1]
        self._prune_codes()

    def _prune_codes(self) -> None:
        used = sorted({operator.opcodeIndex for graph in self.model.subgraphs for operator in graph.operators or []})
        renumbered = {old: new for new, old in enumerate(used)}
        self.model.operatorCodes = [self.model.operatorCodes[index] for index in used]
        for graph in self.model.subgraphs:
            for operator in graph.operators or []:
                operator.opcodeIndex = renumbered[operator.opcodeIndex]

    def prune_tensors(self) -> None:
        """Drops tensors and buffers nobody refers to, and what says nothing about them; tensor indices change."""
        used = set(self.subgraph.inputs) | set(self.subgraph.outputs)
        for operator in self.operators:
            used.update(operator.inputs, operator.outputs, _indices(operator.intermediates))
        used.discard(ABSENT)
        renumbered = {old: new for new, old in enumerate(sorted(used))}
        renumbered[ABSENT] = ABSENT
        for operator in self.operators:
            operator.inputs = [renumbered[tensor] for tensor in operator.inputs]
            operator.outputs = [renumbered[tensor] for tensor in operator.outputs]
            if operator.intermediates is not None:
                operator.intermediates = [renumbered[tensor] for tensor in _indices(operator.intermediates)]
        self.subgraph.inputs = [renumbered[tensor] for tensor in self.subgraph.inputs]
        self.subgraph.outputs = [renumbered[tensor] for tensor in self.subgraph.outputs]
        for signature in self.model.signatureDefs or []:
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = renumbered[entry.tensorIndex]
        self.subgraph.tensors = [self.subgraph.tensors[index] for index in sorted(used)]
        self._prune_buffers()

    def strip_names(self, keep: Iterable[str] = ()) -> None:
        """Drops the names of all tensors, in whatever subgraph, but those of inputs, outputs and a few others.

        Args:
            keep: Names that tensors are found by.
        """
        kept = {name.encode() for name in keep}
        main = self.model.subgraphs[0]
        ends = {*_indices(main.inputs), *_indices(main.outputs)}
        for graph in self.model.subgraphs:
            for index, tensor in enumerate(graph.tensors):
                if tensor.name not in kept and not (graph is main and index in ends):
                    tensor.name = None

    def _prune_buffers(self) -> None:
        self._drop_empty()
        self._share_buffers()
        used = {0}
        for graph in self.model.subgraphs:
            used.update(int(tensor.buffer) for tensor in graph.tensors)
        used.update(int(entry.buffer) for entry in self.model.metadata or [])
        renumbered = {old: new for new, old in enumerate(sorted(used))}
        self.model.buffers = [self.model.buffers[index] for index in sorted(used)]
        for graph in self.model.subgraphs:
            for tensor in graph.tensors:
                tensor.buffer = renumbered[int(tensor.buffer)]
        for entry in self.model.metadata or []:
            entry.buffer = renumbered[int(entry.buffer)]

    def _drop_empty(self) -> None:
        """Gives tensors without a value the empty buffer 0, and no quantization where it has no numbers."""
        for graph in self.model.subgraphs:
            for tensor in graph.tensors:
                if _is_empty(self.model.buffers[tensor.buffer].data):
                    tensor.buffer = 0
                if tensor.quantization is not None and _says_nothing(tensor.quantization):
                    tensor.quantization = None

    def _share_buffers(self) -> None:
        """Lets constants of equal bytes, in whatever subgraph, refer to one buffer."""
        first: dict[bytes, int] = {}
        for graph in self.model.subgraphs:
            for tensor in graph.tensors:
                data = self.model.buffers[tensor.buffer].data
                if not _is_empty(data) and not tensor.isVariable:
                    tensor.buffer = first.setdefault(np.asarray(data, np.uint8).tobytes(), int(tensor.buffer))


def _indices(values: Iterable[Any] | None) -> list[int]:
    return [] if values is None else [int(value) for value in values]


def _is_empty(values: Sized | None) -> bool:
    return values is None or len(values) == 0


def _says_nothing(parameters: Any) -> bool:
    vectors = (parameters.min, parameters.max, parameters.scale, parameters.zeroPoint)
    return parameters.details is None and all(map(_is_empty, vectors))


def quantization(scale: float, zero_point: int = 0) -> Any:
    """Per-tensor quantization parameters: real value = scale * (stored value - zero point)."""
    parameters = schema.QuantizationParametersT()
    parameters.scale = np.asarray([scale], np.float32)
    parameters.zeroPoint = np.asarray([zero_point], np.int64)
    return parameters
