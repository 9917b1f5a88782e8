"""The LSTM in its plainest form: what every kernel, lowering and simulation is compared with.

One row and one time step after the other, in float64, with the semantics of `keras.layers.LSTM`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GATES = "ifco"


@dataclass(frozen=True)
class LstmWeights:
    """Weights as Keras keeps them, gate blocks in the order i, f, c, o.

    Attributes:
        kernel: Shape (features, 4 * units).
        recurrent_kernel: Shape (units, 4 * units).
        bias: Shape (4 * units,).
    """

    kernel: Array
    recurrent_kernel: Array
    bias: Array

    @property
    def units(self) -> int:
        return self.recurrent_kernel.shape[0]

    def swap(self, a: str, b: str) -> LstmWeights:
        """Returns the same weights with the blocks of gates a and b exchanged."""
        return replace(
            self,
            kernel=swap_gates(self.kernel, a, b),
            recurrent_kernel=swap_gates(self.recurrent_kernel, a, b),
            bias=swap_gates(self.bias, a, b),
        )


class LstmResult(NamedTuple):
    """What an LSTM answers.

    Attributes:
        outputs: Every step's output in the order of processing, shape (batch, time, units).
        last_output: The last of them, shape (batch, units).
        h: Final hidden state, shape (batch, units). Differs from last_output only under a mask.
        c: Final cell state, shape (batch, units).
    """

    outputs: Array
    last_output: Array
    h: Array
    c: Array


def swap_gates(array: Array, a: str, b: str) -> Array:
    """Returns a copy of array, shape (…, 4 * units), with the blocks of gates a and b exchanged."""
    blocks = dict(zip(GATES, np.split(array, 4, axis=-1), strict=True))
    blocks[a], blocks[b] = blocks[b], blocks[a]
    return np.concatenate(list(blocks.values()), axis=-1)


def sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))  # 1 / (1 + exp(-x)) without overflow


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "linear": lambda x: x,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid_of_keras_2": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}
"""Activations by the names of Keras 3, and the hard sigmoid of Keras 1 and 2."""


def lstm_step(
    x: Array,
    h: Array,
    c: Array,
    weights: LstmWeights,
    activation: Callable[[Array], Array] = np.tanh,
    gate: Callable[[Array], Array] = sigmoid,
) -> tuple[Array, Array]:
    """Runs one time step of one row.

    Args:
        x: Input, shape (features,).
        h: Hidden state, shape (units,).
        c: Cell state, shape (units,).
        weights: Gate blocks in the order i, f, c, o.
        activation: Of the candidate and of the output.
        gate: Activation of the gates.

    Returns:
        The new (h, c), same shapes.

    Source: Keras `LSTMCell.call`.
    """
    i, f, g, o = np.split(x @ weights.kernel + h @ weights.recurrent_kernel + weights.bias, 4)
    c = gate(f) * c + gate(i) * activation(g)
    return gate(o) * activation(c), c


def lstm_reference(
    x: Array,
    weights: LstmWeights,
    *,
    h: Array | None = None,
    c: Array | None = None,
    mask: NDArray[np.bool_] | None = None,
    go_backwards: bool = False,
    zero_output_for_mask: bool = False,
    activation: Callable[[Array], Array] = np.tanh,
    gate: Callable[[Array], Array] = sigmoid,
) -> LstmResult:
    """Runs an LSTM over whole sequences.

    A masked step keeps both states. It repeats the output of the step before it, which is zero before the
    first valid step even where an initial state was given; with zero_output_for_mask it always answers zero.

    Args:
        x: Input, shape (batch, time, features).
        weights: Gate blocks in the order i, f, c, o.
        h: Initial hidden state, shape (batch, units). Zeros if None.
        c: Initial cell state, shape (batch, units). Zeros if None.
        mask: True where a step is valid, shape (batch, time). All valid if None.
        go_backwards: Starts with the last step; outputs come in the order of processing.
        zero_output_for_mask: Zero instead of the previous output at masked steps.
        activation: Of the candidate and of the output.
        gate: Activation of the gates.

    Returns:
        All outputs, the last one, and both final states.
    """
    batch, time, _ = x.shape
    outputs = np.zeros((batch, time, weights.units))
    final_h = np.zeros((batch, weights.units)) if h is None else np.array(h, np.float64)
    final_c = np.zeros((batch, weights.units)) if c is None else np.array(c, np.float64)
    order = range(time - 1, -1, -1) if go_backwards else range(time)
    for row in range(batch):
        output = np.zeros(weights.units)
        for position, t in enumerate(order):
            if mask is None or mask[row, t]:
                states = final_h[row], final_c[row]
                final_h[row], final_c[row] = lstm_step(x[row, t], *states, weights, activation, gate)
                output = final_h[row].copy()
            elif zero_output_for_mask:
                output = np.zeros(weights.units)
            outputs[row, position] = output
    return LstmResult(outputs, outputs[:, -1], final_h, final_c)
