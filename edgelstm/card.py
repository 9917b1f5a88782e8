"""The card of an artifact: everything that is known about the file, as JSON values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgelstm.converters.exporters import Exported
from edgelstm.converters.exporters.onnx import OPSET, ExportedOnnx
from edgelstm.converters.exporters.saved_model import Served, ServedTensor
from edgelstm.converters.lowering.calls import LstmCall, Trace
from edgelstm.converters.lowering.forms import form_of
from edgelstm.converters.lowering.fused import why_not_fused
from edgelstm.converters.lowering.mixed import resolve_layers
from edgelstm.converters.lowering.onnx_lstm import OnnxCall
from edgelstm.converters.verification import VerificationReport
from edgelstm.runtime.inspection import Inspection
from edgelstm.runtime.support import support_entries

if TYPE_CHECKING:
    from edgelstm.options import Options
    from edgelstm.outputs.base import Prepared
    from edgelstm.runtime.runtimes import RuntimeFamily

# Element types of ONNX's TensorProto, which cannot be asked where onnx is not installed.
ONNX_DTYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool"}
_IN_FORM = {"fused": "a loop", "loop": "Keras' own loop", "unrolled": "a sequence of steps"}


def tflite_card(
    file: Path,
    prepared: Prepared,
    *,
    trace: Trace,
    exported: Exported,
    inspection: Inspection,
    report: VerificationReport | None,
) -> dict[str, Any]:
    """Collects what is known about a .tflite file; no time stamps, so that the same work gives the same card.

    Args:
        file: The model file.
        prepared: The Keras model and what was asked for.
        trace: What tracing found.
        exported: The flatbuffer with what its exporter has to say.
        inspection: What is in the file.
        report: Parity; None if it was left out.
    """
    options = prepared.options
    form = options.family.form
    remarks = [*_form_remarks(trace, options.family), *trace.notes, *exported.notes]
    expected = expected_traps(inspection, trace, options)
    traps = [warning.message for warning in inspection.warnings if warning.code not in expected]
    layers = resolve_layers(options.layers, trace)
    verified = {parity.runtime.split()[0]: parity.passed for parity in report.parities} if report else {}
    return {
        **_common_card(file.name, prepared, report, [*remarks, *traps]),
        "io": options.io,
        "runtime": options.runtime,
        "form": form,
        "names": "stripped" if options.strip_names else "kept",
        "state": _state(options.streaming, exported),
        "inputs": [_tensor(entry) for entry in inspection.inputs],
        "outputs": [_tensor(entry) for entry in inspection.outputs],
        "operators": {entry.name: entry.count for entry in inspection.operators},
        "layers": dict(options.layers),
        "lstms": [_lstm(call, options, layers.get(call.layer, options.quantize)) for call in trace.calls],
        "parameters": inspection.parameters,
        "size_bytes": inspection.size_bytes,
        "sizes": inspection.to_json()["sizes"],
        "support": support_entries(inspection, file, verified),
    }


def expected_traps(inspection: Inspection, trace: Trace, options: Options) -> tuple[str, ...]:
    """Codes of warnings that are no traps in a file that was asked for like that."""
    layers = resolve_layers(options.layers, trace)
    asked = sum(layers.get(call.layer, options.quantize) == "float32" for call in trace.calls)
    found = sum(lstm.precision == "float32" for lstm in inspection.lstms)
    return ("lstm-as-loop", "lstm-stayed-float32") if found <= asked else ("lstm-as-loop",)


def onnx_card(
    file: str, prepared: Prepared, exported: ExportedOnnx, size_bytes: int, report: VerificationReport | None
) -> dict[str, Any]:
    """Collects what is known about an .onnx file.

    Args:
        file: Name of the model file.
        prepared: The Keras model and what was asked for.
        exported: The ONNX model.
        size_bytes: Its size.
        report: Parity; None if it was left out.
    """
    graph = exported.model.graph
    return {
        **_common_card(file, prepared, report, [*exported.trace.notes, *exported.notes]),
        "runtime": "onnx",
        "opset": OPSET,
        "state": {"semantics": "self-resetting"},
        "inputs": [_onnx_tensor(value) for value in graph.input],
        "outputs": [_onnx_tensor(value) for value in graph.output],
        "operators": dict(Counter(node.op_type for node in graph.node).most_common()),
        "recurrent": [_recurrent(call) for call in exported.trace.calls if isinstance(call, OnnxCall)],
        "size_bytes": size_bytes,
        "versions": _versions("onnx"),
    }


def saved_model_card(
    folder: str, prepared: Prepared, served: Served, report: VerificationReport | None
) -> dict[str, Any]:
    """Collects what is known about a SavedModel folder.

    Args:
        folder: Name of the folder.
        prepared: The Keras model and what was asked for.
        served: What was written.
        report: Parity; None if it was left out.
    """
    return {
        **_common_card(folder, prepared, report, served.notes),
        "runtime": "tensorflow",
        "state": {"semantics": "self-resetting"},
        "inputs": [_served_tensor(entry) for entry in served.inputs],
        "outputs": [_served_tensor(entry) for entry in served.outputs],
        "size_bytes": served.size_bytes,
    }


def _common_card(
    file: str, prepared: Prepared, report: VerificationReport | None, remarks: Sequence[str]
) -> dict[str, Any]:
    options, source = prepared.options, prepared.source
    verified = report.to_json() if report else {"parity": [], "data": None}
    return {
        "edgelstm": version("edgelstm"),
        "model": {"file": file},
        "source": {"name": source.name, "sha256": source.sha256, "class": type(source.model).__name__},
        "recipe": [dict(stage) for stage in source.recipe],
        "precision": options.quantize,
        "padding": options.padding,
        "approximate_gates": options.approximate_gates,
        "batch_rebased": options.batch is not None and not prepared.signature.free_batch,
        "parity": verified["parity"],
        "verified_on": verified["data"],
        "calibrated_on": _ranges(prepared.data),
        "accuracy": None,
        "warnings": [*_verification_remarks(report), *prepared.notes, *remarks],
        "versions": _versions(),
    }


def _verification_remarks(report: VerificationReport | None) -> list[str]:
    if report is None:
        return ["The file was not compared with the Keras model."]
    missing = report.missing_sentence() if report.missing else ""
    return [sentence for sentence in (missing, report.outlier_sentence()) if sentence]


def _onnx_tensor(value: Any) -> dict[str, Any]:
    kind = value.type.tensor_type
    shape = [size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim]
    return {"name": value.name, "shape": shape, "dtype": ONNX_DTYPES.get(kind.elem_type, "unknown")}


def _served_tensor(entry: ServedTensor) -> dict[str, Any]:
    shape = [-1 if size is None else size for size in entry.shape]
    return {"name": entry.name, "shape": shape, "dtype": entry.dtype}


def _state(streaming: bool, exported: Exported) -> dict[str, Any]:
    if not streaming:
        return {"semantics": "self-resetting"}
    return {"semantics": "streaming", "states": [state.to_json() for state in exported.states]}


def _lstm(call: LstmCall, options: Options, precision: str) -> dict[str, Any]:
    return {
        "layer": call.layer,
        "units": call.units,
        "activation": call.activation,
        "recurrent_activation": call.recurrent_activation,
        "form": form_of(call, options.family.form, options.family),
        "precision": precision,
    }


def _recurrent(call: OnnxCall) -> dict[str, Any]:
    """What a layer became; both directions of a Bidirectional layer may be one node."""
    return {
        "layer": call.layer,
        "operator": call.operator,
        "units": call.units,
        "activation": call.activation,
        "recurrent_activation": None if call.operator == "RNN" else call.recurrent_activation,
        "direction": "reverse" if call.backwards else "forward",
    }


def _form_remarks(trace: Trace, family: RuntimeFamily) -> list[str]:
    """Sentences about layers that are not what most people will expect."""
    form = family.form
    remarks = [f"Layer {loop.layer!r} becomes {_IN_FORM[form]}: {loop.reason}." for loop in trace.loops]
    if form == "fused":
        remarks += [
            f"Layer {call.layer!r} becomes {_IN_FORM[form]}: {reason}."
            for call in trace.calls
            if (reason := why_not_fused(call, family))
        ]
    if not trace.calls and not trace.loops:
        remarks.append("The model has no recurrent layer; it was converted as it is.")
    return remarks


def _ranges(data: Mapping[str, Any] | None) -> dict[str, list[float]] | None:
    return None if data is None else {name: _range(array) for name, array in data.items()}


def _range(array: Any) -> list[float]:
    return [float(array.min()), float(array.max())]


def _tensor(entry: Any) -> dict[str, Any]:
    return {
        "name": entry.name,
        "shape": list(entry.shape),
        "dtype": entry.dtype,
        "scale": entry.scale,
        "zero_point": entry.zero_point,
    }


def _versions(*more: str) -> dict[str, str]:
    found = {}
    for package in ("tensorflow", "keras", "numpy", "ai-edge-litert", *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
