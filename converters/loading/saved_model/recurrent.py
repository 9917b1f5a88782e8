"""Functions of a SavedModel that are LSTM layers of tf.keras.

tf.keras traces its LSTM layers as functions (x, h0, c0, kernel, recurrent kernel, bias, and the mask if there is one)
-> (last output, all outputs, h, c, device) and marks them. The mark is only a hint: a function counts as an LSTM if it
answers as one on random numbers. So do loops, which `loops` looks at.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.saved_model.program import Body, Program
from edgelstm.converters.loading.saved_model.replay import Replay
from edgelstm.converters.loading.saved_model.values import Kind, Value

MARK, LSTM_MARK = "api_implements", b"lstm_"
X, HIDDEN, CELL, KERNEL, RECURRENT_KERNEL, BIAS, MASK = range(7)
LAST, SEQUENCE, FINAL_HIDDEN, FINAL_CELL, DEVICE = range(5)
TOLERANCE = 1e-4
"""float32 sums in another order, carried on over some hundred steps. Wrong semantics differ by more than 1e-2."""
BATCH = 3
"""Rows of random inputs."""
_TIME = 5


@dataclass(frozen=True)
class LstmForm:
    """How an LSTM function runs.

    Attributes:
        masked: Whether it takes a mask.
        time_major: Whether time is the first axis of sequences.
        go_backwards: Whether it starts with the last step.
        zero_output_for_mask: Whether masked steps answer zero.
        last_only: Whether the second result holds the last output alone, as one step.
    """

    masked: bool
    time_major: bool
    go_backwards: bool
    zero_output_for_mask: bool
    last_only: bool


def is_marked(body: Body) -> bool:
    """Whether tf.keras marked a function as an LSTM layer."""
    return MARK in body.attributes and body.attributes[MARK].s.startswith(LSTM_MARK)


def recognize(program: Program, body: Body, features: int, units: int) -> LstmForm | None:
    """Finds out how a marked function runs, by running it on random numbers; None if it is no LSTM.

    Args:
        program: The program that it belongs to.
        body: The function.
        features: Number of the input's features.
        units: Size of the hidden state.
    """
    masked = len(body.arguments) == MASK + 1
    if len(body.arguments) not in (MASK, MASK + 1) or len(body.results) != DEVICE + 1:
        return None
    arrays = random_arrays(_TIME, features, units, masked=masked)
    answers = {time_major: _run(program, body, arrays, time_major) for time_major in (False, True)}
    for time_major, backwards, zero in itertools.product((False, True), (False, True), (False, True)[: 1 + masked]):
        answer = answers[time_major]
        if answer is None or answer[SEQUENCE].ndim != 3:
            continue
        expected = lstm(arrays, go_backwards=backwards, zero_output=zero)
        last_only = answer[SEQUENCE].shape[1] == 1
        if last_only:
            expected[SEQUENCE] = expected[LAST][:, np.newaxis]
        if equal(answer, expected):
            return LstmForm(masked, time_major, backwards, zero, last_only)
    return None


def random_arrays(time: int, features: int, units: int, *, masked: bool) -> list[Array]:
    """Inputs that tell an LSTM from everything else: x, h, c, kernel, recurrent kernel, bias, and a mask if wanted."""
    rng = np.random.default_rng(0)
    shapes = [(BATCH, time, features), (BATCH, units), (BATCH, units)]
    shapes += [(features, 4 * units), (units, 4 * units), (4 * units,)]
    # Small weights keep the gates away from their ends, where all of them look alike.
    arrays = [(rng.normal(size=shape) * 0.7 / max(1.0, shape[0] / 8) ** 0.5).astype(np.float32) for shape in shapes]
    if masked:
        arrays.append(rng.random((BATCH, time)) < 0.6)
        arrays[MASK][0, 0] = False  # one row begins with a masked step
    return arrays


def _run(program: Program, body: Body, arrays: Sequence[Array], time_major: bool) -> list[Array] | None:
    """What a function answers, in the order of `lstm`; None if it does not take such arrays."""
    import tensorflow as tf

    def no_variable(name: str) -> Any:
        raise ValueError(f"an LSTM reads the variable {name!r}")

    given = [
        array.swapaxes(0, 1) if time_major and position in (X, MASK) else array for position, array in enumerate(arrays)
    ]
    try:
        with tf.init_scope():
            values = [Value(tf.constant(array), Kind.DYNAMIC) for array in given]
            results = Replay(program, read_variable=no_variable).function(body, values)
            answers = [np.asarray(results[position].tensor) for position in range(DEVICE)]
    except (ValueError, TypeError, tf.errors.OpError):
        return None
    if time_major and answers[SEQUENCE].ndim == 3:
        answers[SEQUENCE] = answers[SEQUENCE].swapaxes(0, 1)
    return answers


def lstm(arrays: Sequence[Array], *, go_backwards: bool, zero_output: bool) -> list[Array]:
    """What an LSTM of tf.keras answers: last output, all outputs in the order of processing, h, c."""
    x, h, c, kernel, recurrent_kernel, bias = (array.astype(np.float64) for array in arrays[:MASK])
    mask = arrays[MASK] if len(arrays) > MASK else np.ones(x.shape[:2], bool)
    if go_backwards:
        x, mask = x[:, ::-1], mask[:, ::-1]
    output, outputs = np.zeros_like(h), []
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
        valid = mask[:, step, np.newaxis]
        new_c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        new_h = _sigmoid(o) * np.tanh(new_c)
        output = np.where(valid, new_h, 0.0 if zero_output else output)
        h, c = np.where(valid, new_h, h), np.where(valid, new_c, c)
        outputs.append(output)
    return [output, np.stack(outputs, axis=1), h, c]


def _sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def equal(actual: Sequence[Array], expected: Sequence[Array]) -> bool:
    """Whether answers are the same but for rounding."""
    return all(
        got.shape == wanted.shape and bool(np.abs(got - wanted).max() <= TOLERANCE)
        for got, wanted in zip(actual, expected, strict=True)
    )
