"""Whether a model answers on Arm as it does on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.errors import EdgeLSTMError

FLOAT_TOLERANCE = 1e-5
"""Of the outputs' range. Runtimes of the two kinds of machine add up in another order: 5e-6 was seen with networks
of one LSTM, armhf against x86-64; swapped gates or weights differ by 1e-2 and more."""

DYNAMIC_TOLERANCE = 5e-4
"""Of the outputs' range, where weights are integers: activations are quantized from call to call, and one that is
rounded the other way is a step of 1/127. 1.5e-4 was seen between versions of runtimes."""

EQUAL_SHARE = 0.999
"""Of integer outputs: their arithmetic is exact, but for values that lie between two integers."""

_TINY = float(np.finfo(np.float32).tiny)
_QUANTIZED = ("int4", "int8", "uint8")


@dataclass(frozen=True)
class Comparison:
    """How outputs differ from those of this machine.

    Attributes:
        compared_with: Runtime and version on this machine.
        largest_difference: Of all values, relative to the range of their output; None if only one side is finite.
        equal_share: The share of values that are the same.
        problem: What is wrong, as a sentence; None if they agree.
    """

    compared_with: str
    largest_difference: float | None
    equal_share: float
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values, from which the class makes the same again."""
        return asdict(self)


Arrays = dict[str, npt.NDArray[Any]]


def compare_outputs(there: Arrays, here: Arrays, compared_with: str, tolerance: float) -> Comparison:
    """Compares outputs, by name.

    Args:
        there: Of the emulated machine.
        here: Of this one.
        compared_with: Runtime and version here.
        tolerance: Of floats, relative to the range of an output.
    """
    names = set(there) == set(here)
    if not names or any(there[name].shape != here[name].shape for name in here):
        return Comparison(compared_with, None, 0.0, f"The outputs have other names or shapes than {compared_with} has.")
    problems, differences, equal, size = [], [0.0], 0, 0
    for name, reference in here.items():
        difference, same = _difference(there[name], reference)
        share = same / max(reference.size, 1)
        differences.append(difference)
        equal, size = equal + same, size + reference.size
        if reference.dtype.kind == "f" and not difference <= tolerance:
            problems.append(_describe(name, difference, f"more than {tolerance:g}"))
        elif reference.dtype.kind != "f" and share < EQUAL_SHARE:
            problems.append(_describe(name, difference, f"with {share:.1%} of the values equal"))
    largest = max(differences)
    return Comparison(
        compared_with,
        float(largest) if np.isfinite(largest) else None,
        equal / max(size, 1),
        f"The answers differ from those of {compared_with} on this machine: {'; '.join(problems)}. Compare both with "
        "the Keras model before you trust either."
        if problems
        else None,
    )


def tolerance_of(path: Path) -> float:
    """Returns what floats may differ by, relative to their range, for a model file."""
    from edgelstm.runtime.inspection.reader import DAMAGE, parse, read_bytes
    from edgelstm.runtime.inspection.records import DamagedError

    try:
        graphs = parse(read_bytes(path)).graphs
    except (EdgeLSTMError, DamagedError, *DAMAGE):
        return FLOAT_TOLERANCE
    quantized = any(tensor.dtype in _QUANTIZED for graph in graphs for tensor in graph.tensors)
    return DYNAMIC_TOLERANCE if quantized else FLOAT_TOLERANCE


def _difference(one: npt.NDArray[Any], reference: npt.NDArray[Any]) -> tuple[float, int]:
    """Returns the largest difference relative to the range, infinite if one side alone is finite, and equal values."""
    one, reference = one.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    equal = (one == reference) | (np.isnan(one) & np.isnan(reference))
    same = int(equal.sum())
    if equal.all():
        return 0.0, same
    if not (np.isfinite(one[~equal]).all() and np.isfinite(reference[~equal]).all()):
        return float("inf"), same
    finite = reference[np.isfinite(reference)]
    scale: float = max(float(np.ptp(finite)), float(np.abs(finite).max()), _TINY)
    return float(np.abs(one - reference)[~equal].max()) / scale, same


def _describe(name: str, difference: float, rest: str) -> str:
    if not np.isfinite(difference):
        return f"{name!r} has a NaN or an infinity on one side only"
    return f"{name!r} by up to {difference:.2g} of its range, {rest}"
