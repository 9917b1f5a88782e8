"""dynamic: int8 weights, activations quantized on the fly. A quarter of the size, no data needed.

The LSTM's weights are always int8, however small; the stock converter leaves an LSTM in float32 as soon
as one of its matrices has fewer than 1,024 elements. Other layers follow the stock rule.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.exporters.base import Exported, Job
from edgelstm.converters.exporters.carrier import weighted_graph
from edgelstm.converters.lowering.forms import place_float
from edgelstm.converters.lowering.stored import SMALLEST_MATRIX
from edgelstm.errors import LoweringError
from edgelstm.runtime.runtimes import FAMILIES


def export(job: Job) -> Exported:
    """Exports with int8 weights and float32 states.

    Raises:
        LoweringError: If a recurrent layer stays a loop, whose weights the converter leaves in float32, or
            nothing would become int8.
    """
    if job.trace.loops:
        loop = job.trace.loops[0]
        raise LoweringError(
            f"Layer {loop.layer!r} cannot be quantized to int8 weights: {loop.reason}, so it stays a loop in float32. "
            "Use --quantize float16, or replace the layer by an LSTM."
        )
    graph = weighted_graph(job, "dynamic")
    states = place_float(
        graph,
        job.trace.calls,
        form=job.form,
        precision="dynamic",
        layers=job.layers,
        streaming=job.streaming,
        family=FAMILIES[job.runtime],
    )
    tensors = range(len(graph.subgraph.tensors))
    if not job.layers and not any(graph.tensor(index).type == schema.TensorType.INT8 for index in tensors):
        raise LoweringError(
            "Nothing in this model would become int8: it has no LSTM, and none of its weight matrices reaches the "
            f"{SMALLEST_MATRIX:,} elements from which on the converter quantizes. Use --quantize float16 or float32."
        )
    return Exported(graph, states=states)
