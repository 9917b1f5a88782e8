"""What a .tflite file makes a processor do, operator by operator, without running it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelstm.errors import LoadError, ModelRunError
from edgelstm.runtime.inspection.lstm import INPUT_TO_FORGET_WEIGHTS, is_lstm
from edgelstm.runtime.inspection.macs import operator_macs
from edgelstm.runtime.inspection.reader import DAMAGE, parse, read_bytes
from edgelstm.runtime.inspection.records import (
    NO_TENSOR,
    DamagedError,
    GraphRecord,
    ModelRecord,
    OperatorRecord,
    TensorRecord,
)
from edgelstm.targets.profile.loops import count_turns
from edgelstm.targets.profile.pieces import Piece, lstm_piece, plain_piece, product_piece, size_bytes

_MAX_DEPTH = 4  # loops within loops


@dataclass(frozen=True)
class Work:
    """What one call of a model makes a processor do.

    Attributes:
        pieces: The operators; those that are alike stand once, with their number of runs.
        turns: Turns of all loops.
        file_bytes: Size of the file.
        expanded_bytes: Float32 copies of float16 weights, made when the model is loaded.
        live_bytes: Most memory that is in use at once for tensors that are no constants, variables included.
    """

    pieces: tuple[Piece, ...]
    turns: int
    file_bytes: int
    expanded_bytes: int
    live_bytes: int


def read_work(path: Path, *, batch: int | None = None, length: int | None = None) -> Work:
    """Reads what a model makes a processor do.

    Args:
        path: The .tflite file.
        batch: First dimension of every input; None as in the file, 1 where that leaves it open.
        length: Time steps, where the file leaves them open; else those of the file, or None.

    Raises:
        ModelRunError: If the file is damaged or no .tflite file, or leaves open how much is to be computed.
    """
    try:
        data = read_bytes(path)
        model = parse(data)
        return _Reader(path, data, model, batch, length).work()
    except LoadError as error:
        raise ModelRunError(str(error)) from error
    except (DamagedError, *DAMAGE) as error:
        raise ModelRunError(f"{path} is truncated or damaged ({error}); export or download it again.") from error


class _Reader:
    """Walks one file with the sizes that are asked for."""

    def __init__(self, path: Path, data: bytes, model: ModelRecord, batch: int | None, length: int | None) -> None:
        self._path, self._data = path, data
        self._factor = 1
        if batch is not None and (fixed := _fixed_batch(model.graphs[0])) is not None:
            if batch % fixed:
                raise ModelRunError(
                    f"{path}: an estimate for batch {batch} needs a file of a batch that divides it, not {fixed}. "
                    "Convert the model with batch=1."
                )
            self._factor = batch // fixed
        is_open = any(-1 in graph.tensors[i].shape[1:] for graph in model.graphs[:1] for i in graph.inputs)
        shapes = [model.graphs[0].tensors[index].shape for index in model.graphs[0].inputs]
        if length is not None and not is_open and not has_sizes(shapes, None, length):
            raise ModelRunError(f"{path}: the file fixes its length, so it has none of {length} steps. Leave it out.")
        if length is None and is_open:
            raise ModelRunError(f"{path}: the file leaves its length open. Give one, for instance length=100.")
        self._model = _with_sizes(model, batch or 1, length or 1)
        self._numbers = {id(graph): number for number, graph in enumerate(self._model.graphs)}
        self._turns = 0

    def work(self) -> Work:
        graph = self._model.graphs[0]
        runs: Counter[Piece] = Counter()
        operators: Counter[Piece] = Counter()
        for piece in self._pieces(graph, 1, 0):
            one = dataclasses.replace(piece.for_batch(self._factor), runs=1)
            runs[one] += piece.runs
            operators[one] += 1
        return Work(
            pieces=tuple(
                dataclasses.replace(piece, runs=number, operators=operators[piece]) for piece, number in runs.items()
            ),
            turns=self._turns,
            file_bytes=len(self._data),
            expanded_bytes=2 * sum(size_bytes(tensor) for tensor in self._constants("float16")),
            live_bytes=self._factor * max(map(self._live_bytes, self._model.graphs)),
        )

    def _constants(self, dtype: str) -> Iterator[TensorRecord]:
        seen: set[int] = set()
        for graph in self._model.graphs:
            for tensor in graph.tensors:
                if tensor.dtype == dtype and self._is_constant(tensor) and tensor.buffer not in seen:
                    seen.add(tensor.buffer)
                    yield tensor

    def _is_constant(self, tensor: TensorRecord) -> bool:
        return self._model.buffers[tensor.buffer].size_bytes > 0

    def _pieces(self, graph: GraphRecord, runs: int, depth: int) -> Iterator[Piece]:
        constant = {index for index, tensor in enumerate(graph.tensors) if self._is_constant(tensor)}
        for operator in graph.operators:
            if operator.name in ("DEQUANTIZE", "DENSIFY") and set(operator.inputs) <= constant:
                constant.update(operator.outputs)  # runtimes do it once, when they load the file
            elif operator.name == "WHILE" and not operator.is_custom:
                yield from self._loop(graph, operator, runs, depth)
            elif operator.name == "IF" and not operator.is_custom:
                raise ModelRunError(
                    f"{self._path}: the file has a branch, and what it computes depends on its input. Measure it."
                )
            else:
                yield self._piece(graph, operator, constant, runs)

    def _loop(self, graph: GraphRecord, loop: OperatorRecord, runs: int, depth: int) -> Iterator[Piece]:
        turns = count_turns(self._model, self._data, graph, loop)
        if turns is None or depth == _MAX_DEPTH:
            raise ModelRunError(
                f"{self._path}: how often its loop turns does not stand in the file, so there is no estimate. "
                "Convert the model with edgelstm, or measure it."
            )
        self._turns += turns * runs
        for key in ("cond_graph", "body_graph"):
            yield from self._pieces(self._model.graphs[int(loop.options[key])], turns * runs, depth + 1)

    def _piece(self, graph: GraphRecord, operator: OperatorRecord, constant: set[int], runs: int) -> Piece:
        computed = [i for i in (*operator.inputs, *operator.outputs) if i != NO_TENSOR and i not in constant]
        moved = sum(size_bytes(graph.tensors[index]) for index in computed)
        if is_lstm(operator):
            key = self._identity(graph, operator, INPUT_TO_FORGET_WEIGHTS)
            return dataclasses.replace(lstm_piece(graph, operator, key), moved_bytes=moved, runs=runs)
        macs = operator_macs(graph, operator) or 0
        if macs:
            piece = product_piece(graph, operator, macs, self._identity(graph, operator, 1))
        else:
            piece = plain_piece(graph, operator, moved)
        return dataclasses.replace(piece, moved_bytes=moved if macs else piece.moved_bytes, runs=runs)

    def _identity(self, graph: GraphRecord, operator: OperatorRecord, position: int) -> tuple[int, ...]:
        """Returns what tells the weights of an operator from others."""
        tensor = graph.tensor(operator.inputs, position)
        if tensor is None:
            return ()
        is_stored = self._is_constant(tensor)
        return (tensor.buffer,) if is_stored else (self._numbers[id(graph)], operator.inputs[position])

    def _live_bytes(self, graph: GraphRecord) -> int:
        """Returns the most that tensors take which are no constants, each from its writer to its last reader."""
        last = {tensor: len(graph.operators) for tensor in graph.outputs}
        for position in range(len(graph.operators) - 1, -1, -1):
            for tensor in graph.operators[position].inputs:
                last.setdefault(tensor, position)
        sizes = {
            index: size_bytes(tensor) for index, tensor in enumerate(graph.tensors) if not self._is_constant(tensor)
        }
        kept = sum(size for index, size in sizes.items() if graph.tensors[index].is_variable)
        live = {index for index in graph.inputs if index in sizes}
        most = sum(sizes[index] for index in live)
        for position, operator in enumerate(graph.operators):
            live.update(i for i in operator.outputs if i in sizes and not graph.tensors[i].is_variable)
            most = max(most, sum(sizes[index] for index in live))
            live = {index for index in live if last.get(index, -1) > position}
        return kept + most


def has_sizes(shapes: Sequence[Sequence[int]], batch: int | None, length: int | None) -> bool:
    """Says whether sizes are those that inputs have anyway.

    Args:
        shapes: Shapes of the inputs.
        batch: First dimension of all; None for any.
        length: Second dimension of one of them; None for any.
    """
    batches = {shape[0] for shape in shapes if shape}
    lengths = {shape[1] for shape in shapes if len(shape) > 1}
    return (batch is None or batches == {batch}) and (length is None or length in lengths)


def _fixed_batch(graph: GraphRecord) -> int | None:
    sizes = [graph.tensors[index].shape[0] for index in graph.inputs if graph.tensors[index].shape]
    return sizes[0] if sizes and sizes[0] > 0 else None


def _with_sizes(model: ModelRecord, batch: int, length: int) -> ModelRecord:
    """Puts sizes in place of those that are left open: the batch where they stand first, the length elsewhere."""

    def fill(tensor: TensorRecord) -> TensorRecord:
        if -1 not in tensor.shape:
            return tensor
        sizes = tuple(size if size >= 0 else (length if place else batch) for place, size in enumerate(tensor.shape))
        return dataclasses.replace(tensor, shape=sizes)

    graphs = tuple(dataclasses.replace(graph, tensors=tuple(map(fill, graph.tensors))) for graph in model.graphs)
    return dataclasses.replace(model, graphs=graphs)
