"""float32: the reference form of the file."""

from __future__ import annotations

from edgelstm.converters.exporters.base import Exported, Job
from edgelstm.converters.exporters.carrier import weighted_graph
from edgelstm.converters.lowering.forms import place_float
from edgelstm.runtime.runtimes import FAMILIES


def export(job: Job) -> Exported:
    """Exports with float32 weights and arithmetic."""
    graph = weighted_graph(job, "float32")
    states = place_float(
        graph,
        job.trace.calls,
        form=job.form,
        precision="float32",
        layers=job.layers,
        streaming=job.streaming,
        family=FAMILIES[job.runtime],
    )
    return Exported(graph, states=states)
