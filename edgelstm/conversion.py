"""From a Keras model to a verified artifact, and the verification by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact, check_output, write_artifact, write_temporary
from edgelstm.card import make_card
from edgelstm.converters.calibration import fit_data, generate_data, read_data
from edgelstm.converters.exporters import EXPORTERS, Job
from edgelstm.converters.lowering.masks import PADDINGS
from edgelstm.converters.lowering.signature import Signature, model_signature
from edgelstm.converters.lowering.trace import trace_model
from edgelstm.converters.policies import float32_computation
from edgelstm.converters.reference import require_answers
from edgelstm.converters.verification import VerificationReport, require_passed, verify_file
from edgelstm.errors import CalibrationError, VerificationError
from edgelstm.runtime.inspection import Inspection, inspect
from edgelstm.source import open_source

IO_TYPES = ("float", "int8")
DEFAULT_TIMEOUT_S = 600.0
Progress = Callable[[str], None]


def convert(
    model: Any,
    output: str | Path,
    *,
    quantize: str = "float32",
    calibration: str | Path | Mapping[str, Any] | Any | None = None,
    batch: int = 1,
    length: int | None = None,
    padding: str = "auto",
    io: str = "float",
    custom: Sequence[str] = (),
    verify: bool = True,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Progress | None = None,
) -> Artifact:
    """Converts a Keras model to a .tflite file that answers as Keras does, on every call.

    Every LSTM becomes one fused operator that starts each call from its initial state. The file is compared
    with the Keras model before it gets its name.

    Args:
        model: A Keras 3 model, or the path of a `.keras`, `.h5` or `.hdf5` file.
        output: The `.tflite` file to write; its card is written beside it as `.json`.
        quantize: "float32", "float16", "dynamic" (int8 weights) or "int8" (full integer).
        calibration: Typical inputs: an .npz file or arrays by input name, samples first. int8 needs them;
            other precisions are verified on them.
        batch: Batch size of the file, where the model leaves it free.
        length: Number of time steps, where the model leaves it free.
        padding: "auto" handles masked steps anywhere. "pre" and "post" promise that they only come first or
            last, "none" that there are none; the file is cheaper then.
        io: "float" or "int8": type of the inputs and outputs of an int8 file.
        custom: Custom classes of the model, each as "package.module:Class".
        verify: False leaves parity out; the card says so.
        timeout_s: Limit for each native job, in seconds.
        progress: Called with a word or two at each step.

    Returns:
        The artifact.

    Raises:
        ValueError: If an option has a value that is not allowed.
        EdgeLSTMError: If the job cannot be done; nothing is written then.
    """
    _check_options(quantize, batch, length, padding, io)
    output = Path(output)
    check_output(output)
    report_step = progress or _ignore
    report_step("loading")
    source = open_source(model, custom)
    given = None if calibration is None else read_data(calibration)
    with float32_computation(source.model) as mixed, tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        signature = model_signature(source.model, batch=batch, length=length or _length_of(given), data=given)
        data = None if given is None else fit_data(given, signature.inputs)
        if data is not None and quantize == "int8":
            require_answers(source.model, signature, data)
        report_step("tracing")
        trace = trace_model(source.model, signature, Path(folder) / "saved_model", padding=padding)
        report_step("converting")
        job = Job(Path(folder) / "saved_model", signature, trace, data, io, timeout_s)
        exported = EXPORTERS[quantize](job)
        exported.graph.prune_operators()
        exported.graph.prune_tensors()
        flatbuffer = exported.graph.to_bytes()
        file = Path(folder) / output.name
        write_temporary(file, flatbuffer)
        inspection = inspect(file)
        _check_result(inspection)
        report = None
        if verify:
            report_step("verifying")
            report = verify_file(
                source.model,
                signature,
                file,
                inspection=inspection,
                precision=quantize,
                data=data or generate_data(source.model, signature.inputs, padding=padding),
                origin="calibration" if data else "generated",
                timeout_s=timeout_s,
            )
            require_passed(report, output.name)
        card = make_card(
            output.name,
            source,
            precision=quantize,
            padding=padding,
            io=io,
            trace=trace,
            inspection=inspection,
            report=report,
            notes=[*trace.notes, *exported.notes, *_mixed_note(mixed)],
            data=data,
        )
        report_step("writing")
        return write_artifact(output, flatbuffer, card)


def verify(
    model: Any,
    artifact: str | Path | Artifact,
    *,
    data: str | Path | Mapping[str, Any] | Any | None = None,
    custom: Sequence[str] = (),
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> VerificationReport:
    """Compares an artifact with the Keras model it came from, on every installed runtime.

    Args:
        model: A Keras 3 model, or the path of its file.
        artifact: The artifact or the path of its `.tflite` file.
        data: Inputs to compare on, as in `convert`; generated if left out.
        custom: Custom classes of the model, each as "package.module:Class".
        timeout_s: Limit for each runtime, in seconds.

    Returns:
        The report; `passed` tells the result.

    Raises:
        EdgeLSTMError: If model, artifact or data cannot be read, or do not belong together.
    """
    opened = artifact if isinstance(artifact, Artifact) else Artifact.open(artifact)
    inspection = inspect(opened.path)
    tensors = inspection.signatures[0]
    source = open_source(model, custom)
    given = None if data is None else read_data(data)
    with float32_computation(source.model):
        shapes = {entry.name: entry.shape for entry in tensors.inputs}
        lengths = {shape[1] for shape in shapes.values() if len(shape) > 1}
        signature = model_signature(source.model, length=max(lengths, default=None), data=given, shapes=shapes)
        _check_same_inputs(signature, inspection, opened.path)
        padding = str(opened.card.get("padding", "auto"))
        samples = fit_data(given, signature.inputs) if given else None
        precision = _precision(opened, inspection)
        report = verify_file(
            source.model,
            signature,
            opened.path,
            inspection=inspection,
            precision=precision,
            data=samples
            or generate_data(source.model, signature.inputs, padding=padding, ranges=opened.card.get("calibrated_on")),
            origin="given" if samples else "generated",
            timeout_s=timeout_s,
        )
    if precision == "int8" and not samples and not report.passed:
        raise CalibrationError(
            f"{opened.path} differs from Keras on generated inputs ({report.problems[0]}) An int8 file is only right "
            "on inputs like those it was calibrated on: verify it on real data with --data F.npz."
        )
    return report


def _ignore(_: str) -> None:
    """Reports nothing."""


def _check_options(quantize: str, batch: int, length: int | None, padding: str, io: str) -> None:
    for name, value, allowed in (
        ("quantize", quantize, tuple(EXPORTERS)),
        ("padding", padding, PADDINGS),
        ("io", io, IO_TYPES),
    ):
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is not known, only {', '.join(map(repr, allowed))}.")
    if io == "int8" and quantize != "int8":
        raise ValueError(f"io='int8' needs quantize='int8', not {quantize!r}.")
    for name, number in (("batch", batch), ("length", length)):
        if number is not None and number < 1:
            raise ValueError(f"{name}={number} must be at least 1.")


def _length_of(data: Mapping[str, Any] | None) -> int | None:
    """The number of time steps of given data, where all arrays agree on it."""
    lengths = {np.shape(array)[1] for array in (data or {}).values() if np.ndim(array) > 1}
    return lengths.pop() if len(lengths) == 1 else None


def _check_result(inspection: Inspection) -> None:
    """Refuses a file that is not what was asked for, whatever its numbers say."""
    traps = [warning for warning in inspection.warnings if warning.severity == "warning"]
    if traps:
        raise VerificationError(f"The converted file is not fit for use: {traps[0].message}")


def _mixed_note(mixed: Sequence[str]) -> list[str]:
    if not mixed:
        return []
    return ["The model computes in another precision than float32 in Keras; this file computes in float32."]


def _check_same_inputs(signature: Signature, inspection: Inspection, path: Path) -> None:
    wanted = {spec.name: spec.shape for spec in signature.inputs}
    found = {tensor.name: tuple(tensor.shape) for tensor in inspection.signatures[0].inputs}
    if wanted != found:
        raise VerificationError(
            f"{path} takes {found}, but the model takes {wanted}: it was not converted from this model by edgelstm."
        )


def _precision(artifact: Artifact, inspection: Inspection) -> str:
    """The card's precision; without a card, the coarsest one of the file's LSTMs."""
    if artifact.card.get("precision") in EXPORTERS:
        return str(artifact.card["precision"])
    found = {lstm.precision for lstm in inspection.lstms}
    return next((name for name in reversed(EXPORTERS) if name in found), "float32")
