"""The parts of a .tflite file that inspection needs, as plain values whose indices are known to be in range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NO_TENSOR = -1  # index that stands for an optional input that is left out


class DamagedError(Exception):
    """Says what is wrong with a file's content, without a capital and a full stop; ends as a `LoadError`."""


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """One tensor of a subgraph.

    Attributes:
        name: Name in the file, possibly empty.
        shape: Sizes; -1 where the file leaves a size open.
        dtype: Element type as numpy spells it, for instance "float32", or "int4" where numpy has none.
        buffer: Index of the buffer that holds the tensor's constant data; an empty buffer if it has none.
        is_variable: Whether the tensor keeps its value between calls.
        scale: Step of a per-tensor quantization, None without one.
        zero_point: Zero point of a per-tensor quantization, None without one.
        is_quantized: Whether the tensor has any scale, per tensor or per channel.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int
    is_variable: bool
    scale: float | None
    zero_point: int | None
    is_quantized: bool


@dataclass(frozen=True, slots=True)
class OperatorRecord:
    """One operator of a subgraph.

    Attributes:
        name: Name in upper case for a built-in operator, the custom code for a custom one.
        is_custom: Whether the operator is a custom one.
        inputs: Tensor indices, `NO_TENSOR` for one that is left out.
        outputs: Tensor indices.
        intermediates: Tensor indices.
        options: The options that inspection uses, of the LSTM, the control flow operators and ADD.
        version: Version of the operator, 1 or more; runtimes refuse versions that they are too old for.
    """

    name: str
    is_custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options: Mapping[str, int | float | bool]
    version: int = 1


@dataclass(frozen=True, slots=True)
class GraphRecord:
    """One subgraph; its operators stand in the order of execution."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tensors: tuple[TensorRecord, ...]
    operators: tuple[OperatorRecord, ...]

    def tensor(self, indices: tuple[int, ...], position: int) -> TensorRecord | None:
        """Returns the tensor at a position of an index list, None if it is left out or the list is too short."""
        if position >= len(indices) or indices[position] == NO_TENSOR:
            return None
        return self.tensors[indices[position]]


@dataclass(frozen=True, slots=True)
class BufferRecord:
    """Where a buffer's data lies in the file: first byte and number of bytes."""

    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SignatureRecord:
    """One signature: names of inputs and outputs with their tensor indices in a subgraph."""

    key: str
    graph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A whole file; `metadata` are the indices of the buffers that hold metadata, `metadata_names` their names."""

    description: str
    graphs: tuple[GraphRecord, ...]
    buffers: tuple[BufferRecord, ...]
    metadata: frozenset[int] = frozenset()
    signatures: tuple[SignatureRecord, ...] = field(default=())
    metadata_names: frozenset[str] = frozenset()
