from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgelstm.targets.comparison import compare, ratio_of_medians
from tests.targets.made import emulated, estimated, measured


def test_the_ratio_is_that_of_the_medians_and_lies_in_its_interval():
    ratio = ratio_of_medians([[100, 110, 120]], [[200, 230, 250]])
    assert ratio.value == 230 / 110
    assert ratio.low <= ratio.value <= ratio.high


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        # Both of a pair share the luck of their minute, which is larger than the difference of interest.
        luck = rng.uniform(0.8, 1.25, 5)
        base, other = (
            [factor * 1000 * (luck[i] + 0.02 * rng.standard_normal(30)) for i in range(5)] for factor in (1, 2)
        )
        ratio = ratio_of_medians(base, other, seed=trial)
        hits += ratio.low <= 2 <= ratio.high
    assert hits >= 88


def test_pairs_that_share_their_luck_are_known_more_exactly():
    luck = np.array([0.7, 0.85, 1.0, 1.2, 1.4])
    rng = np.random.default_rng(1)
    base, other = ([1000 * factor * (each + 0.005 * rng.standard_normal(50)) for each in luck] for factor in (1, 1.5))
    paired, alone = (ratio_of_medians(base, other, paired=way) for way in (True, False))
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_different_numbers_of_processes_can_be_compared():
    assert ratio_of_medians([[10, 11]], [[20, 22], [20, 22]]).value == pytest.approx(2.0)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="no samples to compare"):
        ratio_of_medians([[]], [[1]])


def test_counts_and_estimates_are_compared_exactly():
    counts = compare(emulated(1_000_000), emulated(1_500_000))
    assert (counts.value, counts.low, counts.high) == (1.5, 1.5, 1.5)
    assert compare(estimated(100.0), estimated(250.0)).value == 2.5


def test_summaries_without_samples_are_compared_by_their_intervals():
    """Android's benchmark_model tells no single times."""
    base, other = (
        replace(measured(value), processes=(replace(measured(value).processes[0], samples_ns=[]),))
        for value in (100.0, 200.0)
    )
    ratio = compare(base, other)
    assert ratio.value == pytest.approx(2.0, rel=0.01)
    assert ratio.low <= ratio.value <= ratio.high
    assert not ratio.is_known


def test_what_is_measured_is_never_compared_with_what_is_not():
    with pytest.raises(ValueError, match="A model that is estimated cannot be compared with one that is measured"):
        compare(measured(), estimated(100.0))
