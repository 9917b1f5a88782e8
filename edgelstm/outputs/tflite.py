"""`.tflite` files: traced, exported, adapted to the runtime, inspected, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgelstm.artifact import Artifact, write_artifact, write_temporary
from edgelstm.card import expected_traps, tflite_card
from edgelstm.converters import streams
from edgelstm.converters.chunks import StreamSignature
from edgelstm.converters.exporters import EXPORTERS, Exported, Job
from edgelstm.converters.lowering.adaptation import adapt
from edgelstm.converters.lowering.calls import Trace
from edgelstm.converters.lowering.mixed import coarsest, resolve_layers
from edgelstm.converters.lowering.recurrent import CARRIERS, COUNTING_CARRIERS
from edgelstm.converters.lowering.trace import trace_model
from edgelstm.converters.verification import VerificationReport, require_passed, verify_file
from edgelstm.errors import LoweringError, VerificationError
from edgelstm.outputs.base import Order, Prepared
from edgelstm.runtime.engines import fitting_engines
from edgelstm.runtime.inspection import Inspection, inspect


def write(order: Order) -> Artifact:
    """Writes a .tflite file with its card.

    Raises:
        EdgeLSTMError: If the job cannot be done; nothing is written then.
    """
    prepared, options = order.prepared, order.prepared.options
    order.progress("tracing")
    saved_model = order.folder / "saved_model"
    trace = _trace(prepared, saved_model)
    order.progress("converting")
    exported = EXPORTERS[options.quantize](_job(prepared, saved_model, trace))
    adapt(exported.graph, options.family)
    exported.graph.prune_tensors()
    if options.strip_names:
        exported.graph.strip_names(keep=[state.name for state in exported.states])
    flatbuffer = exported.graph.to_bytes()
    file = order.folder / order.output.name
    write_temporary(file, flatbuffer)
    inspection = inspect(file, streaming=options.streaming)
    _check_result(inspection, prepared, trace)
    report = None
    if options.verify:
        order.progress("verifying")
        report = _verify(prepared, file, inspection, exported)
        require_passed(report, order.output.name)
    card = tflite_card(file, prepared, trace=trace, exported=exported, inspection=inspection, report=report)
    order.progress("writing")
    return write_artifact(order.output, flatbuffer, card)


def _trace(prepared: Prepared, saved_model: Path) -> Trace:
    options = prepared.options
    trace = trace_model(
        prepared.model,
        prepared.signature,
        saved_model,
        padding=options.padding,
        lowering=CARRIERS if options.family.takes("TOPK_V2") else COUNTING_CARRIERS,
        unrolled=options.family.form == "unrolled",
        streaming=options.streaming,
    )
    if options.streaming and trace.loops:
        raise LoweringError(
            f"Layer {trace.loops[0].layer!r} cannot be streamed: {trace.loops[0].reason}. Leave --streaming out, or "
            "replace the layer by an LSTM."
        )
    return trace


def _job(prepared: Prepared, saved_model: Path, trace: Trace) -> Job:
    options = prepared.options
    return Job(
        saved_model,
        prepared.signature,
        trace,
        prepared.data,
        io=options.io,
        form=options.family.form,
        runtime=options.runtime,
        streaming=options.streaming,
        timeout_s=options.timeout_s,
        ranges=options.ranges,
        layers=resolve_layers(options.layers, trace),
    )


def _verify(prepared: Prepared, file: Path, inspection: Inspection, exported: Exported) -> VerificationReport:
    options = prepared.options
    engines, notes = fitting_engines(options.family.engines, file)
    exported.notes += notes
    common: dict[str, Any] = {
        "inspection": inspection,
        "precision": coarsest([options.quantize, *options.layers.values()]),
        "origin": prepared.origin,
        "engines": engines,
        "timeout_s": options.timeout_s,
    }
    if isinstance(prepared.signature, StreamSignature):
        return streams.verify_stream(
            prepared.model, prepared.signature, file, states=exported.states, data=prepared.data, **common
        )
    return verify_file(prepared.model, prepared.signature, file, data=prepared.samples(), **common)


def _check_result(inspection: Inspection, prepared: Prepared, trace: Trace) -> None:
    """Refuses a file that is not what was asked for, whatever its numbers say."""
    asked = expected_traps(inspection, trace, prepared.options)
    traps = [warning for warning in inspection.warnings if warning.severity == "warning" and warning.code not in asked]
    if traps:
        raise VerificationError(f"The converted file is not fit for use: {traps[0].message}")
