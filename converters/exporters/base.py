"""What every exporter is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.converters.graph import Array, Graph
from edgelstm.converters.lowering.calls import Trace
from edgelstm.converters.lowering.signature import Signature
from edgelstm.converters.lowering.streaming import StreamState
from edgelstm.converters.lowering.trace import neutral_names
from edgelstm.runtime.runtimes import FAMILIES


@dataclass(frozen=True)
class Job:
    """A traced model on its way to a file.

    Attributes:
        saved_model: Folder of the SavedModel with carriers.
        signature: Inputs of the model.
        trace: What tracing found.
        calibration: Arrays by input name, shape (samples, *input shape without batch); None without data.
        io: "float" or "int8": type of quantized inputs and outputs.
        form: What LSTMs become, one of `forms.FORMS`.
        runtime: What the file is for, a key of `runtimes.FAMILIES`.
        streaming: Whether states stay from call to call.
        timeout_s: Limit for each native job, in seconds.
        ranges: (Least, greatest) values of int8 tensors that replace calibrated ones, by the names of
            `lowering.integer.place_ranges`.
        layers: Precisions of single layers, by the paths of `lowering.mixed.precision_layers`.
    """

    saved_model: Path
    signature: Signature
    trace: Trace
    calibration: Mapping[str, Array] | None = None
    io: str = "float"
    form: str = "fused"
    runtime: str = "interpreter"
    streaming: bool = False
    timeout_s: float = 600.0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    layers: Mapping[str, str] = field(default_factory=dict)

    @property
    def operator_layers(self) -> dict[str, str]:
        """`layers` without LSTMs."""
        lstms = {call.layer for call in self.trace.calls}
        return {path: precision for path, precision in self.layers.items() if path not in lstms}


@dataclass
class Exported:
    """A finished flatbuffer, sentences about it for the user, and the states of a streaming model."""

    graph: Graph
    notes: list[str] = field(default_factory=list)
    states: list[StreamState] = field(default_factory=list)


Exporter = Callable[[Job], Exported]


def instead(job: Job, *precisions: str) -> str:
    """What to use instead of the job's precision: those of some precisions that its runtime takes."""
    *others, last = (name for name in precisions if name in FAMILIES[job.runtime].precisions)
    return f"--quantize {', '.join(others)} or {last}" if others else f"--quantize {last}"


def signature_order(graph: Graph, job: Job) -> None:
    """Puts graph inputs and outputs into the model's order and gives them the signature's names.

    The converter lists them in an order of its own; whoever feeds by position would mix them up.
    """
    signature = graph.model.signatureDefs[0]
    inputs = [spec.name for spec in job.signature.inputs]
    outputs = job.trace.outputs
    traced = {"inputs": dict(zip(neutral_names(job.signature), inputs, strict=True)), "outputs": {}}
    for side, names in (("inputs", inputs), ("outputs", outputs)):
        entries: dict[str, Any] = {}
        for entry in getattr(signature, side):
            name = entry.name.decode()
            entry.name = traced[side].get(name, name).encode()
            entries[entry.name.decode()] = entry
        ordered = [entries[name] for name in names]
        setattr(signature, side, ordered)
        setattr(graph.subgraph, side, [int(entry.tensorIndex) for entry in ordered])
        for entry in ordered:
            graph.tensor(int(entry.tensorIndex)).name = entry.name


def strip_metadata(graph: Graph) -> None:
    """Drops the converter's metadata (a hash and a version that change from run to run) and names ourselves."""
    graph.model.metadata = []
    graph.model.description = b"edgelstm"
