"""Parity of a SavedModel with the Keras model it came from: served in a process without Keras, over several calls."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.artifact import write_temporary
from edgelstm.converters.calibration import calls_of
from edgelstm.converters.exporters.saved_model.export import SIGNATURE, Served
from edgelstm.converters.graph import Array
from edgelstm.converters.lowering.signature import Signature
from edgelstm.converters.parity import compare
from edgelstm.converters.reference import expected_outputs
from edgelstm.converters.scripts import run_script
from edgelstm.converters.verification import MAX_CALLS, VerificationReport, consecutive, finite_only
from edgelstm.errors import CalibrationError, ModelRunError
from edgelstm.runtime.arrays import save_arrays

WORKER = Path(__file__).with_name("worker.py")
PRECISION = "float32"
LARGE_BATCH = 3  # calls that are also made as one, where the batch is free


def verify_saved_model(
    model: Any,
    signature: Signature,
    folder: Path,
    served: Served,
    data: Mapping[str, Array],
    *,
    origin: str = "generated",
    timeout_s: float = 120.0,
) -> VerificationReport:
    """Compares a SavedModel with the Keras model it came from.

    Args:
        model: The Keras model.
        signature: Its inputs; calls are of this batch and length.
        folder: The SavedModel.
        served: What `export_saved_model` returned for it.
        data: Samples by input name, shape (samples, *input shape without batch).
        origin: What the data is, for the report.
        timeout_s: Limit for the run, in seconds.

    Returns:
        The report: a parity of consecutive calls, and of another batch and another length where they are free. A model
        that cannot be served is a problem in it.

    Raises:
        VerificationError: If Keras itself answers with NaN or infinity.
    """
    report = VerificationReport(PRECISION, origin)
    calls = calls_of(data, signature.inputs, limit=MAX_CALLS * signature.inputs[0].shape[0])
    calls, expected = finite_only(calls, expected_outputs(model, signature, calls), origin)
    sets = [(*consecutive(calls, expected), "")]
    for other, fed, remark in _free_axes(signature, served, calls):
        with contextlib.suppress(CalibrationError):  # Keras itself takes no longer sequence, with known positions, say
            sets.append((fed, expected_outputs(model, other, fed), remark))
    inputs = {spec.name: entry.name for spec, entry in zip(signature.inputs, served.inputs, strict=True)}
    names = [entry.name for entry in served.outputs]
    runs = [{inputs[name]: array for name, array in fed.items()} for fed, _, _ in sets]
    try:
        answers, version = serve_calls(folder, runs, timeout_s=timeout_s)
    except ModelRunError as error:
        report.problems.append(str(error))
        return report
    for (_, wanted, remark), actual in zip(sets, answers, strict=True):
        title = f"tensorflow {version}{remark}"
        problem = _wrong_shape(title, names, wanted, actual)
        if problem is not None:
            report.problems.append(problem)
            continue
        parity, problems = compare(PRECISION, title, names, wanted, actual)
        report.parities.append(parity)
        report.problems += problems
    return report


def serve_calls(
    folder: Path, runs: Sequence[Mapping[str, Array]], *, timeout_s: float = 120.0
) -> tuple[list[dict[str, Array]], str]:
    """Serves calls one after the other in a process of its own that has no Keras.

    Args:
        folder: A SavedModel that is trusted: TensorFlow runs what it holds.
        runs: For each run an array by input name, shape (calls, *input shape).
        timeout_s: Seconds after which the process is stopped.

    Returns:
        For each run an array by output name, calls along the first axis; and TensorFlow's version.

    Raises:
        ModelRunError: If TensorFlow refuses the folder, fails, crashes or runs too long.
    """
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as scratch:
        places = []
        for number, arrays in enumerate(runs):
            places.append({side: str(Path(scratch) / f"{side}-{number}.npz") for side in ("inputs", "outputs")})
            save_arrays(Path(places[-1]["inputs"]), arrays)
        plan = {"model": str(folder.absolute()), "signature": SIGNATURE, "runs": places}
        write_temporary(Path(scratch) / "plan.json", json.dumps(plan).encode())
        told = run_script(WORKER, Path(scratch) / "plan.json", file=folder, runtime="TensorFlow", timeout_s=timeout_s)
        answers = []
        for place in places:
            with np.load(place["outputs"]) as archive:
                answers.append({name: archive[name] for name in archive.files})
        return answers, str(told["version"])


def _free_axes(
    signature: Signature, served: Served, calls: Mapping[str, Array]
) -> Iterator[tuple[Signature, dict[str, Array], str]]:
    """Calls of another batch and of another length where these are free, made twice, with their signatures."""
    fed = {name: np.resize(array, (LARGE_BATCH, *array.shape[1:])) for name, array in calls.items()}
    if all(entry.shape[:1] == (None,) for entry in served.inputs):
        joined = {name: array.reshape(1, -1, *array.shape[2:]) for name, array in fed.items()}
        yield _twice(signature, joined, f", batch {LARGE_BATCH * signature.inputs[0].shape[0]}")
    free = [
        spec.name for spec, entry in zip(signature.inputs, served.inputs, strict=True) if entry.shape[1:2] == (None,)
    ]
    if free:
        first = {name: array[:1] for name, array in calls.items()}
        yield _twice(signature, {name: _longer(array, name in free) for name, array in first.items()}, ", longer")


def _longer(array: Array, free: bool) -> Array:
    """The calls with their first step once more at the end, where the length is free; shape (calls, batch, time, …)."""
    return np.concatenate([array, array[:, :, :1]], axis=2) if free else array


def _twice(signature: Signature, call: dict[str, Array], remark: str) -> tuple[Signature, dict[str, Array], str]:
    inputs = tuple(replace(spec, shape=call[spec.name].shape[1:]) for spec in signature.inputs)
    return (
        replace(signature, inputs=inputs),
        {name: np.concatenate([array] * 2) for name, array in call.items()},
        remark,
    )


def _wrong_shape(title: str, names: Sequence[str], wanted: Sequence[Array], actual: Mapping[str, Array]) -> str | None:
    for name, right in zip(names, wanted, strict=True):
        if name not in actual:
            return f"{title}: there is no output {name!r}, only {', '.join(map(repr, sorted(actual)))}."
        if right.shape != actual[name].shape:
            return f"{title}: output {name!r} has shape {actual[name].shape[1:]}, Keras' has {right.shape[1:]}."
    return None
