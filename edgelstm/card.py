"""The card of an artifact: everything that is known about the file, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgelstm.converters.lowering.calls import Trace
from edgelstm.converters.verification import VerificationReport
from edgelstm.runtime.inspection import Inspection
from edgelstm.source import Source

FORM = "fused"


def make_card(
    file: str,
    source: Source,
    *,
    precision: str,
    padding: str,
    io: str,
    trace: Trace,
    inspection: Inspection,
    report: VerificationReport | None,
    notes: Sequence[str],
    data: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Collects what is known about an exported file; no time stamps, so that the same work gives the same card.

    Args:
        file: Name of the model file.
        source: Where the Keras model came from.
        precision: Precision of the file.
        padding: What was promised about masked steps.
        io: "float" or "int8".
        trace: What tracing found.
        inspection: What is in the file.
        report: Parity; None if it was left out.
        notes: Sentences for the user.
        data: Calibration data by input name, None if there was none.
    """
    remarks = [f"Layer {loop.layer!r} stays a loop: {loop.reason}." for loop in trace.loops]
    if not trace.calls and not trace.loops:
        remarks = ["The model has no recurrent layer; it was converted as it is."]
    if report is None:
        remarks.append("The file was not compared with the Keras model.")
    verified = report.to_json() if report else {"parity": [], "data": None}
    tensors = inspection.signatures[0]
    return {
        "edgelstm": version("edgelstm"),
        "model": {"file": file},
        "source": {"name": source.name, "sha256": source.sha256, "class": type(source.model).__name__},
        "recipe": [],
        "precision": precision,
        "io": io,
        "form": FORM,
        "padding": padding,
        "state": {"semantics": "self-resetting"},
        "inputs": [_tensor(entry) for entry in tensors.inputs],
        "outputs": [_tensor(entry) for entry in tensors.outputs],
        "operators": {entry.name: entry.count for entry in inspection.operators},
        "lstms": [
            {"layer": call.layer, "units": call.units, "activation": call.activation, "precision": precision}
            for call in trace.calls
        ],
        "parameters": inspection.parameters,
        "size_bytes": inspection.size_bytes,
        "sizes": inspection.to_json()["sizes"],
        "parity": verified["parity"],
        "verified_on": verified["data"],
        "calibrated_on": None if data is None else {name: _range(array) for name, array in data.items()},
        "accuracy": None,
        "warnings": [*remarks, *notes, *(warning.message for warning in inspection.warnings)],
        "versions": _versions(),
    }


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


def _versions() -> dict[str, str]:
    found = {}
    for package in ("tensorflow", "keras", "numpy", "ai-edge-litert"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
