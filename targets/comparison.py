"""How much slower one model is than another, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgelstm.targets.measurement import Measurement
from edgelstm.targets.statistics import CONFIDENCE, NUM_RESAMPLES, MedianSampler, interval, percentiles


@dataclass(frozen=True)
class Ratio:
    """How much more one model takes than another: time, or instructions.

    Attributes:
        value: Above 1 the second takes more.
        low: Lower end of the confidence interval; for counts and estimates the value itself.
        high: Upper end.
        confidence: Of that interval.
        is_known: Whether the interval can be trusted: one process on each side tells nothing of how processes differ.
    """

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE
    is_known: bool = True

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return asdict(self)


def compare(base: Measurement, other: Measurement, *, seed: int = 0, interleaved: bool = True) -> Ratio:
    """Compares two models on the same target.

    Args:
        base: What is compared with.
        other: What is compared.
        seed: Of the bootstrap.
        interleaved: Whether the processes of both took turns in one run. Then each pair of neighbours shares the luck
            of its minute, and is drawn together.

    Raises:
        ValueError: If one is measured and the other is not.
    """
    if base.kind != other.kind:
        raise ValueError(f"A model that is {other.kind} cannot be compared with one that is {base.kind}.")
    if base.count and other.count:
        return _exact(other.count.instructions / base.count.instructions)
    if base.estimate and other.estimate:
        return _exact(other.estimate.latency_us / base.estimate.latency_us)
    if any(base.groups_ns()) and any(other.groups_ns()):
        return ratio_of_medians(base.groups_ns(), other.groups_ns(), seed=seed, paired=interleaved)
    return _of_summaries(base, other)


def ratio_of_medians(
    base_ns: Sequence[Sequence[int]], other_ns: Sequence[Sequence[int]], *, seed: int = 0, paired: bool = True
) -> Ratio:
    """Returns the ratio of two medians with its bootstrap confidence interval.

    Processes are drawn with replacement, then samples out of them, as in `statistics.bootstrap_median`.

    Args:
        base_ns: Durations of what is compared with, one group per process.
        other_ns: Durations of what is compared.
        seed: Of the bootstrap.
        paired: Whether process i of one ran beside process i of the other; ignored if their numbers differ.

    Raises:
        ValueError: If there are no samples.
    """
    groups = [[np.asarray(group, np.float64) for group in side if len(group)] for side in (base_ns, other_ns)]
    if not all(groups):
        raise ValueError("There are no samples to compare. Measure at least one call of each.")
    rng = np.random.default_rng(seed)
    first, second = (MedianSampler(side) for side in groups)
    sizes = [len(side) for side in groups]
    paired = paired and sizes[0] == sizes[1]
    draws = []
    for _ in range(NUM_RESAMPLES):
        drawn = rng.integers(0, sizes[0], sizes[0])
        other_drawn = drawn if paired else rng.integers(0, sizes[1], sizes[1])
        draws.append(second.draw(rng, other_drawn) / first.draw(rng, drawn))
    low, high = interval(draws)
    medians = [percentiles(side, (50,))[0] for side in groups]
    return Ratio(medians[1] / medians[0], low, high, is_known=min(sizes) > 1)


def _of_summaries(base: Measurement, other: Measurement) -> Ratio:
    """Returns the ratio where a program told only what came out, as Android's benchmark_model does."""
    first, second = base.statistics, other.statistics
    assert first
    assert second
    low, high = second.p50_low_us / first.p50_high_us, second.p50_high_us / first.p50_low_us
    return Ratio(second.p50_us / first.p50_us, low, high, is_known=False)


def _exact(value: float) -> Ratio:
    return Ratio(value, value, value, 1.0)
