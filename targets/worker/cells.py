"""The cell state of an LSTM operator, computed from its input and output sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import read_npz
from .plan import PlanError, check_keys, first_line, read_key

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "hard_tanh": lambda x: np.clip(x, -1.0, 1.0),
}
"""Activation of the candidate, by its name in Keras."""


class CellProbe:
    """Follows the cell state of one LSTM operator; one entry of "lstms" in the plan.

    Attributes:
        peak: max |c| so far.
    """

    KEYS = frozenset({"input", "output", "hidden_state", "cell_state", "carried", "weights", "activation"})

    def __init__(self, entry: dict[str, Any], num_tensors: int) -> None:
        check_keys("an entry of lstms", entry, set(self.KEYS))
        self.peak = 0.0
        self._input = read_key(entry, "input", int)
        self._output = read_key(entry, "output", int)
        self._states = entry.get("hidden_state"), entry.get("cell_state")
        for index in (self._input, self._output, *self._states):
            if index is not None and not (isinstance(index, int) and 0 <= index < num_tensors):
                raise PlanError(f"an entry of lstms names tensor {index!r}, but the model has 0 to {num_tensors - 1}")
        self._carried = read_key(entry, "carried", bool, False)
        self._initial: tuple[Any, Any] = (None, None)
        activation = read_key(entry, "activation", str, "tanh")
        if activation not in ACTIVATIONS:
            raise PlanError(f"activation {activation!r} of an LSTM is not known, only {', '.join(ACTIVATIONS)}")
        self._activation = ACTIVATIONS[activation]
        path = read_key(entry, "weights", str)
        weights = read_npz(path)
        missing = {"kernel", "recurrent_kernel", "bias"} - set(weights)
        if missing:
            raise PlanError(f"{path} lacks {', '.join(sorted(missing))}")
        self._weights = [weights[name].astype(np.float64) for name in ("kernel", "recurrent_kernel", "bias")]

    def before_call(self, interpreter: Any) -> None:
        """Reads states that the call will overwrite."""
        if self._carried:
            self._initial = self._read_states(interpreter)

    def after_call(self, interpreter: Any) -> None:
        """Computes the cell states of the call that was made."""
        hidden, cell = self._initial if self._carried else self._read_states(interpreter)
        inputs, outputs = interpreter.get_tensor(self._input), interpreter.get_tensor(self._output)
        try:
            peak = cell_peak(inputs, outputs, hidden, cell, self._weights, self._activation)
        except ValueError as error:
            raise PlanError(
                f"the LSTM from tensor {self._input} {list(inputs.shape)} to {self._output} {list(outputs.shape)} does "
                f"not fit its weights {[list(array.shape) for array in self._weights]}: {first_line(error)}"
            ) from error
        self.peak = float(np.maximum(self.peak, peak))  # lets a NaN through, unlike max()

    def _read_states(self, interpreter: Any) -> tuple[Any, Any]:
        hidden, cell = (None if index is None else interpreter.get_tensor(index) for index in self._states)
        return hidden, cell


def cell_peak(
    inputs: Any, outputs: Any, hidden: Any, cell: Any, weights: list[Any], activation: Callable[[Any], Any]
) -> float:
    """Returns max |c| of an LSTM over all rows, steps and units, the initial state included.

    The hidden states are those of the operator itself, so the gates of all steps are one matrix product.

    Args:
        inputs: Shape (batch, time, features).
        outputs: The hidden state after each step, shape (batch, time, units).
        hidden: Initial hidden state, shape (batch, units); zeros if None.
        cell: Initial cell state, shape (batch, units); zeros if None.
        weights: kernel, recurrent_kernel and bias, gate blocks in the order i, f, c, o.
        activation: Of the candidate.

    Raises:
        ValueError: If the shapes disagree.
    """
    kernel, recurrent_kernel, bias = weights
    batch, num_steps, units = outputs.shape
    first = np.zeros((batch, units)) if hidden is None else hidden
    state = np.zeros((batch, units)) if cell is None else np.array(cell, np.float64)
    if first.shape != (batch, units) or state.shape != (batch, units):
        raise ValueError(f"initial states {first.shape} and {state.shape} are not {(batch, units)}")
    previous = np.concatenate([first[:, None], outputs[:, :-1]], axis=1)
    gates = inputs @ kernel + previous @ recurrent_kernel + bias
    if gates.shape != (batch, num_steps, 4 * units):
        raise ValueError(f"gates {gates.shape} are not {(batch, num_steps, 4 * units)}")
    input_gate, forget_gate, candidate, _ = np.split(gates, 4, axis=-1)
    added = sigmoid(input_gate) * activation(candidate)
    kept = sigmoid(forget_gate)
    peak = np.abs(state).max()
    for step in range(num_steps):
        state = kept[:, step] * state + added[:, step]
        peak = np.maximum(peak, np.abs(state).max())
    return float(peak)


def sigmoid(x: Any) -> Any:
    """Returns 1 / (1 + exp(-x)), in a form that does not overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))
