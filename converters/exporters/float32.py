"""float32: the reference form of the file."""

from __future__ import annotations

from edgelstm.converters.exporters.base import Exported, Job
from edgelstm.converters.exporters.carrier import carrier_graph
from edgelstm.converters.lowering.fused import fuse_float


def export(job: Job) -> Exported:
    """Exports with float32 weights and arithmetic."""
    graph = carrier_graph(job, "float32")
    fuse_float(graph, job.trace.calls)
    return Exported(graph)
