"""What raw samples of a latency say: median, percentiles, how exactly the median is known, and whether to trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

CONFIDENCE = 0.95
NUM_RESAMPLES = 1000
MIN_SAMPLES = 30

# Limits of what is called stable. The first is what a comparison of two models needs; the others follow pyperf, which
# warns of a standard deviation above 10 % of the mean and of a maximum 50 % above it, but use order statistics.
MAX_CI_HALF_WIDTH = 0.03
MAX_DRIFT = 0.10
MAX_SPREAD = 0.50


@dataclass(frozen=True)
class Statistics:
    """A summary of samples, in microseconds.

    Attributes:
        num_samples: How many there are.
        min_us: The least.
        p50_us: The median.
        p90_us: Nine in ten are not above it.
        p99_us: 99 in a hundred are not above it.
        max_us: The greatest.
        p50_low_us: Lower end of the confidence interval of the median.
        p50_high_us: Upper end.
        confidence: Of that interval.
        stable: Whether the median may be compared with others.
        stability: The same in a sentence that says, if it is not stable, why and what to try.
    """

    num_samples: int
    min_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float
    p50_low_us: float
    p50_high_us: float
    confidence: float
    stable: bool
    stability: str


def summarize(groups_ns: Sequence[Sequence[int]], *, seed: int = 0) -> Statistics:
    """Summarizes samples.

    Args:
        groups_ns: Durations in ns, in the order they were taken; one group per process that took them.
        seed: Of the bootstrap.

    Returns:
        The statistics over the samples of all groups.

    Raises:
        ValueError: If there is no sample.
    """
    groups = [np.asarray(group, np.float64) / 1e3 for group in groups_ns if len(group)]
    if not groups:
        raise ValueError("There are no samples to summarize. Measure at least one call.")
    pooled = np.concatenate(groups)
    low, high = bootstrap_median(groups, seed=seed)
    problems = find_problems(groups, low, high)
    p50, p90, p99 = percentiles(groups, (50, 90, 99))
    return Statistics(
        num_samples=len(pooled),
        min_us=float(pooled.min()),
        p50_us=p50,
        p90_us=p90,
        p99_us=p99,
        max_us=float(pooled.max()),
        p50_low_us=low,
        p50_high_us=high,
        confidence=CONFIDENCE,
        stable=not problems,
        stability=_stability(problems),
    )


def percentiles(groups: Sequence[Samples], percents: Sequence[float]) -> list[float]:
    """Returns percentiles, interpolated linearly between the two samples next to them.

    Every process counts the same: one that was slow made fewer calls in its time, and would count less the slower it
    was.

    Args:
        groups: Samples by process, each of shape (num_samples,).
        percents: Which percentiles.
    """
    sizes = {len(group) for group in groups}
    if len(sizes) > 1:
        shares = (np.arange(max(sizes)) + 0.5) / max(sizes)
        groups = [np.quantile(group, shares) for group in groups]
    return [float(value) for value in np.percentile(np.concatenate(groups), percents)]


def bootstrap_median(
    groups: Sequence[Samples], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Estimates between which values the median lies.

    Draws groups with replacement, then samples out of what was drawn: samples of one process share its luck (memory
    layout, clock frequency), so many samples of few processes are worth less than they look.

    Args:
        groups: Samples by process, each of shape (num_samples,).
        seed: Of the random draws.
        num_resamples: Number of draws.
        confidence: How probably the interval holds the median.

    Returns:
        Lower and upper end of the percentile interval.
    """
    rng, sampler = np.random.default_rng(seed), MedianSampler(groups)
    medians = [sampler.draw(rng, rng.integers(0, len(groups), len(groups))) for _ in range(num_resamples)]
    return interval(medians, confidence)


class MedianSampler:
    """Draws medians of samples that are drawn with replacement, every process counting the same."""

    def __init__(self, groups: Sequence[Samples]) -> None:
        pooled = np.concatenate(groups)
        order = np.argsort(pooled, kind="stable")
        self._sizes = np.array([len(group) for group in groups])
        self._values = pooled[order]
        self._labels = np.repeat(np.arange(len(groups)), self._sizes)[order]

    def draw(self, rng: np.random.Generator, drawn: npt.NDArray[np.int64]) -> float:
        """Returns the median of one draw out of the groups of these indices, which may repeat.

        The draws are never made: the middle one of that many uniform numbers follows a beta distribution, and says
        which share of the samples lies below the median drawn.
        """
        counts = np.bincount(drawn, minlength=len(self._sizes))
        shares = np.cumsum((counts / self._sizes / len(drawn))[self._labels])
        size = int(counts @ self._sizes)
        middle = rng.beta((size + 1) / 2, (size + 1) / 2)
        return float(self._values[min(int(np.searchsorted(shares, middle)), len(self._values) - 1)])


def interval(draws: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Returns between which values the middle share of the draws lies."""
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(draws, (tail, 100 - tail))
    return float(low), float(high)


def find_problems(groups: Sequence[Samples], low: float, high: float) -> list[str]:
    """Finds reasons to distrust the median.

    Args:
        groups: Samples by process, in the order they were taken.
        low: Lower end of the confidence interval of the median.
        high: Upper end.

    Returns:
        Sentence parts, none if the measurement is stable.
    """
    pooled = np.concatenate(groups)
    if len(pooled) < MIN_SAMPLES:
        return [f"there are only {len(pooled)} samples, fewer than {MIN_SAMPLES}"]
    problems = []
    p10, p50, p90 = percentiles(groups, (10, 50, 90))
    half_width = (high - low) / 2 / p50
    if half_width > MAX_CI_HALF_WIDTH:
        problems.append(f"the median is known only to ±{half_width:.0%}")
    if (p90 - p10) / p50 > MAX_SPREAD:
        problems.append(f"the middle 80 % of the samples spread over {(p90 - p10) / p50:.0%} of the median")
    drift = max((_drift(group) for group in groups), key=abs)
    if abs(drift) > MAX_DRIFT:
        problems.append(f"the second half of the samples is {abs(drift):.0%} {'slower' if drift > 0 else 'faster'}")
    return problems


def _drift(group: Samples) -> float:
    """Returns how much slower the second half is than the first, as a share of the first."""
    if len(group) < 2:
        return 0.0
    first, second = np.median(group[: len(group) // 2]), np.median(group[len(group) // 2 :])
    return float(second / first - 1)


def _stability(problems: list[str]) -> str:
    if not problems:
        return "The samples are stable."
    return (
        f"The samples are not stable: {', and '.join(problems)}. "
        "Close other programs, keep the processor cool and its clock fixed, use no more threads than free cores, or "
        "measure longer."
    )
