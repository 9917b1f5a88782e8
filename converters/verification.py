"""Parity of an exported file with the Keras model it came from: same inputs, consecutive calls, no resets.

The file runs in a child process for each runtime. One interpreter makes all calls one after the other, and
the first call comes again at the end: a file that remembers its previous call cannot pass.
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
from edgelstm.converters.parity import MIN_CALLS, Parity, compare
from edgelstm.converters.reference import expected_outputs
from edgelstm.errors import ModelRunError, VerificationError
from edgelstm.runtime.calls import run_calls
from edgelstm.runtime.inspection import Inspection
from edgelstm.runtime.interpreters import available

MAX_CALLS = 16


@dataclass
class VerificationReport:
    """Parity on every runtime that was there.

    Attributes:
        precision: Precision of the file.
        data: "generated", "calibration" or "given": what it was verified on.
        parities: One for each runtime.
        problems: Sentences about what is wrong; empty if the file passed.
    """

    precision: str
    data: str
    parities: list[Parity] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether at least one runtime ran the file, and all of them answered as Keras does."""
        return bool(self.parities) and not self.problems and all(parity.passed for parity in self.parities)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "precision": self.precision,
            "data": self.data,
            "passed": self.passed,
            "parity": [asdict(parity) for parity in self.parities],
            "problems": list(self.problems),
        }

    def summary(self) -> str:
        """The report as lines for a terminal."""
        lines = [f"{self.precision}, {self.data} data: {'passed' if self.passed else 'FAILED'}"]
        for parity in self.parities:
            lines += [
                f"  {parity.runtime}, {parity.invokes} calls in a row without a reset",
                f"    largest difference from Keras {parity.max_abs_difference:.1e}, allowed {parity.tolerance:.0e}",
                f"    mean difference               {parity.mean_abs_difference:.1e}",
            ]
            if parity.decision_agreement is not None:
                lines.append(f"    same decision                 {100 * parity.decision_agreement:.1f} %")
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems)])


def verify_file(
    model: Any,
    signature: Signature,
    file: Path,
    *,
    inspection: Inspection,
    precision: str,
    data: Mapping[str, Array],
    origin: str,
    timeout_s: float = 120.0,
) -> VerificationReport:
    """Compares a file with the Keras model it came from, on every installed runtime.

    Args:
        model: The Keras model.
        signature: Its inputs, batch and length as in the file.
        file: The .tflite file.
        inspection: What `inspect` says about the file; its outputs stand in the model's order.
        precision: A key of `TOLERANCES`.
        data: Samples by input name, shape (samples, *input shape without batch).
        origin: What the data is, for the report.
        timeout_s: Limit for each runtime, in seconds.

    Returns:
        The report; a runtime that cannot run the file is a problem in it.
    """
    report = VerificationReport(precision, origin)
    calls = calls_of(data, signature.inputs, limit=MAX_CALLS * signature.inputs[0].shape[0])
    expected = expected_outputs(model, signature, calls)
    calls, expected = _finite_only(calls, expected, origin)
    calls, expected = _consecutive(calls, expected)
    fed = _cast(calls, inspection.signatures[0].inputs)
    outputs = [entry.name for entry in inspection.signatures[0].outputs]
    for runtime in available():
        try:
            actual = _run(file, fed, runtime.name, runtime.python, timeout_s)
            parity, problems = compare(precision, f"{runtime.name} {runtime.version}", outputs, expected, actual)
            report.parities.append(parity)
            report.problems += problems
        except ModelRunError as error:
            report.problems.append(str(error))
    if not report.parities and not report.problems:
        report.problems.append("No TFLite runtime is installed, so nothing was verified: pip install ai-edge-litert.")
    return report


def _consecutive(calls: Mapping[str, Array], expected: Sequence[Array]) -> tuple[dict[str, Array], list[Array]]:
    """At least `MIN_CALLS` calls, then the first one again; and the answers to them."""

    def extended(array: Array) -> Array:
        return np.concatenate([array] * -(-MIN_CALLS // len(array)) + [array[:1]])

    return {name: extended(array) for name, array in calls.items()}, [extended(output) for output in expected]


def _finite_only(calls: dict[str, Array], expected: list[Array], origin: str) -> tuple[dict[str, Array], list[Array]]:
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


def _run(file: Path, calls: Mapping[str, Array], runtime: str, python: str, timeout_s: float) -> dict[str, Array]:
    """Outputs by name, dequantized to float32."""
    actual, result = run_calls(file, calls, runtime=runtime, python=python, timeout_s=timeout_s)
    for tensor in result["outputs"]:
        if tensor["scale"]:
            stored = actual[tensor["name"]].astype(np.float32)
            actual[tensor["name"]] = (stored - tensor["zero_point"]) * np.float32(tensor["scale"])
    return actual


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
