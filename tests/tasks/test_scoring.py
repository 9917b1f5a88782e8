"""Answers to any examples of a task are scored like those to its test split."""

from __future__ import annotations

import numpy as np
import pytest

from edgelstm.compression.learning import Learning
from edgelstm.compression.measures import confidence, score_of
from edgelstm.tasks import load_task

SMALL = {"num_rows": 1500, "num_train": 60, "num_validation": 40, "num_test": 40}


@pytest.fixture(scope="module", params=["fault", "forecast", "trend", "rows", "tags", "text"])
def learning(request):
    task = load_task(request.param)
    settings = {name: value for name, value in SMALL.items() if name in task.defaults}
    setup = task.setup(settings=settings)
    return Learning(request.param, task, task.data(setup), setup)


def answers_to(learning, split):
    """Answers that are right more often than not, of the shape that a model gives."""
    generator = np.random.default_rng(len(split))
    y, objective = np.asarray(split.y), learning.task.objective
    if objective.main == "accuracy" and len(learning.data.labels) > 2:
        y = np.eye(len(learning.data.labels))[y]
    elif y.ndim == 1:
        y = y[:, np.newaxis]
    noisy = y + generator.normal(scale=0.3, size=y.shape)
    return np.clip(noisy, 0.01, 0.99) if objective.higher_is_better else noisy


def test_the_test_split_has_the_score_of_the_task(learning):
    test = learning.data.test
    answers = answers_to(learning, test)
    splits = {id(split.x): answers_to(learning, split) for split in learning.data.splits.values()}
    whole = learning.task.evaluate(lambda x: splits[id(x)], learning.data)
    expected = whole[learning.task.objective.main]
    score = score_of(answers, learning, test)
    if learning.task.name == "fault":  # the threshold is that of these examples
        assert expected <= score <= expected + 0.1
    else:
        assert score == pytest.approx(expected)


def test_a_part_of_another_split_is_scored_by_its_own_labels(learning):
    part = learning.data.validation.take(slice(0, None, 3))
    answers = answers_to(learning, part)
    score = score_of(answers, learning, part)
    low, high = confidence(answers, learning, part)
    assert low <= score <= high
    worse = score_of(np.random.default_rng(0).permutation(answers), learning, part)
    assert (worse < score) == learning.task.objective.higher_is_better
