"""What a student's answers cost: how far they are from the teacher's, and how far from the labels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array

Loss = Callable[[Any, Any], Any]

CLASSES, TAGS, NUMBERS = "classes", "tags", "numbers"

_LEAST = 1e-20
"""Of a probability before its logarithm: float32 holds this, and the slope of the logarithm there."""
_LEAST_TAG = 1e-7
"""The same where one minus the probability is needed, too: the distance of 1 to the float32 below it, rounded up."""
_SUM = 1e-3
"""By how much the sum of probabilities may miss 1; float16 rounds each by up to 2.5e-4 of its value."""


def kind_of(output: Any, answers: Array) -> str:
    """Tells what a model's answers are.

    Args:
        output: The symbolic output of the model.
        answers: To some examples, shape (n, ..., width).

    Returns:
        `CLASSES` for probabilities that add up to 1, `TAGS` for what a sigmoid gives, `NUMBERS` for anything else.
    """
    if answers.shape[-1] > 1 and (answers >= 0).all() and (np.abs(answers.sum(axis=-1) - 1) < _SUM).all():
        return CLASSES
    return TAGS if activation_of(output) == "sigmoid" else NUMBERS


def activation_of(output: Any) -> str:
    """Returns the name of the activation that makes a symbolic tensor: "linear" where none is known."""
    operation, _, index = output._keras_history
    if hasattr(operation, "outputs") and hasattr(operation, "layers"):
        return activation_of(operation.outputs[index])
    operation = getattr(operation, "layer", operation)
    activation = getattr(operation, "activation", None)
    own = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
    return str(getattr(activation, "__name__", own.get(type(operation).__name__, "linear")))


def divergence(kind: str, temperature: float) -> Loss:
    """Returns how far answers are from the teacher's: a function of (teacher, student), each of shape (..., width).

    Probabilities are compared as softmax(log p / T) or sigmoid(logit p / T), which is what softening the logits gives,
    by the Kullback-Leibler divergence times T^2, so that gradients are as large for every T; of tags, the mean. Numbers
    are compared by the mean of squares, whatever T.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
    """
    if kind == CLASSES:
        return lambda teacher, student: temperature**2 * _classes(teacher, student, temperature)
    if kind == TAGS:
        return lambda teacher, student: temperature**2 * _tags(teacher, student, temperature)
    return lambda teacher, student: import_keras().ops.mean((teacher - student) ** 2, axis=-1)


def _classes(teacher: Any, student: Any, temperature: float) -> Any:
    ops = import_keras().ops
    wanted, given = (
        ops.log_softmax(ops.log(ops.maximum(each, _LEAST)) / temperature, axis=-1) for each in (teacher, student)
    )
    return ops.sum(ops.exp(wanted) * (wanted - given), axis=-1)


def _tags(teacher: Any, student: Any, temperature: float) -> Any:
    ops = import_keras().ops

    def logarithms(probability: Any) -> tuple[Any, Any]:
        inside = ops.clip(probability, _LEAST_TAG, 1 - _LEAST_TAG)
        logit = (ops.log(inside) - ops.log(1 - inside)) / temperature
        return ops.log_sigmoid(logit), ops.log_sigmoid(-logit)

    (wanted, not_wanted), (given, not_given) = logarithms(teacher), logarithms(student)
    each = ops.exp(wanted) * (wanted - given) + ops.exp(not_wanted) * (not_wanted - not_given)
    return ops.mean(each, axis=-1)


@dataclasses.dataclass(frozen=True)
class Targets:
    """What a student is to answer: labels and the teacher's answers, joined for a training to one row each.

    Attributes:
        labels: Shape (n, ...).
        weights: Of the labels, shape (n,); 0 where there is none.
        answers: Of the teacher, shape (n, ..., width).
        mask: Which of their steps count, shape (n, ...), without the last axis of answers.
        hidden: What the teacher's last recurrent layer gave out, shape (n, ...), with no numbers where that is not
            learnt.
    """

    labels: Array
    weights: Array
    answers: Array
    mask: Array
    hidden: Array

    def joined(self) -> Array:
        """Returns float32, shape (n, numbers)."""
        # The mean over the steps that count is a mean over all of them, as Keras does it.
        steps = self.mask.astype(np.float32) * np.float32(self.mask.size / max(self.mask.sum(), 1))
        parts = (self.labels, self.weights, steps, self.answers, self.hidden)
        return np.concatenate([each.reshape(len(each), -1).astype(np.float32) for each in parts], axis=1)

    def loss(self, kind: str, temperature: float, alpha: float, hidden: float, label_loss: Loss) -> Loss:
        """Returns a function of (joined rows, answers joined likewise), a loss for each example.

        alpha * T^2 * D(teacher at T, student at T) + (1 - alpha) * loss of the labels + hidden * mean square of the
        difference of hidden states (Romero et al., "FitNets", ICLR 2015, equation 3).

        Args:
            kind: Of the answers, see `kind_of`.
            temperature: T.
            alpha: Weight of the teacher's answers against the labels.
            hidden: Weight of the hidden states.
            label_loss: Function of (labels, answers), see `Workshop.label_loss`.
        """
        ops, far = import_keras().ops, divergence(kind, temperature)
        labels, answers, steps = (each.shape[1:] for each in (self.labels, self.answers, self.mask))
        ends = np.cumsum([math.prod(labels), 1, math.prod(steps), math.prod(answers)])
        whole = np.issubdtype(self.labels.dtype, np.integer) or self.labels.dtype == bool

        def loss(targets: Any, made: Any) -> Any:
            label, weight, counts, wanted, state = (
                targets[:, start:end] for start, end in zip([0, *ends], [*ends, None], strict=True)
            )
            made = ops.cast(made, "float32")
            given = ops.reshape(made[:, : math.prod(answers)], (-1, *answers))
            wanted, counts = ops.reshape(wanted, (-1, *answers)), ops.reshape(counts, (-1, *steps))
            total = alpha * _mean(counts * far(wanted, given))
            if alpha < 1:
                label = ops.reshape(label, (-1, *labels))
                cost = label_loss(ops.cast(label, "int32") if whole else label, given)
                cost = counts * cost if len(cost.shape) == len(counts.shape) else cost
                total += (1 - alpha) * weight[:, 0] * _mean(cost)
            if hidden:
                total += hidden * ops.mean((made[:, math.prod(answers) :] - state) ** 2, axis=-1)
            return total

        return loss


def _mean(values: Any) -> Any:
    """The mean of each example."""
    axes = tuple(range(1, len(values.shape)))
    return import_keras().ops.mean(values, axis=axes) if axes else values
