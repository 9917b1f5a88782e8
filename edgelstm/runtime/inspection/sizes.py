"""Says what the bytes of a file hold, and how many weights there are."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from edgelstm.runtime.inspection.lstm import INPUT, is_lstm, state_positions
from edgelstm.runtime.inspection.records import (
    NO_TENSOR,
    BufferRecord,
    DamagedError,
    GraphRecord,
    ModelRecord,
    OperatorRecord,
    TensorRecord,
)
from edgelstm.runtime.inspection.report import SizeBreakdown


class Role(enum.IntEnum):
    """What a constant is for; where it has several uses, the highest counts."""

    METADATA = 0
    CONSTANT = 1
    OTHER_WEIGHT = 2
    TABLE = 3
    LSTM_WEIGHT = 4


@dataclass(frozen=True)
class WeightTotals:
    """Sizes, number of weights, and bytes of weights by element type."""

    sizes: SizeBreakdown
    parameters: int
    weight_bytes: dict[str, int]


_WEIGHT_ROLES = frozenset({Role.OTHER_WEIGHT, Role.TABLE, Role.LSTM_WEIGHT})
# Position of the table among the inputs of the operators that look up rows.
_TABLE_INPUTS = {"GATHER": 0, "GATHER_ND": 0, "EMBEDDING_LOOKUP": 1, "EMBEDDING_LOOKUP_SPARSE": 4}
# Operators that take even a single value as a weight, such as the bias of one output unit.
_LAYER_OPERATORS = frozenset(
    {
        "BATCH_MATMUL",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "CONV_2D",
        "CONV_3D",
        "CONV_3D_TRANSPOSE",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "PRELU",
        "RNN",
        "SVDF",
        "TRANSPOSE_CONV",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
    }
)
# Operators whose constants are values to choose from or to compare with, such as the zeros behind a mask.
_CHOICE_OPERATORS = frozenset(
    {
        "EQUAL",
        "GREATER",
        "GREATER_EQUAL",
        "LESS",
        "LESS_EQUAL",
        "MAXIMUM",
        "MINIMUM",
        "NOT_EQUAL",
        "PADV2",
        "SELECT",
        "SELECT_V2",
    }
)
_BITS = {
    "int2": 2, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "float16": 16,
    "bfloat16": 16, "int32": 32, "uint32": 32, "float32": 32, "int64": 64, "uint64": 64, "float64": 64,
    "complex64": 64, "complex128": 128,
}  # fmt: skip
_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
_MAX_STEPS = 16  # between a constant and its use: DEQUANTIZE, DENSIFY and calls, which may run in a circle


def measure_weights(model: ModelRecord, size_bytes: int) -> WeightTotals:
    """Divides a file's bytes among their uses.

    Args:
        model: The parsed file.
        size_bytes: Size of the file.

    Raises:
        DamagedError: If buffers overlap, so that they hold more bytes than the file.
    """
    pieces = _pieces(model)
    bytes_by_role = dict.fromkeys(Role, 0)
    weight_bytes: dict[str, int] = {}
    for piece in pieces:
        bytes_by_role[piece.role] += piece.size_bytes
        if piece.role in _WEIGHT_ROLES:
            weight_bytes[piece.dtype] = weight_bytes.get(piece.dtype, 0) + piece.size_bytes
    structure = size_bytes - sum(bytes_by_role.values())
    if structure < 0:
        raise DamagedError("its buffers overlap")
    sizes = SizeBreakdown(
        tables=bytes_by_role[Role.TABLE],
        lstm_weights=bytes_by_role[Role.LSTM_WEIGHT],
        other_weights=bytes_by_role[Role.OTHER_WEIGHT],
        constants=bytes_by_role[Role.CONSTANT],
        metadata=bytes_by_role[Role.METADATA],
        structure=structure,
    )
    parameters = sum(8 * size // _BITS.get(dtype, 8) for dtype, size in weight_bytes.items())
    return WeightTotals(sizes, parameters, dict(sorted(weight_bytes.items())))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of the file that a tensor or the metadata use."""

    role: Role
    dtype: str
    size_bytes: int


def _pieces(model: ModelRecord) -> list[_Piece]:
    """Returns the distinct pieces of the file; what several tensors share is one piece, of the highest role."""
    uses = _Uses(model)
    pieces: dict[int, _Piece] = {}

    def add(buffer: BufferRecord, role: Role, dtype: str) -> None:
        known = pieces.get(buffer.start)
        if buffer.size_bytes and (known is None or known.role < role):
            pieces[buffer.start] = _Piece(role, dtype, buffer.size_bytes)

    for index in model.metadata:
        if index < len(model.buffers):
            add(model.buffers[index], Role.METADATA, "uint8")
    for graph_index, graph in enumerate(model.graphs):
        for tensor_index, tensor in enumerate(graph.tensors):
            buffer = model.buffers[tensor.buffer]
            if buffer.size_bytes:
                add(buffer, uses.role(graph_index, tensor_index), tensor.dtype)
    return list(pieces.values())


class _Uses:
    """Follows constants to the operators that use them, through DEQUANTIZE and into called subgraphs."""

    def __init__(self, model: ModelRecord) -> None:
        self._graphs = model.graphs
        self._roles: dict[tuple[int, int], Role] = {}
        self._consumers: list[dict[int, list[tuple[OperatorRecord, int]]]] = []
        for graph in model.graphs:
            consumers: dict[int, list[tuple[OperatorRecord, int]]] = {}
            for operator in graph.operators:
                if _sets_state(graph, operator):
                    continue  # its inputs stay constants
                for position, tensor in enumerate(operator.inputs):
                    consumers.setdefault(tensor, []).append((operator, position))
            self._consumers.append(consumers)

    def role(self, graph: int, tensor: int, depth: int = 0) -> Role:
        """Returns what a tensor is for, the highest role of all its uses."""
        key = (graph, tensor)
        if key not in self._roles:
            uses = self._consumers[graph].get(tensor, []) if depth < _MAX_STEPS else []
            roles = [self._role_in(graph, tensor, operator, position, depth) for operator, position in uses]
            self._roles[key] = max(roles, default=Role.CONSTANT)
        return self._roles[key]

    def _role_in(self, graph: int, tensor: int, operator: OperatorRecord, position: int, depth: int) -> Role:
        if operator.name in ("DEQUANTIZE", "DENSIFY") and operator.outputs[:1] not in ((), (NO_TENSOR,)):
            return self.role(graph, operator.outputs[0], depth + 1)
        if operator.name in ("WHILE", "IF"):
            return self._role_in_called_graphs(operator, position, depth)
        if is_lstm(operator):
            return _role_in_lstm(operator, position)
        return _role_in(operator, position, self._graphs[graph].tensors[tensor])

    def _role_in_called_graphs(self, operator: OperatorRecord, position: int, depth: int) -> Role:
        """Looks at the uses in a loop's or a branch's graphs; what a loop changes only starts as a constant."""
        position -= operator.name == "IF"  # its first input is the condition
        roles = [Role.CONSTANT]
        for key, graph_index in operator.options.items():
            graph = self._graphs[int(graph_index)]
            if not 0 <= position < len(graph.inputs):
                continue
            inner = graph.inputs[position]
            if key == "body_graph" and graph.outputs[position : position + 1] != (inner,):
                return Role.CONSTANT
            roles.append(self.role(int(graph_index), inner, depth + 1))
        return max(roles)


def _sets_state(graph: GraphRecord, operator: OperatorRecord) -> bool:
    """Returns whether an operator writes into a variable tensor, such as the state of an LSTM."""
    return any(graph.tensors[output].is_variable for output in operator.outputs if output != NO_TENSOR)


def _role_in_lstm(operator: OperatorRecord, position: int) -> Role:
    is_state = any(position in pair for pair in state_positions(operator))
    return Role.CONSTANT if is_state or position == INPUT else Role.LSTM_WEIGHT


def _role_in(operator: OperatorRecord, position: int, tensor: TensorRecord) -> Role:
    is_number = tensor.dtype in _FLOATS or tensor.is_quantized
    if not is_number or operator.name in _CHOICE_OPERATORS:
        return Role.CONSTANT
    if _TABLE_INPUTS.get(operator.name) == position:
        return Role.TABLE
    is_single = all(size == 1 for size in tensor.shape)
    return Role.CONSTANT if is_single and operator.name not in _LAYER_OPERATORS else Role.OTHER_WEIGHT
