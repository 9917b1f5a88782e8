"""What each unit of a model is worth."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Examples
from edgelstm.converters.stages.surgery import graph_of, named_layers
from edgelstm.converters.stages.units.trace import Trace
from edgelstm.errors import StageError

Array = npt.NDArray[Any]

_MOST_EXAMPLES, _BATCH = 256, 16


def norms(trace: Trace) -> Array:
    """Returns the L2 norm of all weights that belong to each unit, shape (roots,), by root."""
    values = {id(each): np.asarray(each.numpy(), np.float64) ** 2 for each in weights_of(trace)}
    return np.sqrt(_per_unit(trace, values))


def taylor(trace: Trace, examples: Examples, label_loss: Callable[[Any, Any], Any]) -> Array:
    """Returns by how much the loss would change, to first order, without each unit.

    The square of the sum of weight times gradient over all weights of a unit, in the mean over small batches of the
    examples.

    Args:
        trace: Of the model.
        examples: At most the first 256 are used.
        label_loss: Function of (labels, answers), see `Workshop.label_loss`.

    Returns:
        Shape (roots,), by root.

    Raises:
        StageError: If the model has several outputs.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equations 8 and 9.
    """
    import tensorflow as tf

    model, variables = trace.model, weights_of(trace)
    if len(model.outputs) != 1:
        raise StageError(f"Model {model.name!r} has {len(model.outputs)} outputs; importance 'taylor' needs one.")
    worth = np.zeros(len(trace.ties.roots()))
    count = min(len(examples), _MOST_EXAMPLES)
    watched = [each.value for each in variables]
    for start in range(0, count, _BATCH):
        part = examples.take(slice(start, min(start + _BATCH, count)))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(watched)
            made = model(feed(model, part), training=False)
            value = _mean(label_loss(part.y, made), getattr(made, "_keras_mask", None))
        gradients = [None if each is None else tf.convert_to_tensor(each) for each in tape.gradient(value, watched)]
        products = {
            id(variable): np.asarray(variable.numpy(), np.float64) * gradient.numpy()
            for variable, gradient in zip(variables, gradients, strict=True)
            if gradient is not None
        }
        worth += len(part) / count * _per_unit(trace, products) ** 2
    return worth


def _mean(losses: Any, mask: Any) -> Any:
    """The mean of losses, over the steps that count where there is a mask of steps."""
    import tensorflow as tf

    if mask is None or len(mask.shape) != len(losses.shape):
        return tf.reduce_mean(losses)
    counts = tf.cast(mask, losses.dtype)
    return tf.reduce_sum(counts * losses) / tf.maximum(tf.reduce_sum(counts), 1)


def lasso_penalty(trace: Trace, factor: float) -> Callable[[Any], Any]:
    """Returns a penalty on all weights of each unit together: factor times the sum of their L2 norms.

    It takes and ignores one variable, as a regularizer of Keras does.

    Source: group lasso on Intrinsic Sparse Structures, Wen et al., "Learning Intrinsic Sparse Structures within Long
    Short-Term Memory", ICLR 2018, equation 5.
    """
    import tensorflow as tf

    roots = trace.ties.roots()
    free = np.setdiff1d(roots, list(trace.ties.reasons()))

    def penalty(_: Any) -> Any:
        total = tf.zeros(len(roots))
        for variable in weights_of(trace):
            square = tf.square(tf.cast(variable.value, tf.float32))
            for axis, ids in trace.variables[id(variable)].items():
                others = [each for each in range(len(variable.shape)) if each != axis]
                total += tf.math.unsorted_segment_sum(tf.reduce_sum(square, others), roots[ids], len(roots))
        # The root has no slope at 0.
        return factor * tf.reduce_sum(tf.sqrt(tf.gather(total, free) + 1e-12))

    return penalty


def weights_of(trace: Trace) -> list[Any]:
    """Returns the weights in which units are, each once; statistics and states are none."""
    found = {
        id(variable): variable
        for layer in named_layers(trace.model).values()
        for variable in layer.variables
        if id(variable) in trace.variables and id(variable) not in trace.uncounted
    }
    return list(found.values())


def feed(model: Any, examples: Examples) -> Any:
    """Returns the inputs of a model in the form in which it takes them."""
    names = [tensor.name for tensor in model.inputs]
    missing = [name for name in names if name not in examples.x]
    if missing:
        raise StageError(f"The examples have no input {missing[0]!r}, only {', '.join(examples.x)}.")
    return import_keras().tree.pack_sequence_as(graph_of(model).input, [examples.x[name] for name in names])


def _per_unit(trace: Trace, values: Mapping[int, Array]) -> Array:
    """Returns the sums of what stands in the weights of each unit; what stands in two rows of a unit counts once."""
    roots = trace.ties.roots()
    sums = np.zeros(len(roots))
    for key, value in values.items():
        axes = {axis: roots[ids] for axis, ids in trace.variables[key].items()}
        for axis, owners in axes.items():
            others = tuple(each for each in range(value.ndim) if each != axis)
            np.add.at(sums, owners, value.sum(axis=others))
        for (one, left), (other, right) in itertools.combinations(axes.items(), 2):
            others = tuple(each for each in range(value.ndim) if each not in (one, other))
            both = value.sum(axis=others) if one < other else value.sum(axis=others).T
            row, column = np.nonzero(left[:, None] == right[None, :])
            np.subtract.at(sums, left[row], both[row, column])
    return sums
