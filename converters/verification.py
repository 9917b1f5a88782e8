"""Parity of an exported file with the Keras model it came from: same inputs, consecutive calls, no resets.

The file runs in a process of its own on each engine. It makes all calls there one after the other, and the first call
comes again at the end: a file that remembers its previous call cannot pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.calibration import calls_of
from edgelstm.converters.graph import Array
from edgelstm.converters.lowering.signature import Signature
from edgelstm.converters.parity import MIN_CALLS, TOLERANCES, Parity, compare
from edgelstm.converters.reference import expected_outputs
from edgelstm.errors import ModelRunError, VerificationError
from edgelstm.runtime.engines import Engine, find_engine, run_sequences_on
from edgelstm.runtime.inspection import Inspection
from edgelstm.runtime.interpreters import CLASSIC

MAX_CALLS = 16
MANY_CALLS = 256
"""Calls on real data where the first MAX_CALLS do not pass in a precision that may have outliers."""


@dataclass(frozen=True)
class Stream:
    """How the calls of a streaming file hang together.

    Attributes:
        chunks: Consecutive calls that make up one sequence. Before each sequence the states are reset.
        carry: Names of outputs by the names of inputs that take them in the next call; these inputs start as zeros.
    """

    chunks: int
    carry: Mapping[str, str]


@dataclass
class VerificationReport:
    """Parity on every engine that was there.

    Attributes:
        precision: Precision of the file.
        data: "generated", "calibration" or "given": what it was verified on.
        parities: One for each engine.
        problems: Sentences about what is wrong; empty if the file passed.
        missing: The engine that the file is made for, if it is not installed; else empty.
        chunks: Of a streaming file, the calls that one sequence was cut into; None for others.
    """

    precision: str
    data: str
    parities: list[Parity] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    chunks: int | None = None

    @property
    def passed(self) -> bool:
        """Whether at least one engine ran the file, and all of them answered as Keras does."""
        return bool(self.parities) and not self.problems and all(parity.passed for parity in self.parities)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "precision": self.precision,
            "data": self.data,
            "passed": self.passed,
            "parity": [asdict(parity) for parity in self.parities],
            "problems": list(self.problems),
            "missing": list(self.missing),
        }

    def summary(self) -> str:
        """The report as lines for a terminal."""
        lines = [f"{self.precision}, {self.data} data: {'passed' if self.passed else 'FAILED'}"]
        resets = f"sequences of {self.chunks} calls each" if self.chunks else "in a row without a reset"
        for parity in self.parities:
            lines += [
                f"  {parity.runtime}, {parity.invokes} calls{',' if self.chunks else ''} {resets}",
                f"    largest difference from Keras {parity.max_abs_difference:.1e}, allowed {parity.tolerance:.0e}",
                f"    mean difference               {parity.mean_abs_difference:.1e}",
            ]
            if parity.outliers:
                lines.append(f"    differ by more than allowed   {parity.outliers} of {parity.invokes} calls")
            if parity.decision_agreement is not None:
                lines.append(f"    same decision                 {100 * parity.decision_agreement:.1f} %")
        lines += [f"  {self.missing_sentence()}"] if self.missing else []
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems)])

    def outlier_sentence(self) -> str:
        """Says how many answers are far from Keras' although the file passed; empty if none."""
        worst = max(self.parities, key=lambda parity: parity.outliers, default=None)
        if worst is None or not worst.outliers:
            return ""
        return (
            f"{worst.outliers} of {worst.invokes} answers in {self.precision} differ from Keras' by more than "
            f"{worst.tolerance:.2g} (up to {worst.max_abs_difference:.2g}): compare scores, not single answers."
        )

    def missing_sentence(self) -> str:
        """Says on which engine the file was not run, how to get it, and on which it was run instead."""
        wanted = ", ".join(f"{name} ({find_engine(name).requirement})" for name in self.missing)
        ran = ", ".join(parity.runtime for parity in self.parities) or "nothing"
        return f"The file was compared on {ran}, not on {wanted}, which is not installed."


def verify_file(
    model: Any,
    signature: Signature,
    file: Path,
    *,
    inspection: Inspection,
    precision: str,
    data: Mapping[str, Array],
    origin: str,
    engines: Sequence[str] = CLASSIC,
    timeout_s: float = 120.0,
) -> VerificationReport:
    """Compares a file with the Keras model it came from, on every engine that is installed.

    Where a few calls do not pass in a precision of 8 bits, and there are more real samples, these decide: see
    `Tolerance.outliers`.

    Args:
        model: The Keras model.
        signature: Its inputs, batch and length as in the file.
        file: The .tflite file.
        inspection: What `inspect` says about the file; its outputs stand in the model's order.
        precision: A key of `TOLERANCES`.
        data: Samples by input name, shape (samples, *input shape without batch).
        origin: What the data is, for the report.
        engines: Names of the engines to run it on, as in `verify_calls`.
        timeout_s: Limit for each engine, in seconds.

    Returns:
        The report; an engine that cannot run the file is a problem in it.

    Raises:
        VerificationError: If Keras itself answers with NaN or infinity.
    """
    batch = signature.inputs[0].shape[0]

    def verify(num_calls: int) -> VerificationReport:
        calls = calls_of(data, signature.inputs, limit=num_calls * batch)
        expected = expected_outputs(model, signature, calls)
        calls, expected = finite_only(calls, expected, origin)
        calls, expected = consecutive(calls, expected)
        return verify_calls(
            file,
            calls,
            expected,
            inputs=inspection.inputs,
            outputs=[entry.name for entry in inspection.outputs],
            precision=precision,
            origin=origin,
            engines=engines,
            timeout_s=timeout_s,
            many=num_calls > MAX_CALLS,
        )

    report = verify(MAX_CALLS)
    more = origin != "generated" and len(data[signature.inputs[0].name]) > MAX_CALLS * batch
    if report.passed or not more or not TOLERANCES[precision].outliers or not report.parities:
        return report
    return verify(MANY_CALLS)


def verify_calls(
    file: Path,
    calls: Mapping[str, Array],
    expected: Sequence[Array],
    *,
    inputs: Sequence[Any],
    outputs: Sequence[str],
    precision: str,
    origin: str,
    engines: Sequence[str],
    timeout_s: float,
    stream: Stream | None = None,
    many: bool = False,
) -> VerificationReport:
    """Compares the answers of a file with expected ones, on every engine that is installed.

    Args:
        file: The .tflite file.
        calls: Arrays by input name, shape (calls, *input shape). The last call is the first one again; of a streaming
            file the last sequence is the first one.
        expected: The answers by output, each of shape (calls, *output shape).
        inputs: The file's inputs, with names and dtypes.
        outputs: Names of its outputs, in the order of `expected`.
        precision: A key of `TOLERANCES`.
        origin: What the data is, for the report.
        engines: Names of the engines, the one that the file is made for first. Where none is installed, the
            interpreters stand in.
        timeout_s: Limit for each engine, in seconds.
        stream: For a streaming file, which calls belong together and what goes from one to the next. Other files are
            never reset.
        many: Whether the calls are enough samples of real data to let a few of them be outliers.

    Returns:
        The report; an engine that cannot run the file is a problem in it.
    """
    report = VerificationReport(precision, origin, chunks=stream.chunks if stream else None)
    here = _installed(engines)
    report.missing = [name for name in engines[:1] if name not in {engine.name for engine in here}]
    fed = _cast(calls, inputs)
    again = stream.chunks if stream else 1
    for engine in here or _installed(CLASSIC):
        try:
            actual, version = _run(engine, file, fed, timeout_s, stream)
        except ModelRunError as error:
            report.problems.append(str(error))
            continue
        name = f"{engine.name} {version}"
        parity, problems = compare(precision, name, outputs, expected, actual, again=again, many=many)
        report.parities.append(parity)
        report.problems += problems
    if not report.parities and not report.problems:
        report.problems.append("No TFLite runtime is installed, so nothing was verified: pip install ai-edge-litert.")
    return report


def _installed(names: Sequence[str]) -> list[Engine]:
    return [engine for engine in map(find_engine, names) if engine.is_here()]


def consecutive(calls: Mapping[str, Array], expected: Sequence[Array]) -> tuple[dict[str, Array], list[Array]]:
    """At least `MIN_CALLS` calls, then the first one again; and the answers to them."""

    def extended(array: Array) -> Array:
        return np.concatenate([array] * -(-MIN_CALLS // len(array)) + [array[:1]])

    return {name: extended(array) for name, array in calls.items()}, [extended(output) for output in expected]


def finite_only(calls: dict[str, Array], expected: list[Array], origin: str) -> tuple[dict[str, Array], list[Array]]:
    """Leaves out generated calls that Keras itself answers with NaN or infinity: a mean over no valid step, say.

    Raises:
        VerificationError: If Keras answers given data so, or every generated call.
    """
    finite = np.all([np.isfinite(output).reshape(len(output), -1).all(axis=1) for output in expected], axis=0)
    if finite.all():
        return calls, expected
    if origin != "generated" or finite.sum() < 2:
        raise VerificationError(
            f"Keras itself answers with NaN or infinity on the {origin} data (first in call {int(finite.argmin())}), "
            "so there is nothing to compare with. Check the model's weights and the data."
        )
    return {name: array[finite] for name, array in calls.items()}, [output[finite] for output in expected]


def _cast(calls: Mapping[str, Array], inputs: Sequence[Any]) -> dict[str, Array]:
    """Token indices that Keras takes as floats become the integers that the file takes."""
    integer = {entry.name: entry.dtype for entry in inputs if entry.dtype.startswith("int") and entry.scale is None}
    return {name: array.astype(integer.get(name, array.dtype)) for name, array in calls.items()}


def _run(
    engine: Engine, file: Path, calls: Mapping[str, Array], timeout_s: float, stream: Stream | None
) -> tuple[dict[str, Array], str]:
    """Outputs by name, dequantized to float32, and the version of the engine."""
    if stream is None:
        actual, result = engine.run(file, calls, timeout_s=timeout_s)
    else:
        actual, result = run_sequences_on(
            engine.name, file, calls, sequence=stream.chunks, carry=stream.carry, timeout_s=timeout_s
        )
    for tensor in result["outputs"]:
        if tensor["scale"]:
            stored = actual[tensor["name"]].astype(np.float32)
            actual[tensor["name"]] = (stored - tensor["zero_point"]) * np.float32(tensor["scale"])
    return actual, str(result["runtime_version"])


def require_passed(report: VerificationReport, file_name: str) -> None:
    """Refuses a file that failed.

    Raises:
        VerificationError: With the first reason and the way out.
    """
    if report.passed:
        return
    raise VerificationError(f"{file_name} was not written: {report.problems[0]} {_advice(report.precision)}")


def _advice(precision: str) -> str:
    return {
        "float32": "Check a promise given with --padding; otherwise please report the model.",
        "float16": "Use float32: some weights or activations are too large for half precision.",
        "dynamic": "Use float16, or --no-verify to look at the file all the same.",
        "int8": "Calibrate on more and more typical inputs, or use --quantize dynamic.",
    }[precision]
