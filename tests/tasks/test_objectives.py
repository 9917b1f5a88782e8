from __future__ import annotations

import numpy as np
import pytest

from edgelstm.tasks.objectives import (
    AnswersError,
    BinaryClassification,
    Classification,
    MultiLabel,
    RareEvents,
    Regression,
)


def test_classes():
    answers = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25], [0.2, 0.6, 0.2]])
    y = np.array([0, 0, 0, 1])
    objective = Classification()
    assert objective.decide(answers).tolist() == [0, 2, 0, 1]
    # Class 0: precision 2/2, recall 2/3, f1 0.8; class 1: f1 1; class 2 does not occur in y.
    assert objective.score(answers, y) == {"accuracy": 0.75, "macro_f1": pytest.approx(0.9)}


def test_two_classes():
    answers = np.array([[0.1], [0.9], [0.6], [0.4], [0.5]])
    y = np.array([0, 1, 0, 1, 0])
    objective = BinaryClassification()
    assert objective.decide(answers).tolist() == [0, 1, 1, 0, 0]
    # One of two positives found, one of two found is positive; of 6 pairs (positive, negative) 4 stand in order.
    expected = {"accuracy": 0.6, "precision": 0.5, "recall": 0.5, "f1": 0.5, "roc_auc": 4 / 6}
    assert objective.score(answers, y) == pytest.approx(expected)
    rare = RareEvents().score(answers, y)
    assert (next(iter(rare)), RareEvents.main) == ("f1", "f1")
    assert rare == pytest.approx(expected)


def test_one_class_alone_has_no_area_and_no_warning():
    figures = BinaryClassification().score(np.array([[0.1], [0.2]]), np.array([0, 0]))
    assert figures == {"accuracy": 1.0, "precision": 0.0, "recall": 0.0, "f1": 0.0, "roc_auc": 0.5}


def test_tags():
    answers = np.array([[0.9, 0.2, 0.6], [0.4, 0.7, 0.1]])
    y = np.array([[1, 0, 0], [0, 1, 0]])
    # All decisions: 2 right, 1 too many, none missing; tags: f1 1, 1 and 0.
    expected = {"micro_f1": 0.8, "macro_f1": 2 / 3, "exact": 0.5}
    assert MultiLabel().score(answers, y) == pytest.approx(expected)


def test_numbers():
    answers, y = np.array([[1.0, 2.0], [3.0, 8.0]], np.float32), np.array([[1.0, 4.0], [3.0, 4.0]])
    figures = Regression().score(answers, y)
    assert figures == pytest.approx({"mae": 1.5, "rmse": np.sqrt(5.0)})
    assert not Regression.higher_is_better


@pytest.mark.parametrize(
    "objective", [Classification(), BinaryClassification(), RareEvents(), MultiLabel(), Regression()]
)
def test_the_main_figure_is_the_first_one(objective):
    y = np.array([[0, 1], [1, 0]]) if isinstance(objective, MultiLabel | Regression) else np.array([0, 1])
    answers = np.array([[0.3, 0.7], [0.6, 0.4]])
    answers = answers[:, :1] if isinstance(objective, BinaryClassification) else answers
    figures = objective.score(answers, y)
    assert next(iter(figures)) == objective.main
    assert all(type(value) is float for value in figures.values())


@pytest.mark.parametrize("shape", [(4,), (3, 2), (4, 2, 1), (), (4, 0)])
def test_answers_of_another_shape_are_refused(shape):
    with pytest.raises(AnswersError, match=r"do not fit 4 examples with y of shape \(4,\)"):
        Classification().score(np.zeros(shape), np.zeros(4, int))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_refused(value):
    with pytest.raises(AnswersError, match="contain NaN or infinity"):
        BinaryClassification().score(np.array([[0.5], [value]]), np.array([0, 1]))


@pytest.mark.parametrize("objective", [Classification(), BinaryClassification()])
def test_weights_let_classes_count_alike(objective):
    y = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(objective.class_weights(y), [2 / 3, 2 / 3, 2 / 3, 2])


@pytest.mark.parametrize("objective", [MultiLabel(), Regression()])
def test_without_classes_there_are_no_weights_and_no_decisions(objective):
    assert objective.class_weights(np.zeros((3, 2))) is None
    assert objective.decide(np.zeros((3, 2))) is None
