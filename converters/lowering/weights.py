"""Keras' LSTM weights, one matrix for four gates, as the separate gate tensors of the fused operator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgelstm.converters.graph import Array, Graph
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.errors import LoweringError

GATES = ("input", "forget", "cell", "output")  # Keras' order i, f, c, o, and the operator's
INPUT_GATE, FORGET_GATE = 0, 1


@dataclass(frozen=True)
class LstmWeights:
    """Weights of one call, split by gate in the order i, f, c, o.

    Attributes:
        kernels: Four arrays of shape (units, features), float32.
        recurrent_kernels: Four arrays of shape (units, units), float32.
        biases: Four arrays of shape (units,), float32.
        half: Whether the converter stored them in float16.
    """

    kernels: list[Array]
    recurrent_kernels: list[Array]
    biases: list[Array]
    half: bool

    def as_keras(self) -> dict[str, Array]:
        """kernel, recurrent_kernel and bias with all gates in one array, as Keras has them."""
        return {
            "kernel": np.concatenate([block.T for block in self.kernels], axis=1),
            "recurrent_kernel": np.concatenate([block.T for block in self.recurrent_kernels], axis=1),
            "bias": np.concatenate(self.biases),
        }


def read_weights(graph: Graph, call: LstmCall, kernel: int, recurrent_kernel: int, bias: int) -> LstmWeights:
    """Reads the weights of a carrier from the graph.

    Raises:
        LoweringError: If a weight is not a constant of the file.
    """
    values = []
    half = False
    for tensor in (kernel, recurrent_kernel, bias):
        constant = graph.float_constant(tensor)
        if constant is None:
            raise LoweringError(
                f"Layer {call.layer!r}: its weights are computed while the model runs, and the fused operator needs "
                "constants. Fold the computation into the weights before converting."
            )
        values.append(constant[0])
        half |= constant[1]
    full_kernel, full_recurrent, full_bias = values
    if call.freeze_weight is not None:
        row = np.zeros((len(GATES), call.units), np.float32)
        row[INPUT_GATE] = -call.freeze_weight
        row[FORGET_GATE] = call.freeze_weight
        full_kernel = np.concatenate([full_kernel, row.reshape(1, -1)])
    return LstmWeights(_by_gate(full_kernel), _by_gate(full_recurrent), np.split(full_bias, len(GATES)), half)


def _by_gate(matrix: Array) -> list[Array]:
    """(inputs, 4 * units) -> four of (units, inputs)."""
    return [np.ascontiguousarray(block.T) for block in np.split(matrix, len(GATES), axis=1)]


def quantize_symmetric(weights: Array) -> tuple[Array, float]:
    """Symmetric per-tensor int8: values in [-127, 127] and the scale.

    An all-zero matrix gets scale 1/127: any scale is exact then, and a degenerate one breaks the kernels.
    """
    largest = float(np.abs(weights).max(initial=0.0))
    scale = (largest if largest > 0 else 1.0) / 127
    return np.clip(np.round(weights / np.float32(scale)), -127, 127).astype(np.int8), scale
