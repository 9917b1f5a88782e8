"""int8: full integer arithmetic, calibrated on the user's data; what microcontrollers and DSPs take."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters import native
from edgelstm.converters.calibration import observe
from edgelstm.converters.exporters.base import Exported, Job, instead, signature_order, strip_metadata
from edgelstm.converters.exporters.carrier import carrier_graph
from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.fused import fuse_float
from edgelstm.converters.lowering.integer import (
    Ranges,
    check_integer,
    cut_carriers,
    integer_io,
    place_ranges,
    restore_lstms,
)
from edgelstm.converters.lowering.streaming import StreamStates
from edgelstm.errors import CalibrationError, LoweringError
from edgelstm.runtime.runtimes import FAMILIES

LARGEST_ACTIVATION = 1e6
_COARSER = ("dynamic", "float16", "float32")  # what takes a model that cannot be int8


def export(job: Job) -> Exported:
    """Exports in full integer form.

    Raises:
        LoweringError: If a recurrent layer has no integer kernel.
        CalibrationError: If there is no data to calibrate on.
        ConversionError: If the native quantizer fails.
    """
    family = FAMILIES[job.runtime]
    if job.trace.loops:
        loop = job.trace.loops[0]
        raise LoweringError(
            f"Layer {loop.layer!r} cannot be int8: {loop.reason}, so it stays a loop in float32. "
            f"Use {instead(job, 'float16', 'float32')}, or replace the layer by an LSTM."
        )
    check_integer(job.trace.calls, instead(job, *_COARSER))
    if job.calibration is None:
        raise CalibrationError(
            "int8 needs data to choose its scales: pass --calibration F.npz with a few hundred real inputs "
            f"({', '.join(spec.name for spec in job.signature.inputs)})."
        )
    carriers = carrier_graph(job, "float32")
    signatures = copy.deepcopy(carriers.model.signatureDefs)
    ranges, unplaced = place_ranges(carriers, job.trace.calls, _observe(job, carriers), job.ranges)
    _check_ranges(carriers, ranges, instead(job, *_COARSER))
    own_inputs, own_outputs = len(carriers.subgraph.inputs), len(carriers.subgraph.outputs)
    cuts = cut_carriers(carriers, job.trace.calls, ranges, streaming=job.streaming)
    graph = Graph.from_bytes(native.quantize(carriers.to_bytes(), timeout_s=job.timeout_s))
    stream = StreamStates(graph, [cut.call for cut in cuts]) if job.streaming else None
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
    left = float_operators(graph)
    if left:
        raise LoweringError(
            f"The model cannot be fully int8: {', '.join(sorted(set(left)))} would compute with float32 weights. "
            f"Use {instead(job, *_COARSER)}."
        )
    _sign(graph, signatures)
    strip_metadata(graph)
    signature_order(graph, job)
    notes = [
        f"The given range {name!r} belongs to no tensor of the file; a calibrated one was used." for name in unplaced
    ]
    notes += integer_io(graph, family.interface_types) if job.io == "int8" else []
    return Exported(graph, notes, stream.expose() if stream else [])


def _observe(job: Job, carriers: Graph) -> Ranges:
    """Runs the fused float form of the graph on the calibration data."""
    graph = Graph(copy.deepcopy(carriers.model))
    lstms = fuse_float(graph, job.trace.calls, streaming=job.streaming)
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        return observe(graph, lstms, job, Path(folder))


def _check_ranges(graph: Graph, ranges: Ranges, instead: str) -> None:
    """Refuses activations so large that the 256 steps of one scale leave nothing of all smaller values."""
    low, high = np.nan_to_num(ranges.low), np.nan_to_num(ranges.high)
    index = int(np.argmax(np.maximum(-low, high)))
    largest = max(-float(low[index]), float(high[index]))
    if largest > LARGEST_ACTIVATION:
        name = graph.tensor(index).name.decode("utf-8", "replace")
        raise LoweringError(
            f"The model cannot be int8: the values of {name!r} go up to {largest:.0e} (attention over masked steps "
            f"adds -1e9), and one scale for all would leave nothing of the others. Use {instead}."
        )


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
