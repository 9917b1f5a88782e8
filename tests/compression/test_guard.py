"""What counts as lost, and which examples the guard has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgelstm.compression.guard import Guard, split_for_guard, uncertainty_note
from edgelstm.compression.learning import GivenTask, Learning
from edgelstm.errors import DataError
from edgelstm.tasks.base import Data, Setup, Source, Split
from edgelstm.tasks.objectives import Classification
from edgelstm.tasks.settings import TRAINING


def learning(validation: int, seed: int = 0) -> Learning:
    def split(count: int, first: int) -> Split:
        return Split({"ids": np.arange(first, first + count).reshape(-1, 1)}, np.arange(count) % 2)

    data = Data(split(6, 0), split(validation, 100), split(4, 1000))
    return Learning("given", GivenTask(Classification()), data, Setup("", Source("", None), seed, dict(TRAINING)))


@pytest.mark.parametrize(
    "higher, reference, score, drop",
    [
        (True, 0.95, 0.945, 0.5),
        (True, 0.95, 0.97, -2.0),
        (False, 2.0, 2.04, 2.0),
        (False, 2.0, 1.9, -5.0),
        (False, 0.0, 0.0, 0.0),
        (False, 0.0, 0.1, np.inf),
    ],
)
def test_points_of_a_score_and_percent_of_an_error_are_lost(higher, reference, score, drop):
    guard = Guard(0.5, reference, higher)
    assert guard.drop(score) == pytest.approx(drop)
    assert guard.allows(score) == (drop <= 0.5)


def test_a_refusal_tells_what_was_lost_and_what_may_be():
    assert Guard(0.5, 0.95, True).refusal(0.93) == "it loses 2.00 points, and 0.5 are allowed"
    assert Guard(2, 2.0, False).refusal(2.1) == "5.00 % more error, and 2 are allowed"


def test_tuning_and_guard_share_the_validation_examples():
    whole = learning(21)
    shared = split_for_guard(whole)
    tuning, guarding = (part.x["ids"][:, 0].tolist() for part in (shared.data.validation, shared.guarding))
    assert (len(tuning), len(guarding)) == (10, 11)
    assert sorted(tuning + guarding) == list(range(100, 121))
    assert shared.data.train is whole.data.train
    assert shared.data.test is whole.data.test
    # From everywhere: neither half is the first one.
    assert min(tuning) < 104
    assert max(tuning) > 116
    np.testing.assert_array_equal(shared.guarding.y, (shared.guarding.x["ids"][:, 0] - 100) % 2)
    np.testing.assert_array_equal(split_for_guard(learning(21)).guarding.x["ids"], shared.guarding.x["ids"])
    other = split_for_guard(learning(21, seed=1)).guarding.x["ids"]
    assert set(other[:, 0]) != set(guarding)


def test_windows_of_the_guard_share_no_row_with_those_for_tuning():
    whole = learning(60)
    windows = np.arange(60)[:, None] + np.arange(8)
    data = dataclasses.replace(
        whole.data,
        validation=Split({"window": windows.astype(np.float32)}, np.zeros(60)),
        extra={"ends": {"validation": windows[:, -1] + 500}},
    )
    shared = split_for_guard(dataclasses.replace(whole, data=data))
    tuning, guarding = (part.x["window"] for part in (shared.data.validation, shared.guarding))
    assert len(tuning) == 30
    assert len(guarding) == 60 - 30 - 7
    assert not {*tuning.ravel()} & {*guarding.ravel()}


def test_new_ids_reach_the_examples_of_the_guard():
    table = np.arange(2000)[::-1].copy()
    shared = split_for_guard(learning(8))
    changed = shared.with_tokens({"ids": table})
    np.testing.assert_array_equal(changed.guarding.x["ids"], table[shared.guarding.x["ids"]])
    assert learning(8).with_tokens({"ids": table}).guarding is None


def test_too_few_examples_are_refused():
    with pytest.raises(DataError, match="given has 3 validation examples, too few to share with a guard"):
        split_for_guard(learning(3))


def test_a_coarse_guard_says_so():
    guard = Guard(0.5, 0.9, True)
    share = 91 / 102
    width = 196 * np.sqrt(share * (1 - share) / 100)
    assert uncertainty_note(guard, 100) == (
        f"The guard has 100 examples, which leaves what it sees uncertain by {width:.2g} points, and max_drop is 0.5: "
        "compare the score on the test examples. More validation data lets it see less."
    )
    assert uncertainty_note(guard, 100_000) is None
    assert uncertainty_note(dataclasses.replace(guard, max_drop=7), 100) is None
    assert "3.8 points" in uncertainty_note(dataclasses.replace(guard, reference=1.0), 50)
    assert uncertainty_note(dataclasses.replace(guard, higher_is_better=False), 50) is None
