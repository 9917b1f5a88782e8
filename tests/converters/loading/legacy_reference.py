"""What old layers answered, in NumPy and float64, written from their formulas: no Keras takes part.

Inputs have the shape (batch, time, features). Gates stand in the order i, f, c, o (LSTM) and z, r, h (GRU).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[[Array], Array]
GATES = {"LSTM": "ifco", "GRU": "zrh", "SimpleRNN": "h"}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x: Array) -> Array:
    """Of Keras 1 and 2."""
    return np.clip(0.2 * x + 0.5, 0, 1)


@dataclass(frozen=True)
class Cell:
    """The weights of a recurrent layer, gate by gate.

    Attributes:
        kind: "LSTM", "GRU" or "SimpleRNN".
        kernels: By gate, shape (features, units).
        recurrents: By gate, shape (units, units).
        biases: By gate, shape (units,).
        recurrent_biases: By gate, of a GRU that resets after the product; empty for others.
    """

    kind: str
    kernels: dict[str, Array]
    recurrents: dict[str, Array]
    biases: dict[str, Array]
    recurrent_biases: dict[str, Array]

    @property
    def units(self) -> int:
        return next(iter(self.biases.values())).size

    def joined(self, part: dict[str, Array]) -> Array:
        """The blocks of one part side by side, as Keras 2 and 3 keep them."""
        return np.concatenate([part[gate] for gate in GATES[self.kind]], axis=-1)

    def keras_2(self, prefix: str) -> list[tuple[str, Array]]:
        """Weights as Keras 2 wrote them."""
        bias = self.joined(self.biases)
        if self.recurrent_biases:
            bias = np.stack([bias, self.joined(self.recurrent_biases)])
        names = (f"{prefix}/kernel:0", f"{prefix}/recurrent_kernel:0", f"{prefix}/bias:0")
        return list(zip(names, (self.joined(self.kernels), self.joined(self.recurrents), bias), strict=True))

    def keras_1(self, prefix: str, order: str | None = None, ending: str = ":0") -> list[tuple[str, Array]]:
        """Weights as Keras 1 wrote them, gate by gate; its order for LSTM is i, c, f, o."""
        order = order or {"LSTM": "icfo"}.get(self.kind, GATES[self.kind])
        return [
            (f"{prefix}_{part}_{gate}{ending}", values[gate])
            for gate in order
            for part, values in zip("WUb", (self.kernels, self.recurrents, self.biases), strict=True)
        ]

    def cudnn(self, prefix: str) -> list[tuple[str, Array]]:
        """Weights as CuDNNLSTM and CuDNNGRU wrote them.

        cuDNN takes each matrix as (units, features) in row-major order. Keras cut its flat buffer into arrays of the
        shape (features, units). There is one bias for the input and one for the recurrent part.
        """
        gates = GATES[self.kind]
        kernels = [self.kernels[gate].T.reshape(-1).reshape(self.kernels[gate].shape) for gate in gates]
        recurrents = [self.recurrents[gate].T for gate in gates]
        first = [self.biases[gate] - 0.25 if self.kind == "LSTM" else self.biases[gate] for gate in gates]
        second = [np.full(self.units, 0.25) if self.kind == "LSTM" else self.recurrent_biases[gate] for gate in gates]
        arrays = (np.concatenate(kernels, 1), np.concatenate(recurrents, 1), np.concatenate(first + second))
        names = (f"{prefix}/kernel:0", f"{prefix}/recurrent_kernel:0", f"{prefix}/bias:0")
        return list(zip(names, arrays, strict=True))


def random_cell(kind: str, features: int, units: int, seed: int, *, reset_after: bool = False) -> Cell:
    """Random weights whose scale and offset differ from gate to gate."""
    rng = np.random.default_rng(seed)
    gates = GATES[kind]
    scales = dict(zip(gates, (1.4, 0.7, 1.1, 0.9), strict=False))
    offsets = dict(zip(gates, (0.3, 1.0, -0.4, -0.7), strict=False))
    return Cell(
        kind,
        {gate: rng.normal(0, scales[gate], (features, units)) for gate in gates},
        {gate: rng.normal(0, scales[gate] / 2, (units, units)) for gate in gates},
        {gate: rng.normal(offsets[gate], 0.3, units) for gate in gates},
        {gate: rng.normal(-offsets[gate], 0.3, units) for gate in gates} if reset_after else {},
    )


def step(cell: Cell, x: Array, states: Sequence[Array], gate: Function, activation: Function) -> tuple[Array, ...]:
    """One time step: x of shape (batch, features), states of shape (batch, units); returns the new states."""
    h = states[0]
    inputs = {name: x @ cell.kernels[name] + cell.biases[name] for name in GATES[cell.kind]}
    if cell.kind == "SimpleRNN":
        return (activation(inputs["h"] + h @ cell.recurrents["h"]),)
    if cell.kind == "LSTM":
        sums = {name: inputs[name] + h @ cell.recurrents[name] for name in "ifco"}
        c = gate(sums["f"]) * states[1] + gate(sums["i"]) * activation(sums["c"])
        return gate(sums["o"]) * activation(c), c
    recurrent = {name: cell.recurrent_biases.get(name, 0.0) for name in "zrh"}
    z = gate(inputs["z"] + h @ cell.recurrents["z"] + recurrent["z"])
    r = gate(inputs["r"] + h @ cell.recurrents["r"] + recurrent["r"])
    if cell.recurrent_biases:
        candidate = activation(inputs["h"] + r * (h @ cell.recurrents["h"] + recurrent["h"]))
    else:
        candidate = activation(inputs["h"] + (r * h) @ cell.recurrents["h"])
    return (z * h + (1 - z) * candidate,)


def recurrent(
    cell: Cell,
    x: Array,
    *,
    gate: Function = hard_sigmoid,
    activation: Function = np.tanh,
    states: Sequence[Array] | None = None,
    mask: Array | None = None,
    backwards: bool = False,
) -> tuple[Array, tuple[Array, ...]]:
    """Runs a recurrent layer: outputs of all steps in the order of processing, and the final states.

    A masked step keeps the states and repeats the output of the step before, zero at first.
    """
    batch, time, _ = x.shape
    count = 2 if cell.kind == "LSTM" else 1
    now = tuple(states or (np.zeros((batch, cell.units)) for _ in range(count)))
    output, outputs = np.zeros((batch, cell.units)), []
    for t in range(time)[:: -1 if backwards else 1]:
        valid = np.ones((batch, 1), bool) if mask is None else mask[:, t, None]
        new = step(cell, x[:, t], now, gate, activation)
        now = tuple(np.where(valid, after, before) for after, before in zip(new, now, strict=True))
        output = np.where(valid, now[0], output)
        outputs.append(output)
    return np.stack(outputs, 1), now


def bidirectional(forward: Cell, backward: Cell, x: Array, **options: Any) -> Array:
    """Both directions side by side, in the order of time."""
    first, _ = recurrent(forward, x, **options)
    second, _ = recurrent(backward, x, backwards=True, **options)
    return np.concatenate([first, second[:, ::-1]], -1)


def convolve(x: Array, kernel: Array, bias: Array) -> Array:
    """Correlates along time, valid positions only; kernel of shape (length, features, filters)."""
    length = kernel.shape[0]
    windows = [x[:, t : t + length] for t in range(x.shape[1] - length + 1)]
    return np.stack([np.einsum("bkf,kfo->bo", window, kernel) for window in windows], 1) + bias
