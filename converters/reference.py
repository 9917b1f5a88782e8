"""What Keras itself answers: the reference that a file is compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from edgelstm.converters.calibration import MAX_SAMPLES, calls_of
from edgelstm.converters.graph import Array
from edgelstm.converters.layers import layers_inside
from edgelstm.converters.lowering.signature import Signature
from edgelstm.errors import CalibrationError


def expected_outputs(model: Any, signature: Signature, calls: Mapping[str, Array]) -> list[Array]:
    """What Keras answers, each output with shape (calls, *output shape); every call from fresh states.

    A model that takes any batch size answers all calls at once, as one large batch, if that does not change its
    answer to the first one.
    """
    num_calls = len(next(iter(calls.values())))
    batch = signature.inputs[0].shape[0]
    if signature.free_batch and all(spec.shape[0] == batch for spec in signature.inputs):
        together = {name: array.reshape(-1, *array.shape[2:]) for name, array in calls.items()}
        outputs = _answer(model, signature, together)
        first = _answer(model, signature, {name: array[0] for name, array in calls.items()})
        if all(_begins_with(output, answer, num_calls, batch) for output, answer in zip(outputs, first, strict=True)):
            return [output.reshape(num_calls, batch, *output.shape[1:]) for output in outputs]
    answers = []
    with _states_kept(model) as reset_states:
        for call in range(num_calls):
            reset_states()
            answers.append(_answer(model, signature, {name: array[call] for name, array in calls.items()}))
    return [np.stack(output) for output in zip(*answers, strict=True)]


def require_answers(model: Any, signature: Signature, data: Mapping[str, Array]) -> None:
    """Refuses data that Keras itself cannot compute the model on, before a native runtime meets it.

    Raises:
        CalibrationError: If Keras fails, on tokens beyond the vocabulary, say.
    """
    calls = calls_of(data, signature.inputs, limit=MAX_SAMPLES)
    if signature.free_batch:
        _answer(model, signature, {name: array.reshape(-1, *array.shape[2:]) for name, array in calls.items()})
    else:
        expected_outputs(model, signature, calls)


def _begins_with(output: Array, first: Array, num_calls: int, batch: int) -> bool:
    """Whether a large batch's answer has all calls, and begins with the answer to the first call alone."""
    if first.shape[:1] != (batch,) or output.shape != (num_calls * batch, *first.shape[1:]):
        return False
    return np.allclose(output[: len(first)], first, rtol=1e-4, atol=1e-5, equal_nan=True)


def _answer(model: Any, signature: Signature, inputs: Mapping[str, Array]) -> list[Array]:
    import keras
    import tensorflow as tf

    values = [tf.constant(inputs[spec.name].astype(spec.dtype)) for spec in signature.inputs]
    try:
        outputs = model(signature.pack(values), training=False)
    except tf.errors.OpError as error:
        reason = " ".join(str(error.message).split())[:200]
        raise CalibrationError(
            f"Keras cannot compute the model on the data ({reason}). Check that tokens are below the vocabulary size."
        ) from error
    return [np.asarray(tensor, np.float32) for tensor in keras.tree.flatten(outputs)]


@contextlib.contextmanager
def _states_kept(model: Any) -> Iterator[Callable[[], None]]:
    """Gives a function that zeroes the states of stateful layers, and afterwards puts back what was in them."""
    import keras

    layers = [layer for layer in layers_inside(model) if getattr(layer, "stateful", False) is True]
    variables = [variable for layer in layers for variable in keras.tree.flatten(getattr(layer, "states", None) or [])]
    kept = [variable.numpy() for variable in variables]

    def reset() -> None:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(np.zeros_like(value))

    try:
        yield reset
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
