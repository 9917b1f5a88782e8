"""One time step of an LSTM written out in operators: what loops and unrolled sequences are made of.

The input side of all steps is one matrix product in front (`project`); a step adds the recurrent side to its
part of it and applies the gates. Gates stand in the order i, f, c, o.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import Array
from edgelstm.converters.lowering.activations import STEPWISE
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.operators import Operators
from edgelstm.converters.lowering.states import add_dequantize
from edgelstm.converters.lowering.weights import GATES, LstmWeights

_HYBRID_VERSION = 9  # FULLY_CONNECTED on float input and int8 weights, zero point of the input chosen at run time
_INT16_VERSION = 7  # FULLY_CONNECTED on int16 input and int8 weights
GATE_SCALE = 2.0**-12  # Q3.12: what the int16 LOGISTIC and TANH of every runtime take
UNIT_SCALE = 2.0**-15  # of values within (-1, 1)
SATURATION = 8.0  # where GATE_SCALE ends
LARGEST_SUM = 2.0**15  # of one side of the gates' sum; beyond it, int8 weights leave nothing of their difference
INT32_MAX = 2**31 - 1


class Cell(Protocol):
    """An LSTM cell in one precision.

    Attributes:
        call: The call that it computes.
        dtype: Of its states.
        hidden_scale: Scale of an integer hidden state, None for a float one.
        cell_scale: Scale of an integer cell state, None for a float one.
    """

    call: LstmCall
    dtype: Any
    hidden_scale: float | None
    cell_scale: float | None

    def project(self, operators: Operators, x: int) -> int:
        """The input side of all steps: (batch, time, features) -> (batch * time, 4 * units)."""

    def step(self, operators: Operators, projected: int, hidden: int, cell: int) -> tuple[int, int]:
        """The next hidden and cell state, both (batch, units), from one step's part of `project`."""


@dataclass
class FloatCell:
    """A cell with float32 states; precision "float32", "float16" or "dynamic" says how weights are stored."""

    call: LstmCall
    weights: LstmWeights
    precision: str
    dtype: Any = np.float32
    hidden_scale: float | None = None
    cell_scale: float | None = None

    def project(self, operators: Operators, x: int) -> int:
        """See `Cell.project`."""
        batch, time, features = operators.shape(x)
        rows = operators.reshape(x, [batch * time, features])
        bias = np.concatenate(self.weights.biases)
        return self._product(operators, rows, self.weights.kernels, "kernel", bias)

    def step(self, operators: Operators, projected: int, hidden: int, cell: int) -> tuple[int, int]:
        """See `Cell.step`."""
        recurrent = self._product(operators, hidden, self.weights.recurrent_kernels, "recurrent_kernel", None)
        i, f, g, o = operators.split(operators.add(projected, recurrent), len(GATES))
        gate, activation = STEPWISE[self.call.recurrent_activation], STEPWISE[self.call.activation]
        kept = operators.mul(gate(operators, f), cell)
        added = operators.mul(gate(operators, i), activation(operators, g))
        cell = operators.add(kept, added)
        return operators.mul(gate(operators, o), activation(operators, cell)), cell

    def _product(self, operators: Operators, x: int, blocks: list[Array], name: str, bias: Array | None) -> int:
        """X times the four blocks, plus bias."""
        matrix = np.concatenate(blocks)
        label = f"{self.call.layer}/{name}"
        if self.precision == "dynamic":
            return self._dynamic_product(operators, x, matrix, label, bias)
        return operators.fully_connected(
            x, self._stored(operators, matrix, label), None if bias is None else self._stored(operators, bias, label)
        )

    def _stored(self, operators: Operators, value: Array, name: str) -> int:
        if self.precision != "float16" and not self.weights.half:
            return operators.constant(value, np.float32, name=name)
        stored = operators.constant(value, np.float16, name=name)
        return _dequantized(operators, stored)

    def _dynamic_product(self, operators: Operators, x: int, matrix: Array, name: str, bias: Array | None) -> int:
        """int8 rows with a scale each, which is multiplied in afterwards: every runtime knows that."""
        stored, scales = quantize_rows(matrix)
        weights = operators.constant(stored, np.int8, name=name, scale=1.0)
        product = operators.fully_connected(x, weights, None, version=_HYBRID_VERSION)
        scaled = operators.mul(product, operators.constant(scales, np.float32, name=f"{name}/scales"))
        if bias is None:
            return scaled
        return operators.add(scaled, operators.constant(bias, np.float32, name=f"{name}/bias"))


def _dequantized(operators: Operators, stored: int) -> int:
    """The float32 value of a float16 constant, by one operator for all readers."""
    for operator in operators.graph.consumers(stored):
        return int(operator.outputs[0])
    output = operators.result(operators.shape(stored), np.float32)
    add_dequantize(operators.graph, stored, output)
    return output


def quantize_rows(matrix: Array) -> tuple[Array, Array]:
    """Symmetric int8 by row: values in [-127, 127], shape as given, and a scale for each row.

    A row of zeros gets scale 1/127: any scale is exact then.
    """
    largest = np.abs(matrix).max(axis=1)
    scales = (np.where(largest > 0, largest, 1.0) / 127).astype(np.float32)
    return np.clip(np.round(matrix / scales[:, np.newaxis]), -127, 127).astype(np.int8), scales


@dataclass
class IntegerCell:
    """A cell in integers: int8 weights with a scale for each row, int16 states and gates.

    Attributes:
        x_scale: Scale of the int16 input; its zero point is 0.
        x_peak: Largest |x| that the scale covers.
        cell_exponent: Integer bits of the cell state.
        hidden_peak: Largest |h|: 1, unless the initial state is larger.
    """

    call: LstmCall
    weights: LstmWeights
    x_peak: float
    cell_exponent: int
    hidden_peak: float = 1.0
    dtype: Any = np.int16

    @property
    def x_scale(self) -> float:
        """Scale of the int16 input."""
        return float(np.float32(max(self.x_peak, 1e-6) / 32767))

    @property
    def hidden_scale(self) -> float:
        """Scale of the int16 hidden state."""
        return max(UNIT_SCALE, self.hidden_peak / 32768)

    @property
    def cell_scale(self) -> float:
        """Scale of the int16 cell state."""
        return 2.0 ** (self.cell_exponent - 15)

    @cached_property
    def _rows(self) -> dict[str, tuple[Array, Array]]:
        """Both matrices as int8 rows and their scales, by name."""
        blocks = {"kernel": self.weights.kernels, "recurrent_kernel": self.weights.recurrent_kernels}
        return {name: quantize_rows(np.concatenate(each)) for name, each in blocks.items()}

    @cached_property
    def _reach(self) -> _Reach:
        """How far each part of the gates' sum has to reach: to where the gates saturate whatever the others add."""
        product, recurrent = (
            min(float(_row_sums(*self._rows[name]).max()) * peak, LARGEST_SUM)
            for name, peak in (("kernel", self.x_peak), ("recurrent_kernel", self.hidden_peak))
        )
        bias = min(float(np.abs(np.concatenate(self.weights.biases)).max()), SATURATION + product + recurrent)
        projected = min(product + bias, SATURATION + recurrent)
        return _Reach(
            product=min(product, SATURATION + recurrent + bias),
            bias=bias,
            projected=projected,
            recurrent=min(recurrent, SATURATION + projected),
        )

    def project(self, operators: Operators, x: int) -> int:
        """See `Cell.project`; x is int16 with `x_scale`."""
        batch, time, features = operators.shape(x)
        rows = operators.reshape(x, [batch * time, features])
        reach = self._reach
        product = self._product(operators, rows, "kernel", peak=self.x_peak, reach=reach.product)
        bias = np.clip(np.concatenate(self.weights.biases), -reach.bias, reach.bias)
        bias_scale = _step(reach.bias)
        stored = operators.constant(
            np.round(bias / bias_scale), np.int16, name=f"{self.call.layer}/bias", scale=bias_scale
        )
        return operators.add(product, stored, scale=_step(reach.projected))

    def step(self, operators: Operators, projected: int, hidden: int, cell: int) -> tuple[int, int]:
        """See `Cell.step`; states have `hidden_scale` and `cell_scale`."""
        reach = self._reach.recurrent
        recurrent = self._product(operators, hidden, "recurrent_kernel", peak=self.hidden_peak, reach=reach)
        sums = operators.add(projected, recurrent, scale=GATE_SCALE)
        i, f, g, o = operators.split(sums, len(GATES))
        logistic, tanh = schema.BuiltinOperator.LOGISTIC, schema.BuiltinOperator.TANH
        i, f, o = (operators.unary(logistic, gate, scale=UNIT_SCALE) for gate in (i, f, o))
        candidate = operators.unary(tanh, g, scale=UNIT_SCALE)
        kept = operators.mul(f, cell, scale=self.cell_scale)
        cell = operators.add(kept, operators.mul(i, candidate, scale=self.cell_scale), scale=self.cell_scale)
        return operators.mul(o, self._squashed(operators, cell), scale=self.hidden_scale), cell

    def _squashed(self, operators: Operators, cell: int) -> int:
        """Tanh of the cell state, which saturates long before the Q3.12 that it is brought to."""
        narrowed = operators.quantize(cell, np.int16, GATE_SCALE)
        return operators.unary(schema.BuiltinOperator.TANH, narrowed, scale=UNIT_SCALE)

    def _product(self, operators: Operators, x: int, name: str, *, peak: float, reach: float) -> int:
        """Int16 values within a peak times int8 rows -> int16 that saturates beyond its reach.

        The kernel knows one scale for all rows, so the largest weight of each row is multiplied in afterwards.
        """
        stored, scales = self._rows[name]
        label = f"{self.call.layer}/{name}"
        weights = operators.constant(stored, np.int8, name=label, scale=1.0 / 127)
        largest = np.where(stored.any(axis=1), scales * 127, 0.0)
        # A row of weights within [-1, 1] times values within the peak is at most the sum of its magnitudes.
        sums = _row_sums(stored, np.full_like(scales, 1 / 127)) * peak
        needed = np.minimum(sums, reach / np.maximum(largest, 1e-30)).max()
        # FULLY_CONNECTED shifts its int32 sums to the left by the ratio of what they can be to what is kept of them.
        widest = max(float(needed), float(sums.max()) / 32768)
        x = _without_overflow(operators, x, stored)
        product = operators.fully_connected(x, weights, None, scale=_step(widest), version=_INT16_VERSION)
        row_scale = _step(float(largest.max()))
        factors = operators.constant(np.round(largest / row_scale), np.int16, name=f"{label}/scales", scale=row_scale)
        # MUL's own factor, scale by scale through scale, stays below 1: above it, its int32 overflows.
        return operators.mul(product, factors, scale=max(_step(reach), _step(widest) * row_scale))


@dataclass(frozen=True)
class _Reach:
    """Largest magnitudes of the parts of the gates' sum: x times kernel, bias, both together, h times its kernel."""

    product: float
    bias: float
    projected: float
    recurrent: float


def _step(peak: float) -> float:
    """Scale of int16 values up to a peak."""
    return max(peak, 1e-6) / 32767


def _row_sums(stored: Array, scales: Array) -> Array:
    """Sums of the magnitudes of int8 rows: what they give with inputs of 1 at most."""
    return np.asarray(np.abs(stored.astype(np.float64)).sum(axis=1) * scales)


def _without_overflow(operators: Operators, x: int, stored: Array) -> int:
    """Int16 values, in a coarser scale where their sum over a row of weights could leave the kernel's int32."""
    largest = float(np.abs(stored.astype(np.int64)).sum(axis=1).max()) * 32768
    if largest <= INT32_MAX:
        return x
    scale = float(operators.graph.tensor(x).quantization.scale[0])
    return operators.quantize(x, np.int16, scale * largest / INT32_MAX)
