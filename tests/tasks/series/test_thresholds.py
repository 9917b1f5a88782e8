from __future__ import annotations

import numpy as np
import pytest

from edgelstm.tasks.series.thresholds import best_threshold, move_threshold


def f1(probabilities, y, threshold):
    alarms = probabilities > threshold
    return 2 * (alarms & (y == 1)).sum() / max(1, alarms.sum() + (y == 1).sum())


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_has_a_higher_f1(seed):
    generator = np.random.default_rng(seed)
    # Few different values, so that many are equal.
    probabilities = generator.integers(1, 12, 80) / 13
    y = (generator.random(80) < probabilities / 2).astype(int)
    best = best_threshold(probabilities[:, np.newaxis], y)
    assert f1(probabilities, y, best) == max(f1(probabilities, y, t) for t in np.arange(1, 26) / 26)
    assert np.abs(probabilities - best).min() > 0.03


def test_the_threshold_lies_in_the_middle_between_two_answers():
    assert best_threshold([0.1, 0.2, 0.6, 0.9], np.array([0, 0, 1, 1])) == pytest.approx(0.4)


@pytest.mark.parametrize("probabilities, y", [([0.1, 0.9], [0, 0]), ([0.3, 0.3], [0, 1])])
def test_where_nothing_can_be_chosen_it_is_a_half(probabilities, y):
    assert best_threshold(probabilities, np.array(y)) == 0.5


def test_moved_probabilities_keep_their_order_and_are_decided_at_a_half():
    probabilities = np.array([0, 0.1, 0.3, 0.8, np.nextafter(0.8, 1), 0.9, 1])
    moved = move_threshold(probabilities, 0.8)
    assert (np.diff(moved) > 0).all()
    assert (moved[[0, -1]] == [0, 1]).all()
    np.testing.assert_array_equal(moved > 0.5, probabilities > 0.8)
