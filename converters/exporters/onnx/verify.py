"""Parity of an ONNX file with the Keras model it came from, on ONNX Runtime in a process of its own."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.artifact import write_temporary
from edgelstm.converters.calibration import calls_of
from edgelstm.converters.exporters.onnx.program import RECURRENT
from edgelstm.converters.exporters.onnx.serialize import import_onnx
from edgelstm.converters.graph import Array
from edgelstm.converters.lowering.signature import Signature
from edgelstm.converters.parity import compare
from edgelstm.converters.policies import float32_computation
from edgelstm.converters.reference import expected_outputs
from edgelstm.converters.scripts import run_script
from edgelstm.converters.verification import MAX_CALLS, VerificationReport, consecutive, finite_only
from edgelstm.errors import ModelRunError

WORKER = Path(__file__).with_name("worker.py")
PRECISION = "float32"
LARGE_BATCH = 3  # a file for any batch size is also tried with so many calls in one

_LENGTHS = 4  # position of the sequence lengths among the inputs of recurrent operators


def verify_onnx(
    model: Any,
    signature: Signature,
    file: Path,
    data: Mapping[str, Array],
    *,
    origin: str = "generated",
    timeout_s: float = 120.0,
) -> VerificationReport:
    """Compares an ONNX file with the Keras model it came from, over consecutive calls.

    ONNX Runtime runs it; where that is not installed, the evaluator that comes with onnx, on what it computes. A file
    with a free batch axis is also run on several calls as one batch.

    Args:
        model: The Keras model.
        signature: Its inputs.
        file: The .onnx file.
        data: Samples by input name, shape (samples, *input shape without batch).
        origin: What the data is, for the report.
        timeout_s: Limit for the run, in seconds.

    Returns:
        The report; a runtime that cannot run the file is a problem in it.

    Raises:
        VerificationError: If Keras itself answers with NaN or infinity.
        MissingExtraError: If onnx is not installed.
    """
    report = VerificationReport(PRECISION, origin)
    loaded = import_onnx().load(str(file))
    names = [output.name for output in loaded.graph.output]
    runtime = choose_runtime(loaded)
    with float32_computation(model):
        calls = calls_of(data, signature.inputs, limit=MAX_CALLS * _batch(signature))
        calls, expected = finite_only(calls, expected_outputs(model, signature, calls), origin)
        large = _as_one(signature, calls) if _takes_any_batch(loaded) else None
        sets = [consecutive(calls, expected)]
        if large is not None:
            sets.append((large[1], expected_outputs(model, *large)))
    if runtime is None:
        report.problems.append("ONNX Runtime is not installed, so nothing was verified: pip install onnxruntime.")
        return report
    try:
        answers, version = run_onnx(file, [list(fed.values()) for fed, _ in sets], runtime=runtime, timeout_s=timeout_s)
    except ModelRunError as error:
        report.problems.append(str(error))
        return report
    for (_, wanted), actual in zip(sets, answers, strict=True):
        title = f"{runtime} {version}"
        if len(report.parities) == 1:
            title += f", batch {LARGE_BATCH * _batch(signature)}"
        problem = _wrong_shape(title, names, wanted, actual)
        if problem is not None:
            report.problems.append(problem)
            continue
        parity, problems = compare(PRECISION, title, names, wanted, dict(zip(names, actual, strict=True)))
        report.parities.append(parity)
        report.problems += problems
    return report


def choose_runtime(model: Any) -> str | None:
    """ONNX Runtime where it is installed, else onnx' own evaluator if it computes the model, else None.

    That evaluator ignores the lengths and activations of recurrent operators.
    """
    if importlib.util.find_spec("onnxruntime") is not None:
        return "onnxruntime"
    for node in model.graph.node:
        lengths = len(node.input) > _LENGTHS and node.input[_LENGTHS]
        named = any(attribute.name == "activations" for attribute in node.attribute)
        if node.op_type in RECURRENT and (node.op_type != "LSTM" or lengths or named):
            return None
    return "onnx.reference"


def run_onnx(
    file: Path, runs: Sequence[Sequence[Array]], *, runtime: str = "onnxruntime", timeout_s: float = 120.0
) -> tuple[list[list[Array]], str]:
    """Runs calls of an ONNX file one after the other in one session of a process of its own.

    Args:
        file: The .onnx file.
        runs: For each run one array per input, in the file's order, calls along the first axis. The runs may have
            different batch sizes.
        runtime: A key of `worker.RUNTIMES`.
        timeout_s: Seconds after which the process is stopped.

    Returns:
        For each run one array per output, calls along the first axis, and the version of the runtime.

    Raises:
        ModelRunError: If the runtime refuses the file, fails, crashes or runs too long.
    """
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        places = []
        for number, arrays in enumerate(runs):
            places.append({side: str(Path(folder) / f"{side}-{number}.npz") for side in ("inputs", "outputs")})
            np.savez(places[-1]["inputs"], *arrays)
        plan = Path(folder) / "plan.json"
        write_temporary(plan, json.dumps({"model": str(file.resolve()), "runtime": runtime, "runs": places}).encode())
        version = str(run_script(WORKER, plan, file=file, runtime=runtime, timeout_s=timeout_s)["version"])
        answers = []
        for place in places:
            with np.load(place["outputs"]) as archive:
                answers.append([archive[f"arr_{position}"] for position in range(len(archive.files))])
        return answers, version


def _batch(signature: Signature) -> int:
    return signature.inputs[0].shape[0]


def _takes_any_batch(loaded: Any) -> bool:
    """Whether the first axis of every input is free."""
    axes = [list(entry.type.tensor_type.shape.dim)[:1] for entry in loaded.graph.input]
    return all(axis and axis[0].dim_param for axis in axes)


def _as_one(signature: Signature, calls: Mapping[str, Array]) -> tuple[Signature, dict[str, Array]]:
    """Several calls as one with a larger batch, made twice, and the signature that goes with it."""
    fed = {name: np.resize(array, (LARGE_BATCH, *array.shape[1:])) for name, array in calls.items()}
    joined = {name: array.reshape(1, -1, *array.shape[2:]) for name, array in fed.items()}
    inputs = tuple(dataclasses.replace(spec, shape=joined[spec.name].shape[1:]) for spec in signature.inputs)
    twice = {name: np.concatenate([array] * 2) for name, array in joined.items()}
    return dataclasses.replace(signature, inputs=inputs, free_batch=False), twice


def _wrong_shape(runtime: str, names: Sequence[str], wanted: Sequence[Array], actual: Sequence[Array]) -> str | None:
    for name, right, got in zip(names, wanted, actual, strict=True):
        if right.shape != got.shape:
            return f"{runtime}: output {name!r} has shape {got.shape[1:]}, Keras' has {right.shape[1:]}."
    return None
