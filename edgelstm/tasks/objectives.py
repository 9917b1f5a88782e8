"""What is learnt and how it is scored: classes, two classes, tags, numbers.

Scores come from scikit-learn; they are shares from 0 to 1, except those of `Regression`, which are in units of y.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgelstm.errors import MissingExtraError

Array = npt.NDArray[Any]


class AnswersError(ValueError):
    """Answers that cannot be scored."""


class Objective(abc.ABC):
    """What is learnt.

    Attributes:
        loss: Keras' name of the loss, or a function of (y, answers).
        metrics: Keras' names of the metrics that are logged while training.
        main: The figure of `score` that matters most.
        higher_is_better: Whether that figure should be high.
    """

    loss: ClassVar[Any]
    metrics: ClassVar[tuple[str, ...]] = ()
    main: ClassVar[str]
    higher_is_better: ClassVar[bool] = True

    @abc.abstractmethod
    def score(self, answers: Array, y: Array) -> dict[str, float]:
        """Returns figures by name, the main one first.

        Args:
            answers: Of a model, shape (n, ...).
            y: What is right, shape (n, ...).

        Raises:
            AnswersError: If the shapes do not fit, no example is there, or an answer is not a finite number.
        """

    def decide(self, answers: Array) -> Array | None:
        """Returns the class that each answer decides for, int, shape (n,); None where there are no such classes."""
        del answers
        return None

    def class_weights(self, y: Array) -> Array | None:
        """Returns a weight for each example, mean 1, with which all classes count alike; None where there are none."""
        del y
        return None


class Classification(Objective):
    """One of several classes: y is its number, int, shape (n,); answers are probabilities, shape (n, classes)."""

    loss = "sparse_categorical_crossentropy"
    metrics = ("accuracy",)
    main = "accuracy"

    def decide(self, answers: Array) -> Array:
        """Takes the most probable class."""
        decisions: Array = answers.argmax(axis=-1)
        return decisions

    def score(self, answers: Array, y: Array) -> dict[str, float]:
        """Returns accuracy, and f1 averaged over classes that occur in y."""
        values = _checked(answers, y, 2)
        decisions, metrics = self.decide(values), _metrics()
        return {
            "accuracy": float(np.mean(decisions == y)),
            "macro_f1": float(metrics.f1_score(y, decisions, labels=np.unique(y), average="macro", zero_division=0)),
        }

    def class_weights(self, y: Array) -> Array:
        """Weighs each class by n / (classes * its count)."""
        return _balanced(y)


class BinaryClassification(Objective):
    """Yes or no: y is 0 or 1, shape (n,); answers are probabilities of 1, shape (n, 1), decided at a half."""

    loss = "binary_crossentropy"
    metrics = ("accuracy",)
    main = "accuracy"

    def decide(self, answers: Array) -> Array:
        """Decides at a half."""
        decisions: Array = (answers.reshape(-1) > 0.5).astype(np.int32)
        return decisions

    def score(self, answers: Array, y: Array) -> dict[str, float]:
        """Returns accuracy; precision, recall and f1 of 1; and the area under the ROC curve, 0.5 for one class."""
        probabilities = _checked(answers, y, 2).reshape(-1)
        decisions, metrics = self.decide(probabilities), _metrics()
        both = len(np.unique(y)) == 2
        return {
            "accuracy": float(np.mean(decisions == y)),
            "precision": float(metrics.precision_score(y, decisions, zero_division=0)),
            "recall": float(metrics.recall_score(y, decisions, zero_division=0)),
            "f1": float(metrics.f1_score(y, decisions, zero_division=0)),
            "roc_auc": float(metrics.roc_auc_score(y, probabilities)) if both else 0.5,
        }

    def class_weights(self, y: Array) -> Array:
        """Weighs each class by n / (2 * its count)."""
        return _balanced(y)


class RareEvents(BinaryClassification):
    """Yes or no where yes is rare: f1 says more than accuracy."""

    main = "f1"

    def score(self, answers: Array, y: Array) -> dict[str, float]:
        """Returns the same figures with f1 in front."""
        figures = super().score(answers, y)
        return {"f1": figures["f1"], **figures}


class MultiLabel(Objective):
    """Any number of tags: y is 0 or 1 for each, shape (n, tags); answers are probabilities, decided at a half."""

    loss = "binary_crossentropy"
    metrics = ("binary_accuracy",)
    main = "micro_f1"

    def score(self, answers: Array, y: Array) -> dict[str, float]:
        """Returns f1 over all decisions, f1 averaged over tags, and the share of examples with every tag right."""
        decisions, metrics = _checked(answers, y, 2) > 0.5, _metrics()
        return {
            "micro_f1": float(metrics.f1_score(y, decisions, average="micro", zero_division=0)),
            "macro_f1": float(metrics.f1_score(y, decisions, average="macro", zero_division=0)),
            "exact": float(np.mean((decisions == y).all(axis=1))),
        }


class Regression(Objective):
    """Numbers: y and answers are of the same shape (n, ...)."""

    loss = "mean_squared_error"
    metrics = ("mean_absolute_error",)
    main = "mae"
    higher_is_better = False

    def score(self, answers: Array, y: Array) -> dict[str, float]:
        """Returns the mean absolute error and the root of the mean squared one, in units of y."""
        difference = _checked(answers, y, y.ndim).reshape(y.shape).astype(np.float64) - y
        return {"mae": float(np.abs(difference).mean()), "rmse": float(np.sqrt((difference**2).mean()))}


def _checked(answers: Array, y: Array, num_axes: int) -> Array:
    values = np.asarray(answers)
    if values.ndim != num_axes or len(values) != len(y) or values.size == 0:
        raise AnswersError(f"Answers of shape {values.shape} do not fit {len(y)} examples with y of shape {y.shape}.")
    if not np.isfinite(values).all():
        raise AnswersError("The answers contain NaN or infinity, so they cannot be scored.")
    return values


def _balanced(y: Array) -> Array:
    classes, numbers, counts = np.unique(y, return_inverse=True, return_counts=True)
    weights: Array = (len(y) / (len(classes) * counts))[numbers].astype(np.float32)
    return weights


def _metrics() -> Any:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise MissingExtraError('Scores come from scikit-learn: pip install "edgelstm[train]".') from error
    return sklearn.metrics
