"""TensorFlow Lite's integer LSTM in exact integers: what `UNIDIRECTIONAL_SEQUENCE_LSTM` computes on int8 files.

Source: LiteRT `kernels/unidirectional_sequence_lstm.cc` (scales), `kernels/lstm_eval.cc` (`LstmStepInteger8x8_16`)
and `kernels/internal/reference/portable_tensor_utils.cc`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import Array, Graph
from edgelstm.converters.stages.integer.fixed_point import (
    GATE_FRACTION_BITS,
    INT16_MIN,
    multiply,
    quantize_multiplier,
    rounding_shift,
    saturate16,
    sigmoid_table,
    tanh_table,
)

# Positions of the operator's inputs: four of each, in the order i, f, c, o.
_X, _KERNELS, _RECURRENT_KERNELS, _BIASES, _HIDDEN, _CELL = 0, 1, 5, 12, 18, 19


@dataclass(frozen=True)
class Quantized:
    """Stored integers of a tensor: real value = scale * (stored value - zero point).

    Attributes:
        scale: As the file holds it, rounded to float32.
        zero_point: Stored value of 0.
    """

    scale: float
    zero_point: int = 0

    def real(self, stored: Array) -> Array:
        """Returns the real values of stored integers, float64."""
        real: Array = (stored.astype(np.float64) - self.zero_point) * self.scale
        return real

    def store(self, real: Array) -> Array:
        """Returns real values as int8, as the runtime's QUANTIZE rounds them: halves away from zero, in float32."""
        steps = np.asarray(real, np.float32) / np.float32(self.scale)
        rounded = np.trunc(steps + np.copysign(np.float32(0.5), steps)).astype(np.int64)
        stored: Array = np.clip(rounded + self.zero_point, -128, 127).astype(np.int8)
        return stored


@dataclass(frozen=True)
class IntegerLstm:
    """One LSTM of an int8 file.

    Attributes:
        name: Of its output tensor.
        kernels: int8, gates i, f, c, o, each of shape (units, features), with their scales.
        recurrent_kernels: int8, each of shape (units, units), with their scales.
        biases: int32, each of shape (units,), in scales x.scale * scale of the kernel.
        x: Of the input.
        hidden: Of the hidden state and of the output.
        cell_exponent: Integer bits of the int16 cell state, whose scale is 2^(cell_exponent - 15).
    """

    name: str
    kernels: list[tuple[Array, float]]
    recurrent_kernels: list[tuple[Array, float]]
    biases: list[Array]
    x: Quantized
    hidden: Quantized
    cell_exponent: int

    @property
    def units(self) -> int:
        """Size of the hidden state."""
        return len(self.biases[0])

    def run(self, x: Array, hidden: Array | None = None, cell: Array | None = None) -> tuple[Array, Array]:
        """Computes a whole sequence.

        Args:
            x: int8, shape (batch, time, features).
            hidden: int8, shape (batch, units); None for the zero point.
            cell: int16, shape (batch, units); None for zeros.

        Returns:
            Hidden states of all steps, int8, shape (batch, time, units), and the last cell state, int16.
        """
        state = (len(x), self.units)
        hidden = np.full(state, self.hidden.zero_point, np.int8) if hidden is None else hidden
        cell = np.zeros(state, np.int16) if cell is None else cell
        projected = self._gates_of_inputs(x)
        outputs = np.empty((*x.shape[:2], self.units), np.int8)
        for step in range(x.shape[1]):
            hidden, cell = self._step([gate[:, step] for gate in projected], hidden, cell)
            outputs[:, step] = hidden
        return outputs, cell

    def _gates_of_inputs(self, x: Array) -> list[Array]:
        centred = x.astype(np.int64) - self.x.zero_point
        return [
            saturate16(multiply(centred @ kernel.T.astype(np.int64) + bias, _gate_factor(scale, self.x.scale)))
            for (kernel, scale), bias in zip(self.kernels, self.biases, strict=True)
        ]

    def _step(self, projected: list[Array], hidden: Array, cell: Array) -> tuple[Array, Array]:
        centred = hidden.astype(np.int64) - self.hidden.zero_point
        gates = [
            saturate16(given + multiply(centred @ kernel.T.astype(np.int64), _gate_factor(scale, self.hidden.scale)))
            for given, (kernel, scale) in zip(projected, self.recurrent_kernels, strict=True)
        ]
        i, f, o = (_look_up(sigmoid_table(), gates[position]) for position in (0, 1, 3))
        c = _look_up(tanh_table(3), gates[2])
        kept = rounding_shift(f * cell.astype(np.int64), 15)
        cell = saturate16(kept + rounding_shift(i * c, 15 + self.cell_exponent))
        factor = quantize_multiplier(float(np.float32(2.0**-30 / self.hidden.scale)))
        output = multiply(o * _look_up(tanh_table(self.cell_exponent), cell), factor) + self.hidden.zero_point
        return np.clip(output, -128, 127).astype(np.int8), cell.astype(np.int16)


def _gate_factor(weight_scale: float, value_scale: float) -> tuple[int, int]:
    """From an accumulator to Q3.12; the kernel computes the factor in float32."""
    scale = np.float32(weight_scale) * np.float32(value_scale) * np.float32(2**GATE_FRACTION_BITS)
    return quantize_multiplier(float(scale))


def _look_up(table: Array, value: Array) -> Array:
    entries: Array = table[value - INT16_MIN].astype(np.int64)
    return entries


def read_lstms(graph: Graph) -> list[IntegerLstm]:
    """Reads the integer LSTMs of an int8 file, in the order of execution."""
    code = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
    return [_read(graph, operator) for operator in graph.operators if graph.code(operator) == code]


def _read(graph: Graph, operator: Any) -> IntegerLstm:
    def weights(first: int) -> list[tuple[Array, float]]:
        tensors = operator.inputs[first : first + 4]
        return [(_constant(graph, tensor), _parameters(graph, tensor).scale) for tensor in tensors]

    cell_scale = _parameters(graph, operator.inputs[_CELL]).scale
    return IntegerLstm(
        graph.tensor(operator.outputs[0]).name.decode(),
        weights(_KERNELS),
        weights(_RECURRENT_KERNELS),
        [_constant(graph, tensor) for tensor in operator.inputs[_BIASES : _BIASES + 4]],
        _parameters(graph, operator.inputs[_X]),
        _parameters(graph, operator.inputs[_HIDDEN]),
        round(math.log2(cell_scale)) + 15,
    )


def _constant(graph: Graph, tensor: int) -> Array:
    value = graph.constant(tensor)
    assert value is not None
    return value


def _parameters(graph: Graph, tensor: int) -> Quantized:
    found = graph.tensor(tensor).quantization
    return Quantized(float(found.scale[0]), int(found.zeroPoint[0]))
