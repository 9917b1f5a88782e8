"""Logistic regressions, which tasks compare their LSTMs with."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgelstm.errors import MissingExtraError
from edgelstm.tasks.base import Array


def logistic_regression(**options: Any) -> Any:
    """Returns a `sklearn.linear_model.LogisticRegression`, not fitted, with these options.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError('Baselines come from scikit-learn: pip install "edgelstm[train]".') from error
    return LogisticRegression(**options)


def class_probabilities(classifier: Any, x: Any, num_classes: int) -> Array:
    """Returns probabilities of all classes, shape (n, num_classes); 0 for those that the fit has not seen.

    Args:
        classifier: Fitted to numbers of classes.
        x: What it answers for, n rows.
        num_classes: How many classes there are.
    """
    answers = np.zeros((x.shape[0], num_classes))
    answers[:, classifier.classes_] = classifier.predict_proba(x)
    return answers
