"""Keras model -> ONNX model."""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.converters.exporters.base import Job
from edgelstm.converters.exporters.carrier import carrier_graph
from edgelstm.converters.exporters.onnx.batch import batch_sizes, with_free_batch
from edgelstm.converters.exporters.onnx.directions import merge_directions
from edgelstm.converters.exporters.onnx.program import Program
from edgelstm.converters.exporters.onnx.serialize import import_onnx, to_model
from edgelstm.converters.exporters.onnx.simplify import simplify
from edgelstm.converters.exporters.onnx.translate import translate
from edgelstm.converters.lowering.calls import Trace
from edgelstm.converters.lowering.onnx_lstm import ONNX
from edgelstm.converters.lowering.signature import Signature, unique
from edgelstm.converters.lowering.trace import trace_model
from edgelstm.converters.policies import float32_computation
from edgelstm.errors import LoweringError

NAME = "edgelstm"  # of the graph; Keras' automatic model names change from run to run


@dataclass
class ExportedOnnx:
    """A finished ONNX model.

    Attributes:
        model: The `onnx.ModelProto`.
        notes: Sentences about it for the user.
        trace: What tracing found.
        outputs: Names of its outputs.
        free_batch: Whether it takes any batch size.
    """

    model: Any
    notes: list[str] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)
    outputs: list[str] = field(default_factory=list)
    free_batch: bool = False


def to_onnx(
    model: Any,
    signature: Signature,
    folder: Path,
    *,
    padding: str = "auto",
    free_batch: bool | None = None,
    timeout_s: float = 600.0,
) -> ExportedOnnx:
    """Traces a Keras model and exports it to ONNX, in float32.

    LSTM, GRU and SimpleRNN layers become ONNX's operators, a Bidirectional one a single one, with masks as
    sequence lengths; other recurrent layers are written out step by step. Nothing in the file is a loop.

    Args:
        model: A built Keras model on the TensorFlow backend.
        signature: Its inputs.
        folder: A scratch folder that exists.
        padding: Promise about masked steps, one of `masks.PADDINGS`.
        free_batch: Whether the file shall take any batch size. None: if the model does. A model that does
            something else with other batch sizes is exported for the signature's, with a note.
        timeout_s: Limit for each native job, in seconds.

    Returns:
        The model and sentences for the user.

    Raises:
        ConversionError: If an operator of the model has no counterpart in ONNX, or the converter fails.
        LoweringError: If the model cannot be traced.
        MissingExtraError: If onnx is not installed.
    """
    import_onnx()
    wanted = signature.free_batch if free_batch is None else free_batch
    with float32_computation(model) as mixed:
        exported = _for_any_batch(model, signature, folder, padding, timeout_s) if wanted else None
        if exported is None:
            job = _traced(model, signature, folder / "saved_model", padding, timeout_s)
            exported = export_onnx(job)
            if wanted:
                batch = signature.inputs[0].shape[0]
                exported.notes.append(f"The file takes a batch of {batch} only: the model depends on its size.")
    if mixed:
        exported.notes.append("The model computes in another precision than float32 in Keras; this file in float32.")
    return exported


def export_onnx(job: Job) -> ExportedOnnx:
    """Exports a model that was traced with `onnx_lstm.ONNX`, for the batch size that it was traced with.

    Raises:
        ConversionError: If an operator of the model has no counterpart in ONNX, or the converter fails.
        MissingExtraError: If onnx is not installed.
    """
    import_onnx()
    return _finish(_program(job), job.trace)


def _traced(model: Any, signature: Signature, folder: Path, padding: str, timeout_s: float) -> Job:
    trace = trace_model(model, signature, folder, padding=padding, lowering=ONNX)
    return Job(folder, signature, trace, timeout_s=timeout_s)


def _program(job: Job) -> Program:
    graph = carrier_graph(job, "float32")
    inputs = [spec.name for spec in job.signature.inputs]
    # In ONNX inputs and outputs share one set of names.
    outputs = unique([*inputs, *job.trace.outputs])[len(inputs) :]
    return translate(graph, job.trace.calls, inputs, outputs)


def _finish(program: Program, trace: Trace, *, free_batch: bool = False) -> ExportedOnnx:
    simplify(program)
    merge_directions(program)
    simplify(program)
    outputs = [port.name for port in program.outputs]
    notes = []
    for name, given in zip(trace.outputs, outputs, strict=True):
        if name != given:
            notes.append(f"Output {name!r} is called {given!r} in the file, because an input has its name.")
    return ExportedOnnx(to_model(program, NAME), notes, trace, outputs, free_batch)


def _for_any_batch(
    model: Any, signature: Signature, folder: Path, padding: str, timeout_s: float
) -> ExportedOnnx | None:
    """The model with a free batch axis, None if it depends on the batch size."""
    sizes = batch_sizes({size for spec in signature.inputs for size in spec.shape})
    jobs = []
    for size in sizes:
        place = folder / f"batch_{size}"
        try:
            jobs.append(_traced(model, _with_batch(signature, size), place, padding, timeout_s))
        except LoweringError:  # traced once more with its own batch size, the model says what is wrong
            return None
    try:
        with ThreadPoolExecutor(len(jobs)) as pool:  # the native converter is a process of its own
            one, other = pool.map(_program, jobs)
    finally:
        for job in jobs:
            shutil.rmtree(job.saved_model, ignore_errors=True)
    free = with_free_batch(one, other, sizes)
    return None if free is None else _finish(free, jobs[0].trace, free_batch=True)


def _with_batch(signature: Signature, batch: int) -> Signature:
    inputs = [dataclasses.replace(spec, shape=(batch, *spec.shape[1:])) for spec in signature.inputs]
    return dataclasses.replace(signature, inputs=tuple(inputs))
