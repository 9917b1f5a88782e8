"""Parity of an exported file with the Keras model it came from: same inputs, consecutive calls, no resets.

The file runs in a child process for each runtime. One interpreter makes all calls one after the other, and
the first call comes again at the end: a file that remembers its previous call cannot pass.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.calibration import MAX_SAMPLES, calls_of
from edgelstm.converters.graph import Array
from edgelstm.converters.lowering.signature import Signature
from edgelstm.errors import CalibrationError, ModelRunError, VerificationError
from edgelstm.runtime.arrays import save_arrays
from edgelstm.runtime.child import run_worker
from edgelstm.runtime.inspection import Inspection
from edgelstm.runtime.interpreters import available

MAX_CALLS = 16
MIN_CALLS = 3


@dataclass(frozen=True)
class Tolerance:
    """Largest allowed differences, as parts of the scale of an output: its largest absolute value.

    Attributes:
        max_difference: Of any single element.
        mean_difference: Over all elements.
        smallest_scale: Scale of outputs whose values are all smaller than this.
        reason: Where the numbers come from.
    """

    max_difference: float
    mean_difference: float
    smallest_scale: float
    reason: str

    def scale(self, expected: Array) -> float:
        """The scale of an output."""
        return max(self.smallest_scale, float(np.abs(expected).max(initial=0.0)))


TOLERANCES: dict[str, Tolerance] = {
    "float32": Tolerance(
        1e-5, 1e-6, 1.0, "sums in another order: a few hundred roundings of 6e-8, carried on by the recurrence"
    ),
    "float16": Tolerance(
        5e-3, 1e-3, 0.1, "weights rounded to 11 bits (5e-4 each), summed over features and carried on"
    ),
    "dynamic": Tolerance(
        0.15, 0.02, 0.01, "weights and activations rounded to 8 bits (0.4 % of their range) in every product"
    ),
    "int8": Tolerance(0.3, 0.04, 0.01, "as dynamic, and gates limited to 12 fractional bits, hidden state to 8 bits"),
}


@dataclass(frozen=True)
class Parity:
    """How one runtime's answers compare with Keras'.

    Attributes:
        runtime: Name and version of the runtime.
        invokes: Number of consecutive invokes on one interpreter without a reset.
        samples: Number of samples compared.
        max_abs_difference: Over all elements of all outputs.
        mean_abs_difference: Mean over all elements.
        decision_agreement: Part of the samples on which class decisions agree; None if no output is a
            classifier's.
        tolerance: What max_abs_difference was held against.
        passed: Whether everything was within tolerance.
    """

    runtime: str
    invokes: int
    samples: int
    max_abs_difference: float
    mean_abs_difference: float
    decision_agreement: float | None
    tolerance: float
    passed: bool


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
            report.parities.append(_compare(report, f"{runtime.name} {runtime.version}", outputs, expected, actual))
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


def expected_outputs(model: Any, signature: Signature, calls: Mapping[str, Array]) -> list[Array]:
    """What Keras answers, each output with shape (calls, *output shape); every call from fresh states.

    A model that takes any batch size answers all calls at once, as one large batch, if that does not change its
    answer to the first one.
    """
    num_calls = len(next(iter(calls.values())))
    batch = signature.inputs[0].shape[0]
    if signature.free_batch and all(spec.shape[0] == batch for spec in signature.inputs):
        together = {name: array.reshape(-1, *array.shape[2:]) for name, array in calls.items()}
        outputs = _answer(model, signature, together)
        first = _answer(model, signature, {name: array[0] for name, array in calls.items()})
        if all(_begins_with(output, answer, num_calls) for output, answer in zip(outputs, first, strict=True)):
            return [output.reshape(num_calls, batch, *output.shape[1:]) for output in outputs]
    answers = []
    with _states_kept(model) as reset_states:
        for call in range(num_calls):
            reset_states()
            answers.append(_answer(model, signature, {name: array[call] for name, array in calls.items()}))
    return [np.stack(output) for output in zip(*answers, strict=True)]


def _begins_with(output: Array, first: Array, num_calls: int) -> bool:
    """Whether a large batch's answer has all calls, and begins with the answer to the first call alone."""
    if first.ndim == 0 or output.shape != (num_calls * len(first), *first.shape[1:]):
        return False
    return np.allclose(output[: len(first)], first, rtol=1e-4, atol=1e-5, equal_nan=True)


def _answer(model: Any, signature: Signature, inputs: Mapping[str, Array]) -> list[Array]:
    import keras
    import tensorflow as tf

    values = [tf.constant(inputs[spec.name].astype(spec.dtype)) for spec in signature.inputs]
    try:
        outputs = model(signature.pack(values), training=False)
    except tf.errors.OpError as error:
        reason = " ".join(str(error.message).split())[:200]
        raise CalibrationError(
            f"Keras cannot compute the model on the data ({reason}). Check that tokens are below the vocabulary size."
        ) from error
    return [np.asarray(tensor, np.float32) for tensor in keras.tree.flatten(outputs)]


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


@contextlib.contextmanager
def _states_kept(model: Any) -> Iterator[Callable[[], None]]:
    """Gives a function that zeroes the states of stateful layers, and afterwards puts back what was in them."""
    import keras

    flatten = getattr(model, "_flatten_layers", None)
    layers = [layer for layer in (flatten() if flatten else ()) if getattr(layer, "stateful", False) is True]
    variables = [variable for layer in layers for variable in keras.tree.flatten(getattr(layer, "states", None) or [])]
    kept = [variable.numpy() for variable in variables]

    def reset() -> None:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(np.zeros_like(value))

    try:
        yield reset
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


def _cast(calls: Mapping[str, Array], inputs: Sequence[Any]) -> dict[str, Array]:
    """Token indices that Keras takes as floats become the integers that the file takes."""
    integer = {entry.name: entry.dtype for entry in inputs if entry.dtype.startswith("int") and entry.scale is None}
    return {name: array.astype(integer.get(name, array.dtype)) for name, array in calls.items()}


def _run(file: Path, calls: Mapping[str, Array], runtime: str, python: str, timeout_s: float) -> dict[str, Array]:
    """Outputs by name, dequantized to float32."""
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        save_arrays(inputs, calls)
        plan = {"op": "run", "model": str(file), "runtime": runtime, "inputs": str(inputs), "outputs": str(outputs)}
        result = run_worker(plan, python=python, timeout_s=timeout_s)[-1]
        with np.load(outputs) as archive:
            actual = {name: archive[name] for name in archive.files}
    for tensor in result["outputs"]:
        if tensor["scale"]:
            stored = actual[tensor["name"]].astype(np.float32)
            actual[tensor["name"]] = (stored - tensor["zero_point"]) * np.float32(tensor["scale"])
    return actual


def _compare(
    report: VerificationReport, runtime: str, names: Sequence[str], expected: Sequence[Array], actual: Mapping[str, Any]
) -> Parity:
    tolerance = TOLERANCES[report.precision]
    largest, total, count, allowed, passed = 0.0, 0.0, 0, 0.0, True
    agreements = []
    for name, wanted in zip(names, expected, strict=True):
        got = np.asarray(actual[name], np.float32).reshape(wanted.shape)
        if not np.isfinite(got).all():
            report.problems.append(f"{runtime}: output {name!r} holds NaN or infinity.")
            passed = False
        difference = np.abs(got.astype(np.float64) - wanted)
        scale = tolerance.scale(wanted)
        allowed = max(allowed, tolerance.max_difference * scale)
        if not np.array_equal(got[0], got[-1], equal_nan=True):
            report.problems.append(
                f"{runtime}: output {name!r} answers the first call otherwise when it comes again: it remembers calls."
            )
            passed = False
        limits = tolerance.max_difference * scale, tolerance.mean_difference * scale
        if not (difference.max(initial=0.0) <= limits[0] and difference.mean() <= limits[1]):
            report.problems.append(
                f"{runtime}: output {name!r} differs from Keras' by up to {difference.max(initial=0.0):.3g} (mean "
                f"{difference.mean():.3g}), and {report.precision} allows {limits[0]:.3g} (mean {limits[1]:.3g})."
            )
            passed = False
        if _is_dead(got, wanted):
            report.problems.append(f"{runtime}: output {name!r} hardly moves with the input, in Keras it does.")
            passed = False
        largest, total, count = (
            max(largest, float(difference.max(initial=0.0))),
            total + difference.sum(),
            count + got.size,
        )
        agreement = _decisions(got, wanted)
        if agreement is not None:
            agreements.append(agreement)
    return Parity(
        runtime=runtime,
        invokes=len(expected[0]),
        samples=len(expected[0]) * (expected[0].shape[1] if expected[0].ndim > 1 else 1),
        max_abs_difference=largest,
        mean_abs_difference=float(total / max(count, 1)),
        decision_agreement=min(agreements) if agreements else None,
        tolerance=allowed,
        passed=passed,
    )


def _is_dead(got: Array, wanted: Array) -> bool:
    """Whether an output stands still from call to call while Keras' moves by more than an int8 step."""
    if len(wanted) < MIN_CALLS:
        return False
    moved, should = float(np.ptp(got, axis=0).max(initial=0.0)), float(np.ptp(wanted, axis=0).max(initial=0.0))
    extent = max(float(np.abs(wanted).max(initial=0.0)), 1e-6)
    return should > 0.05 * extent and moved < 0.05 * should


def _decisions(got: Array, wanted: Array) -> float | None:
    """Part of equal decisions where an output is a probability: the likeliest class, or above one half."""
    low, high = float(wanted.min(initial=0.0)), float(wanted.max(initial=0.0))
    if wanted.ndim != 3 or low < 0 or high > 1:
        return None
    if wanted.shape[-1] > 1:
        if not np.allclose(wanted.sum(axis=-1), 1, atol=1e-3):
            return None
        return float((got.argmax(axis=-1) == wanted.argmax(axis=-1)).mean())
    return float(((got > 0.5) == (wanted > 0.5)).mean())


def require_answers(model: Any, signature: Signature, data: Mapping[str, Array]) -> None:
    """Refuses data that Keras itself cannot compute the model on, before a native runtime meets it.

    Raises:
        CalibrationError: If Keras fails, on tokens beyond the vocabulary, say.
    """
    calls = calls_of(data, signature.inputs, limit=MAX_SAMPLES)
    if signature.free_batch:
        _answer(model, signature, {name: array.reshape(-1, *array.shape[2:]) for name, array in calls.items()})
    else:
        expected_outputs(model, signature, calls)


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
