from __future__ import annotations

import numpy as np
import pytest

from edgelstm.targets.statistics import bootstrap_median, percentiles, summarize


def normal_ns(num_samples: int, *, median_us: float = 100.0, spread: float = 0.02, seed: int = 0) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int(value) for value in 1e3 * median_us * (1 + spread * rng.standard_normal(num_samples))]


def test_order_statistics_are_in_microseconds():
    summary = summarize([list(range(1000, 102_000, 1000))])
    assert (summary.num_samples, summary.min_us, summary.max_us) == (101, 1.0, 101.0)
    assert (summary.p50_us, summary.p90_us, summary.p99_us) == (51.0, 91.0, 100.0)


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two():
    assert summarize([[1000, 2000, 4000, 9000]]).p50_us == 3.0


def test_groups_are_pooled():
    assert summarize([[1000, 2000], [], [3000, 9000]]).p50_us == 2.5


def test_every_process_counts_the_same_however_many_calls_it_made():
    """Slow processes make fewer calls in their time: two fast ones must not outvote three slow ones."""
    groups = [[100_000] * 15_000, [100_000] * 15_000, *([200_000] * 7_500 for _ in range(3))]
    found = summarize(groups)
    assert found.p50_us == 200.0
    assert found.num_samples == 52_500
    assert (found.min_us, found.max_us) == (100.0, 200.0)
    assert found.p50_low_us == 100.0  # of five processes drawn, often three are fast


def test_percentiles_are_interpolated():
    assert percentiles([np.array([0.0, 10.0])], (25, 90)) == [2.5, 9.0]


@pytest.mark.parametrize("groups", [[], [[]], [[], []]])
def test_no_samples_are_refused(groups):
    with pytest.raises(ValueError, match=r"no samples to summarize\. Measure at least one call"):
        summarize(groups)


def test_the_interval_repeats_with_its_seed_and_holds_the_median():
    samples = [np.asarray(normal_ns(301), float)]
    low, high = bootstrap_median(samples, seed=3)
    assert bootstrap_median(samples, seed=3) == (low, high)
    assert bootstrap_median(samples, seed=4) != (low, high)
    assert low < np.median(samples[0]) < high


def test_the_interval_is_that_of_a_bootstrap_that_really_draws():
    samples = np.random.default_rng(0).exponential(100.0, 51)
    rng = np.random.default_rng(1)
    drawn = np.median(rng.choice(samples, (20_000, len(samples))), axis=1)
    expected = np.percentile(drawn, (2.5, 97.5))
    # The ends are samples: a few of the draws decide between neighbours, which are about 5 % apart here.
    np.testing.assert_allclose(bootstrap_median([samples], num_resamples=20_000), expected, rtol=0.05)


def test_the_interval_covers_the_true_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_median([rng.exponential(1.0, 60)], seed=trial, num_resamples=200)
        covered += low <= np.log(2) <= high
    # 190 are expected, with a standard deviation of 3.1; the bootstrap of a median is slightly off at 60 samples.
    assert 178 <= covered <= 200


def test_processes_that_disagree_widen_the_interval():
    alike = [np.asarray(normal_ns(500, seed=seed), float) for seed in range(5)]
    apart = [group * factor for group, factor in zip(alike, (0.9, 0.95, 1.0, 1.05, 1.1), strict=True)]
    widths = [high - low for low, high in (bootstrap_median(alike), bootstrap_median(apart))]
    assert widths[1] > 10 * widths[0]


def test_quiet_samples_are_stable():
    summary = summarize([normal_ns(200)])
    assert (summary.stable, summary.stability) == (True, "The samples are stable.")
    assert summary.p50_low_us < summary.p50_us < summary.p50_high_us


def test_a_few_outliers_do_not_make_samples_unstable():
    assert summarize([normal_ns(200) + [10_000_000] * 3]).stable


@pytest.mark.parametrize(
    "samples, reason",
    [
        (normal_ns(29), "there are only 29 samples, fewer than 30"),
        (normal_ns(40, spread=0.19), "the median is known only to ±"),
        (normal_ns(5000, spread=0.3), "the middle 80 % of the samples spread over"),
        (normal_ns(2000) + normal_ns(2000, median_us=120), "the second half of the samples is 20% slower"),
        (normal_ns(2000) + normal_ns(2000, median_us=80), "the second half of the samples is 20% faster"),
    ],
)
def test_unstable_samples_say_why_and_what_to_try(samples, reason):
    summary = summarize([samples])
    assert not summary.stable
    assert reason in summary.stability
    assert "Close other programs" in summary.stability
