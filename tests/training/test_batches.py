from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from edgelstm.errors import SettingError
from edgelstm.tasks.base import Split
from edgelstm.tasks.objectives import Regression
from edgelstm.training.batches import Batches
from tests.training.tiny_task import TinyTask

Y = np.array([0] * 6 + [1] * 3 + [2] * 2, np.int32)


def batches(whole=False, **settings):
    x = np.arange(11, dtype=np.float32)[:, np.newaxis, np.newaxis] + np.zeros((11, 5, 2), np.float32)
    task = TinyTask()
    setup = task.setup(seed=settings.pop("seed", 0), settings={"batch_size": 4, "noise": 0.0, **settings})
    return Batches(task, Split({"wave": x}, Y), setup, whole=whole)


def numbers(epoch_batches):
    """Which examples are in each batch."""
    return [split.x["wave"][:, 0, 0].astype(int).tolist() for split, _ in epoch_batches]


def test_an_epoch_is_every_example_once_with_its_own_y():
    made = batches()
    assert len(made) == 3
    found = [*made.of_epoch(0)]
    assert [len(split) for split, _ in found] == [4, 4, 3]
    assert sorted(chain(*numbers(found))) == list(range(11))
    for split, weights in found:
        np.testing.assert_array_equal(split.y, Y[split.x["wave"][:, 0, 0].astype(int)])
        assert weights is None


def test_the_order_follows_from_seed_and_epoch():
    orders = [numbers(batches(seed=seed).of_epoch(epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert orders[0] == numbers(batches().of_epoch(0))
    assert len({str(order) for order in orders}) == 4


def test_the_order_is_not_what_data_made_from_the_same_seed_had():
    order = [*chain(*numbers(batches(seed=5).of_epoch(0)))]
    for same in (5, (5, 0), (5, 0, 0)):
        assert order != np.random.default_rng(same).permutation(11).tolist()


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_the_rest_of_an_epoch_is_as_in_the_whole_one_with_its_variations(first):
    made = batches(noise=0.5, class_weights=True)
    whole = [*made.of_epoch(2)]
    rest = [*made.of_epoch(2, first)]
    assert len(rest) == 3 - first
    for (expected, expected_weights), (found, weights) in zip(whole[first:], rest, strict=True):
        np.testing.assert_array_equal(found.x["wave"], expected.x["wave"])
        np.testing.assert_array_equal(weights, expected_weights)


def test_variations_differ_between_batches_and_epochs_and_leave_the_data_alone():
    made = batches(noise=0.5)
    plain = batches()
    noises = [
        varied.x["wave"][:3] - split.x["wave"][:3]
        for epoch in (0, 1)
        for (varied, _), (split, _) in zip(made.of_epoch(epoch), plain.of_epoch(epoch), strict=True)
    ]
    for index, noise in enumerate(noises):
        assert 0.2 < noise.std() < 0.9
        assert not any(np.allclose(noise, other, atol=1e-3) for other in noises[:index])


def test_class_weights_go_with_their_examples():
    expected = {0: 11 / (3 * 6), 1: 11 / (3 * 3), 2: 11 / (3 * 2)}
    for split, weights in batches(class_weights=True).of_epoch(0):
        np.testing.assert_allclose(weights, [expected[label] for label in split.y], rtol=1e-6)


@pytest.mark.parametrize("class_weights", [False, True])
def test_whole_batches_are_filled_up_with_examples_that_do_not_count(class_weights):
    made = [*batches(whole=True, class_weights=class_weights).of_epoch(0)]
    assert [len(split) for split, _ in made] == [4, 4, 4]
    *_, (_, weights) = made
    assert weights.dtype == np.float32
    assert weights[3] == 0
    assert (weights[:3] > 0).all()
    assert sorted([*chain(*numbers(made[:2])), *numbers(made[2:])[0][:3]]) == list(range(11))


def test_class_weights_without_classes_are_refused(monkeypatch):
    monkeypatch.setattr(TinyTask, "objective", Regression())
    with pytest.raises(SettingError, match="The setting 'class_weights' needs classes, and task 'tiny' has none"):
        batches(class_weights=True)
