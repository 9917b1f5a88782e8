"""How close the answers of a file are to Keras': differences, tolerances, decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.converters.graph import Array

MIN_CALLS = 3


@dataclass(frozen=True)
class Tolerance:
    """Largest allowed differences, as parts of the scale of an output: its largest absolute value.

    Attributes:
        max_difference: Of any single element.
        mean_difference: Over all elements.
        smallest_scale: Scale of outputs whose values are all smaller than this.
        reason: Where the numbers come from.
        outliers: Part of many calls on real data that may differ by more than max_difference: a trained model stands
            on the edge between two answers now and then, and a rounding tips it over.
    """

    max_difference: float
    mean_difference: float
    smallest_scale: float
    reason: str
    outliers: float = 0.0

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
        0.15, 0.02, 0.01, "weights and activations rounded to 8 bits (0.4 % of their range) in every product", 0.02
    ),
    "int8": Tolerance(
        0.3, 0.04, 0.01, "as dynamic, and gates limited to 12 fractional bits, hidden state to 8 bits", 0.02
    ),
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
        outliers: Calls that differ by more than that and were let pass.
        passed: Whether everything was within tolerance.
    """

    runtime: str
    invokes: int
    samples: int
    max_abs_difference: float
    mean_abs_difference: float
    decision_agreement: float | None
    tolerance: float
    outliers: int
    passed: bool


def compare(
    precision: str,
    runtime: str,
    names: Sequence[str],
    expected: Sequence[Array],
    actual: Mapping[str, Any],
    *,
    again: int = 1,
    many: bool = False,
) -> tuple[Parity, list[str]]:
    """Compares the answers of a runtime with those of Keras.

    Args:
        precision: A key of `TOLERANCES`.
        runtime: Name and version of the runtime.
        names: Names of the outputs.
        expected: Keras' answers, each of shape (calls, *output shape).
        actual: The runtime's answers by name.
        again: How many of the last calls are the first ones again.
        many: Whether the calls are enough samples of real data to let a few of them be outliers.

    Returns:
        The figures, and a sentence about each output that is wrong.
    """
    tolerance = TOLERANCES[precision]
    problems: list[str] = []
    largest, total, count, allowed, outliers = 0.0, 0.0, 0, 0.0, 0
    agreements = []
    for name, wanted in zip(names, expected, strict=True):
        got = np.asarray(actual[name], np.float32).reshape(wanted.shape)
        if not np.isfinite(got).all():
            problems.append(f"{runtime}: output {name!r} holds NaN or infinity.")
        difference = np.abs(got.astype(np.float64) - wanted)
        scale = tolerance.scale(wanted)
        allowed = max(allowed, tolerance.max_difference * scale)
        if not np.array_equal(got[:again], got[-again:], equal_nan=True):
            problems.append(
                f"{runtime}: output {name!r} answers the first call otherwise when it comes again: it remembers calls."
            )
        limits = tolerance.max_difference * scale, tolerance.mean_difference * scale
        different = difference[:-again] if many else difference
        far = _num_far(different, limits[0])
        let_pass = int(tolerance.outliers * len(different)) if many else 0
        outliers = max(outliers, far)
        if not (far <= let_pass and difference.mean() <= limits[1]):
            problems.append(
                f"{runtime}: output {name!r} differs from Keras' by up to {difference.max(initial=0.0):.3g} (mean "
                f"{difference.mean():.3g}), and {precision} allows {limits[0]:.3g} (mean {limits[1]:.3g})."
            )
        if _is_dead(got, wanted):
            problems.append(f"{runtime}: output {name!r} hardly moves with the input, in Keras it does.")
        largest, total, count = (
            max(largest, float(difference.max(initial=0.0))),
            total + difference.sum(),
            count + got.size,
        )
        agreement = decision_agreement(got, wanted)
        if agreement is not None:
            agreements.append(agreement)
    parity = Parity(
        runtime=runtime,
        invokes=len(expected[0]),
        samples=len(expected[0]) * (expected[0].shape[1] if expected[0].ndim > 1 else 1),
        max_abs_difference=largest,
        mean_abs_difference=float(total / max(count, 1)),
        decision_agreement=min(agreements) if agreements else None,
        tolerance=allowed,
        outliers=0 if problems else outliers,
        passed=not problems,
    )
    return parity, problems


def _num_far(difference: Array, limit: float) -> int:
    """Number of calls with an element that differs by more than the limit, or by NaN."""
    return len(difference) - int((difference.reshape(len(difference), -1) <= limit).all(axis=1).sum())


def _is_dead(got: Array, wanted: Array) -> bool:
    """Whether an output stands still from call to call while Keras' moves by more than an int8 step."""
    if len(wanted) < MIN_CALLS:
        return False
    moved, should = float(np.ptp(got, axis=0).max(initial=0.0)), float(np.ptp(wanted, axis=0).max(initial=0.0))
    extent = max(float(np.abs(wanted).max(initial=0.0)), 1e-6)
    return should > 0.05 * extent and moved < 0.05 * should


def decision_agreement(got: Array, wanted: Array) -> float | None:
    """Part of equal decisions where an output is a probability: the likeliest class, or above one half."""
    low, high = float(wanted.min(initial=0.0)), float(wanted.max(initial=0.0))
    if wanted.ndim != 3 or low < 0 or high > 1:
        return None
    if wanted.shape[-1] > 1:
        if not np.allclose(wanted.sum(axis=-1), 1, atol=1e-3):
            return None
        return float((got.argmax(axis=-1) == wanted.argmax(axis=-1)).mean())
    return float(((got > 0.5) == (wanted > 0.5)).mean())
