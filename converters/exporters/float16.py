"""float16: weights stored in half precision, arithmetic in float32. Half the size, error about 1e-4."""

from __future__ import annotations

from edgelstm.converters.exporters.base import Exported, Job
from edgelstm.converters.exporters.carrier import weighted_graph
from edgelstm.converters.lowering.forms import place_float
from edgelstm.runtime.runtimes import FAMILIES


def export(job: Job) -> Exported:
    """Exports with float16 weights behind DEQUANTIZE, which runtimes run once."""
    graph = weighted_graph(job, "float16")
    states = place_float(
        graph,
        job.trace.calls,
        form=job.form,
        precision="float16",
        layers=job.layers,
        streaming=job.streaming,
        family=FAMILIES[job.runtime],
    )
    return Exported(graph, states=states)
