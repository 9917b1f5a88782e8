"""int8: full integer arithmetic, calibrated on the user's data; what microcontrollers and DSPs take."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters import native
from edgelstm.converters.calibration import observe
from edgelstm.converters.exporters.base import Exported, Job, instead, signature_order, strip_metadata
from edgelstm.converters.exporters.carrier import carrier_graph
from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.forms import place_beside, place_calls
from edgelstm.converters.lowering.fused import fuse_float, why_not_fused
from edgelstm.converters.lowering.integer import (
    Cut,
    Islands,
    Ranges,
    check_integer,
    cut_carriers,
    cut_islands,
    integer_io,
    place_ranges,
    restore_islands,
    restore_lstms,
)
from edgelstm.converters.lowering.streaming import StreamStates
from edgelstm.errors import CalibrationError, LoweringError
from edgelstm.runtime.runtimes import FAMILIES

LARGEST_ACTIVATION = 1e6
_COARSER = ("dynamic", "float16", "float32")  # what takes a model that cannot be int8


def export(job: Job) -> Exported:
    """Exports in full integer form, but for layers with a precision of their own, which compute in float.

    Raises:
        LoweringError: If a recurrent layer has no integer kernel.
        CalibrationError: If there is no data to calibrate on.
        ConversionError: If the native quantizer fails.
    """
    family = FAMILIES[job.runtime]
    integer = [call for call in job.trace.calls if call.layer not in job.layers]
    floating = [call for call in job.trace.calls if call.layer in job.layers]
    _check(job, integer)
    carriers = carrier_graph(job, "float32")
    signatures = copy.deepcopy(carriers.model.signatureDefs)
    ranges, unplaced = place_ranges(carriers, job.trace.calls, _observe(job, carriers, integer), job.ranges)
    own_inputs, own_outputs = len(carriers.subgraph.inputs), len(carriers.subgraph.outputs)
    known = job.trace.weighted
    islands = cut_islands(carriers, floating, ranges, known=known, layers=job.operator_layers)
    _check_ranges(carriers, ranges, instead(job, *_COARSER))
    cuts = cut_carriers(carriers, integer, ranges, streaming=job.streaming)
    graph = _quantized(job, carriers)
    stream = StreamStates(graph, _called(islands, cuts, job.trace.calls)) if job.streaming else None
    restore_islands(graph, islands, int8_io=job.io == "int8")
    precisions = {call.index: job.layers[call.layer] for call in floating}
    place_calls(graph, floating, form=job.form, precisions=precisions, stream=stream, family=family)
    restore_lstms(
        graph,
        cuts,
        own_inputs=own_inputs,
        own_outputs=own_outputs,
        form=job.form,
        stream=stream,
        gathers_int16=family.takes("GATHER", "int16"),
        int8_inputs=job.io == "int8",
    )
    _sign(graph, signatures)
    strip_metadata(graph)
    signature_order(graph, job)
    notes = [
        f"The given range {name!r} belongs to no tensor of the file; a calibrated one was used." for name in unplaced
    ]
    notes += integer_io(graph, family.interface_types) if job.io == "int8" else []
    return Exported(graph, notes, stream.expose() if stream else [])


def _check(job: Job, integer: Sequence[LstmCall]) -> None:
    """Refuses what cannot be int8, and int8 without data."""
    if job.trace.loops:
        loop = job.trace.loops[0]
        raise LoweringError(
            f"Layer {loop.layer!r} cannot be int8: {loop.reason}, so it stays a loop in float32. "
            f"Use {instead(job, 'float16', 'float32')}, or replace the layer by an LSTM."
        )
    check_integer(integer, instead(job, *_COARSER))
    loop_call = next((call for call in job.trace.calls if why_not_fused(call)), None)
    if job.streaming and loop_call is not None:
        raise LoweringError(
            f"Layer {loop_call.layer!r} cannot be streamed in an int8 file: {why_not_fused(loop_call)}. "
            f"Use {instead(job, *_COARSER)}, or leave --streaming out."
        )
    if job.calibration is None:
        raise CalibrationError(
            "int8 needs data to choose its scales: pass --calibration F.npz with a few hundred real inputs "
            f"({', '.join(spec.name for spec in job.signature.inputs)})."
        )


def _observe(job: Job, carriers: Graph, integer: Sequence[LstmCall]) -> Ranges:
    """Runs the float form of the graph, fused where it can be, on the calibration data."""
    graph = Graph(copy.deepcopy(carriers.model))
    loops = [call for call in job.trace.calls if why_not_fused(call)]
    place_beside(graph, loops)
    lstms = fuse_float(graph, [call for call in job.trace.calls if call not in loops], streaming=job.streaming)
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        return observe(graph, [lstm for lstm in lstms if lstm.call in integer], job, Path(folder))


def _check_ranges(graph: Graph, ranges: Ranges, instead: str) -> None:
    """Refuses activations so large that the 256 steps of one scale leave nothing of all smaller values."""
    used = {tensor for operator in graph.operators for tensor in (*operator.inputs, *operator.outputs) if tensor >= 0}
    peaks = np.maximum(-np.nan_to_num(ranges.low), np.nan_to_num(ranges.high))
    index = max((tensor for tensor in used if tensor < len(peaks)), key=lambda tensor: float(peaks[tensor]), default=-1)
    largest = float(peaks[index]) if index >= 0 else 0.0
    if largest > LARGEST_ACTIVATION:
        name = graph.tensor(index).name.decode("utf-8", "replace")
        raise LoweringError(
            f"The model cannot be int8: the values of {name!r} go up to {largest:.0e} (attention over masked steps "
            f"adds -1e9), and one scale for all would leave nothing of the others. Use {instead}."
        )


def _quantized(job: Job, cut: Graph) -> Graph:
    """The quantizer's result for a cut graph, or the graph itself where nothing is left in it to be quantized.

    Raises:
        LoweringError: If something with weights would stay float.
        ConversionError: If the native quantizer fails.
    """
    computed = [tensor for operator in cut.operators for tensor in operator.outputs]
    if not any(cut.tensor(tensor).type == schema.TensorType.FLOAT32 for tensor in computed):
        for tensor in cut.subgraph.tensors:
            tensor.quantization = None
        return cut
    graph = Graph.from_bytes(native.quantize(cut.to_bytes(), timeout_s=job.timeout_s))
    left = float_operators(graph)
    if left:
        raise LoweringError(
            f"The model cannot be fully int8: {', '.join(sorted(set(left)))} would compute with float32 weights. "
            f"Use {instead(job, *_COARSER)}."
        )
    return graph


def _called(islands: Islands, cuts: Sequence[Cut], calls: Sequence[LstmCall]) -> list[LstmCall]:
    """The calls whose results are used, in tracing order."""
    carried = islands.carriers | {cut.call.carrier for cut in cuts}
    return [call for call in calls if call.carrier in carried]


def _sign(graph: Graph, signatures: Any) -> None:
    """Writes the model's signature again over the quantizer's result, by position."""
    signature = signatures[0]
    for side in ("inputs", "outputs"):
        for entry, tensor in zip(getattr(signature, side), getattr(graph.subgraph, side), strict=True):
            entry.tensorIndex = tensor
    graph.model.signatureDefs = signatures


def float_operators(graph: Graph) -> list[str]:
    """Names of operators that compute with float32 weights in a quantized graph."""
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    heavy = []
    for operator in graph.operators:
        weights = [graph.constant(tensor) for tensor in operator.inputs[1:]]
        if any(weight is not None and weight.dtype == np.float32 and weight.ndim >= 2 for weight in weights):
            heavy.append(names[graph.code(operator)])
    return heavy
