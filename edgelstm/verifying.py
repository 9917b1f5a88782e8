"""The verification of an artifact by itself, whenever the model it came from is at hand."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.converters import streams
from edgelstm.converters.calibration import fit_data, generate_data, read_data
from edgelstm.converters.exporters import EXPORTERS
from edgelstm.converters.exporters.onnx import verify_onnx
from edgelstm.converters.lowering.mixed import coarsest
from edgelstm.converters.lowering.signature import Signature, model_signature
from edgelstm.converters.lowering.streaming import StreamState
from edgelstm.converters.policies import any_length, float32_computation, sigmoid_gates
from edgelstm.converters.verification import VerificationReport, verify_file
from edgelstm.errors import CalibrationError, VerificationError
from edgelstm.runtime.engines import fitting_engines
from edgelstm.runtime.inspection import Inspection, inspect
from edgelstm.runtime.runtimes import FAMILIES
from edgelstm.source import open_source

DEFAULT_TIMEOUT_S = 600.0


def verify(
    model: Any,
    artifact: str | Path | Artifact,
    *,
    data: str | Path | Mapping[str, Any] | Any | None = None,
    weights: str | Path | None = None,
    custom: Sequence[str] = (),
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> VerificationReport:
    """Compares an artifact with the Keras model it came from, on every installed runtime that it is for.

    Args:
        model: A Keras model, or the path of its file or folder.
        artifact: The artifact or the path of its `.tflite` or `.onnx` file.
        data: Inputs to compare on, as in `convert`; generated if left out.
        weights: The file with the weights of an architecture in a `.json` file.
        custom: Custom classes of the model, each as "package.module:Class".
        timeout_s: Limit for each runtime, in seconds.

    Returns:
        The report; `passed` tells the result.

    Raises:
        EdgeLSTMError: If model, artifact or data cannot be read, or do not belong together.
    """
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
    given = None if data is None else read_data(data)
    if opened.path.suffix == ".onnx":
        shapes = [entry["shape"] for entry in opened.card.get("inputs", [])]
        batch = _rebased(opened, {shape[0] for shape in shapes if shape})
        source = open_source(model, custom, batch=batch, weights=weights)
        return _verify_onnx(source.model, opened, given, timeout_s)
    return _verify_tflite(model, opened, given, weights, custom, timeout_s)


def _verify_onnx(
    model: Any, artifact: Artifact, given: Mapping[str, Any] | None, timeout_s: float
) -> VerificationReport:
    """Compares an ONNX file, whose inputs the card describes."""
    shapes = {entry["name"]: entry["shape"] for entry in artifact.card.get("inputs", [])}
    fixed = {name: [1 if size < 0 else size for size in shape] for name, shape in shapes.items()}
    with contextlib.ExitStack() as stack:
        if artifact.card.get("approximate_gates"):
            stack.enter_context(sigmoid_gates(model))
        signature = model_signature(model, data=given, shapes=fixed)
        samples = fit_data(given, signature.inputs) if given else None
        padding = str(artifact.card.get("padding", "auto"))
        return verify_onnx(
            model,
            signature,
            artifact.path,
            samples or generate_data(model, signature.inputs, padding=padding),
            origin="given" if samples else "generated",
            timeout_s=timeout_s,
        )


def _verify_tflite(
    model: Any,
    opened: Artifact,
    given: Mapping[str, Any] | None,
    weights: str | Path | None,
    custom: Sequence[str],
    timeout_s: float,
) -> VerificationReport:
    inspection = inspect(opened.path)
    streaming = opened.card.get("state", {}).get("semantics") == "streaming"
    states = [_state(entry) for entry in opened.card["state"]["states"]] if streaming else []
    shapes = {entry.name: entry.shape for entry in inspection.inputs}
    for state in states:
        shapes.pop(state.input or "", None)
    batches = {shape[0] for shape in shapes.values() if shape}
    source = open_source(model, custom, batch=_rebased(opened, batches), weights=weights)
    precision = _precision(opened, inspection)
    common: dict[str, Any] = {
        "inspection": inspection,
        "precision": precision,
        "engines": fitting_engines(FAMILIES[str(opened.card.get("runtime", "interpreter"))].engines, opened.path)[0],
        "timeout_s": timeout_s,
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(float32_computation(source.model))
        if opened.card.get("approximate_gates"):
            stack.enter_context(sigmoid_gates(source.model))
        lengths = {shape[1] for shape in shapes.values() if len(shape) > 1}
        if streaming:
            stack.enter_context(any_length(source.model))
        batch = max(batches, default=1) if streaming else 1  # a chunk does not fit a model of a fixed length
        signature = model_signature(
            source.model, batch=batch, length=max(lengths, default=None), data=given, shapes=shapes
        )
        generated: dict[str, Any] = {"ranges": opened.card.get("calibrated_on")}
        if streaming:
            steps = {spec.name: (*shapes.get(spec.name, ()), 1, 1)[1] for spec in signature.inputs}
            chunks = streams.stream_signature(source.model, signature, steps)
            _check_same_inputs(chunks, shapes, opened.path)
            samples = streams.fit_sequences(given, chunks) if given else None
            origin = "given" if samples else "generated"
            report = streams.verify_stream(
                source.model, chunks, opened.path, states=states, data=samples, origin=origin, **generated, **common
            )
        else:
            _check_same_inputs(signature, shapes, opened.path)
            samples = fit_data(given, signature.inputs) if given else None
            padding = str(opened.card.get("padding", "auto"))
            data = samples or generate_data(source.model, signature.inputs, padding=padding, **generated)
            origin = "given" if samples else "generated"
            report = verify_file(source.model, signature, opened.path, data=data, origin=origin, **common)
    if precision == "int8" and not samples and not report.passed:
        raise CalibrationError(
            f"{opened.path} differs from Keras on generated inputs ({report.problems[0]}) An int8 file is only right "
            "on inputs like those it was calibrated on: verify it on real data with --data F.npz."
        )
    return report


def _state(entry: Mapping[str, Any]) -> StreamState:
    fields = {name: value for name, value in entry.items() if name != "zero_point"}
    return StreamState(**{**fields, "shape": tuple(fields["shape"])})


def _rebased(artifact: Artifact, batches: set[int]) -> int | None:
    """The batch that the file was re-based to, where the card says so."""
    return batches.pop() if artifact.card.get("batch_rebased") and len(batches) == 1 else None


def _check_same_inputs(signature: Signature, shapes: Mapping[str, Sequence[int]], path: Path) -> None:
    wanted = {spec.name: spec.shape for spec in signature.inputs}
    found = {name: tuple(shape) for name, shape in shapes.items()}
    if wanted != found:
        raise VerificationError(
            f"{path} takes {found}, but the model takes {wanted}: it was not converted from this model by edgelstm."
        )


def _precision(artifact: Artifact, inspection: Inspection) -> str:
    """The coarsest of the card's precisions; without a card, that of the file's LSTMs."""
    if artifact.card.get("precision") in EXPORTERS:
        return coarsest([str(artifact.card["precision"]), *artifact.card.get("layers", {}).values()])
    found = {lstm.precision for lstm in inspection.lstms}
    return next((name for name in reversed(EXPORTERS) if name in found), "float32")
