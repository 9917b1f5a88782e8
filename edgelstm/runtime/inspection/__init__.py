"""Says what a .tflite file holds, and which traps can be seen in it, without running it."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections import Counter
from pathlib import Path
from typing import Literal

from edgelstm.artifact import Artifact
from edgelstm.errors import LoadError
from edgelstm.runtime.inspection.lstm import count_unrolled_steps, summarize_loops, summarize_lstms
from edgelstm.runtime.inspection.macs import count_macs
from edgelstm.runtime.inspection.reader import DAMAGE, parse, read_bytes
from edgelstm.runtime.inspection.records import DamagedError, GraphRecord, ModelRecord
from edgelstm.runtime.inspection.report import (
    Inspection,
    InspectionWarning,
    LoopSummary,
    LstmSummary,
    OperatorCount,
    SignatureSummary,
    SizeBreakdown,
    TensorSummary,
)
from edgelstm.runtime.inspection.sizes import measure_weights
from edgelstm.runtime.inspection.text import format_text
from edgelstm.runtime.inspection.traps import find_traps

__all__ = [
    "Inspection",
    "InspectionWarning",
    "LoopSummary",
    "LstmSummary",
    "OperatorCount",
    "SignatureSummary",
    "SizeBreakdown",
    "TensorSummary",
    "format_text",
    "inspect",
]

MAX_GZIP_BYTES = 2**27  # larger files would take more than some seconds
GZIP_LEVEL = 6  # what web servers and package builders use
_GZIP_FORMAT = 31  # window size and header of zlib for the gzip format


def inspect(path: str | os.PathLike[str], *, streaming: bool | None = None) -> Inspection:
    """Says what a .tflite file holds, without running it; any file, whoever made it, is safe to inspect.

    Args:
        path: The file.
        streaming: Whether its state is meant to survive from call to call. None: what its card says, if it has one.

    Raises:
        LoadError: If the file cannot be read, is not a .tflite file, or is damaged.
    """
    path = Path(path)
    data = read_bytes(path)
    try:
        return _inspect(path, data, _is_streaming(path) if streaming is None else streaming, _num_float32(path))
    except DamagedError as error:
        reason = str(error)
    except DAMAGE:
        reason = "an offset or a length leads outside the file"
    raise LoadError(f"{path} is truncated or damaged: {reason}; export or download it again.")


def _is_streaming(path: Path) -> bool:
    """Returns what the card says; a card that cannot be read, or is another model's, says nothing."""
    try:
        state = Artifact.open(path).card.get("state")
    except LoadError:
        return False
    return isinstance(state, dict) and state.get("semantics") == "streaming"


def _num_float32(path: Path) -> int:
    """Returns how many LSTMs are in float32 because that was asked for layer by layer, by the file's card."""
    try:
        card = Artifact.open(path).card
    except LoadError:
        return 0
    if not card.get("layers") or not isinstance(card.get("lstms"), list):
        return 0
    return sum(isinstance(entry, dict) and entry.get("precision") == "float32" for entry in card["lstms"])


def _inspect(path: Path, data: bytes, streaming: bool, num_float32: int) -> Inspection:
    model = parse(data)
    weights = measure_weights(model, len(data))
    inspection = Inspection(
        path=path,
        size_bytes=len(data),
        gzip_bytes=_gzip_bytes(data),
        description=model.description,
        signatures=_signatures(model),
        operators=_operators(model),
        lstms=summarize_lstms(model, streaming=streaming),
        loops=summarize_loops(model),
        parameters=weights.parameters,
        weight_bytes=weights.weight_bytes,
        sizes=weights.sizes,
        macs=count_macs(model),
        unrolled_steps=count_unrolled_steps(model),
        streaming=streaming,
    )
    warnings = find_traps(inspection)
    if sum(lstm.precision == "float32" for lstm in inspection.lstms) <= num_float32:
        warnings = tuple(warning for warning in warnings if warning.code != "lstm-stayed-float32")
    return dataclasses.replace(inspection, warnings=warnings)


def _gzip_bytes(data: bytes) -> int | None:
    if len(data) > MAX_GZIP_BYTES:
        return None
    compressor = zlib.compressobj(GZIP_LEVEL, wbits=_GZIP_FORMAT)
    return len(compressor.compress(data)) + len(compressor.flush())


def _signatures(model: ModelRecord) -> tuple[SignatureSummary, ...]:
    if not model.signatures:
        graph = model.graphs[0]
        inputs, outputs = (
            tuple(_tensor_summary(graph, graph.tensors[index].name, index) for index in indices)
            for indices in (graph.inputs, graph.outputs)
        )
        return (SignatureSummary(None, inputs, outputs),)
    return tuple(
        SignatureSummary(
            signature.key,
            tuple(_tensor_summary(model.graphs[signature.graph], *entry) for entry in signature.inputs),
            tuple(_tensor_summary(model.graphs[signature.graph], *entry) for entry in signature.outputs),
        )
        for signature in model.signatures
    )


def _tensor_summary(graph: GraphRecord, name: str, index: int) -> TensorSummary:
    tensor = graph.tensors[index]
    return TensorSummary(name, tensor.shape, tensor.dtype, tensor.scale, tensor.zero_point)


def _operators(model: ModelRecord) -> tuple[OperatorCount, ...]:
    counts = Counter((operator.name, operator.is_custom) for graph in model.graphs for operator in graph.operators)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(OperatorCount(name, count, _kind(name, is_custom)) for (name, is_custom), count in ordered)


def _kind(name: str, is_custom: bool) -> Literal["builtin", "custom", "flex"]:
    if not is_custom:
        return "builtin"
    return "flex" if name.startswith("Flex") else "custom"
