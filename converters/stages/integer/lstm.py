"""The integer LSTM as a loop that can be trained: forwards the numbers of the kernel, backwards those of an LSTM.

Forwards it computes in whole numbers what `kernel.IntegerLstm` does, with the kernel's own tables; only accumulators
of 2^24 and more (more than 1040 inputs, all at their ends) are rounded to 24 bits. Backwards, gates and states have
the gradients of the float formulas at the rounded values, zero where a 16-bit number is saturated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.lowering.integer import cell_exponent
from edgelstm.converters.stages.integer.fixed_point import (
    GATE_FRACTION_BITS,
    INT16_MAX,
    INT16_MIN,
    sigmoid_table,
    tanh_table,
)
from edgelstm.converters.stages.integer.ranges import Range
from edgelstm.converters.stages.integer.straight_through import (
    Factor,
    half_away,
    int8_weight,
    look_up,
    rounded,
    weight_scale,
    with_gradient_of,
)

_GATE_STEPS = 2.0**GATE_FRACTION_BITS
_UNIT_STEPS = 2.0**15


class LstmSimulation:
    """What stands in for the inner loop of a Keras LSTM layer.

    Args:
        layer: The LSTM layer; its `inner_loop` becomes this object.
        x: Range of its input.

    Attributes:
        output: Range of its hidden state.
        cell_peak: Largest absolute cell state that was observed.
    """

    def __init__(self, layer: Any, x: Range) -> None:
        self.layer, self.x = layer, x
        self.output = Range(int(layer.units))
        self.cell_peak = 0.0
        layer.inner_loop = self
        layer.supports_jit = False

    @property
    def cell_exponent(self) -> int:
        """Integer bits of the int16 cell state."""
        return cell_exponent(self.cell_peak)

    def __call__(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """Runs a sequence.

        Args:
            sequences: Shape (batch, time, features).
            initial_state: Hidden state and cell state, each of shape (batch, units).
            mask: True on valid steps, shape (batch, time), or None.
            training: Whether dropout is at work.

        Returns:
            Last output, outputs of all steps, final states.
        """
        import tensorflow as tf

        dtype = sequences.dtype
        x = self.x.quantized(tf.cast(sequences, tf.float32))
        hidden, cell = (tf.cast(state, tf.float32) for state in initial_state)
        if self.output.observing:
            project, step = self._float_formulas(training, x, hidden)
        else:
            project, step = self._integer_formulas(training, x, hidden)
            hidden, cell = self.output.quantized(hidden), self._on_cell_grid(cell)
        projected = tf.transpose(project(x), [1, 0, 2])
        valid = self._valid(mask, x)
        if self.layer.go_backwards:
            projected, valid = tf.reverse(projected, [0]), tf.reverse(valid, [0])
        outputs, hiddens, cells = self._scan(step, projected, valid, hidden, cell)
        if self.output.observing:
            self._observe(hidden, cell, hiddens, cells)
        outputs = tf.transpose(outputs, [1, 0, 2])
        results = [outputs[:, -1], outputs, hiddens[-1], cells[-1]]
        last, outputs, hidden, cell = (tf.cast(result, dtype) for result in results)
        return last, outputs if self.layer.return_sequences else last[:, None], [hidden, cell]

    def _valid(self, mask: Any, x: Any) -> Any:
        """Whether steps count, shape (time, batch, 1)."""
        import tensorflow as tf

        keras = import_keras()
        if mask is None or (keras.tree.is_nested(mask) and keras.tree.flatten(mask)[0] is None):
            return tf.ones([tf.shape(x)[1], tf.shape(x)[0], 1], tf.bool)
        mask = tf.cast(keras.tree.flatten(mask)[0], tf.bool)
        return tf.transpose(mask if len(mask.shape) == 3 else mask[:, :, tf.newaxis], [1, 0, 2])

    def _scan(self, step: Callable[..., Any], projected: Any, valid: Any, hidden: Any, cell: Any) -> Any:
        """Outputs, hidden states and cell states of all steps, each of shape (time, batch, units)."""
        import tensorflow as tf

        zeroed = bool(self.layer.zero_output_for_mask)

        def masked_step(before: Any, inputs: Any) -> Any:
            output, hidden, cell = before
            given, counts = inputs
            new_hidden, new_cell = step(given, hidden, cell)
            output = tf.where(counts, new_hidden, tf.zeros_like(output) if zeroed else output)
            return output, tf.where(counts, new_hidden, hidden), tf.where(counts, new_cell, cell)

        return tf.scan(masked_step, (projected, valid), (tf.zeros_like(hidden), hidden, cell))

    def _observe(self, hidden: Any, cell: Any, hiddens: Any, cells: Any) -> None:
        for value in (hidden, hiddens):
            self.output.observe(value)
        self.cell_peak = max(self.cell_peak, *(float(np.abs(value).max()) for value in (cell, cells)))

    def _weights(self) -> tuple[Any, Any, Any]:
        """Kernel, recurrent kernel and bias in float32."""
        import tensorflow as tf

        cell = self.layer.cell
        bias = cell.bias if cell.use_bias else tf.zeros([4 * cell.units])
        weights = [tf.cast(tf.convert_to_tensor(w), tf.float32) for w in (cell.kernel, cell.recurrent_kernel, bias)]
        return weights[0], weights[1], weights[2]

    def _dropout(self, training: bool, x: Any, hidden: Any) -> tuple[Any, Any]:
        """Factors on inputs and on hidden states, for all gates or for each; None for none."""
        cell = self.layer.cell
        on_x = cell.get_dropout_mask(x[:, 0]) if training and cell.dropout else None
        on_hidden = cell.get_recurrent_dropout_mask(hidden) if training and cell.recurrent_dropout else None
        if on_x is not None:
            on_x = [each[:, None] for each in on_x] if isinstance(on_x, list) else on_x[:, None]
        return on_x, on_hidden

    def _float_formulas(self, training: bool, x: Any, hidden: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        import tensorflow as tf

        kernel, recurrent_kernel, bias = self._weights()
        on_x, on_hidden = self._dropout(training, x, hidden)

        def step(given: Any, hidden: Any, cell: Any) -> tuple[Any, Any]:
            i, f, c, o = tf.split(given + _product(hidden, recurrent_kernel, on_hidden), 4, axis=-1)
            cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(c)
            return tf.sigmoid(o) * tf.tanh(cell), cell

        return lambda x: _product(x, kernel, on_x) + bias, step

    def _integer_formulas(self, training: bool, x: Any, hidden: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        import tensorflow as tf

        kernel, recurrent_kernel, bias = self._weights()
        on_x, on_hidden = self._dropout(training, x, hidden)
        x_scale, hidden_grid = self.x.grid().scale, self.output.grid()
        kernel_steps, kernel_scale = _gate_weights(kernel)
        recurrent_steps, recurrent_scale = _gate_weights(recurrent_kernel)
        x_factor = Factor(tf.cast(kernel_scale, tf.float32) * x_scale * _GATE_STEPS)
        hidden_factor = Factor(tf.cast(recurrent_scale, tf.float32) * hidden_grid.scale * _GATE_STEPS)
        output_factor = Factor(tf.cast(2.0**-30 / tf.cast(hidden_grid.scale, tf.float64), tf.float32))
        bias_steps = rounded(tf.cast(bias, tf.float64) / (kernel_scale * tf.cast(x_scale, tf.float64)))

        def project(x: Any) -> Any:
            sums = tf.cast(_product(rounded(x / x_scale), kernel_steps, on_x), tf.float64) + bias_steps
            return _saturated(x_factor(sums))

        def step(given: Any, hidden: Any, cell: Any) -> tuple[Any, Any]:
            sums = _product(rounded(hidden / hidden_grid.scale), recurrent_steps, on_hidden)
            i, f, c, o = tf.split(_saturated(given + hidden_factor(sums)), 4, axis=-1)
            i, f, c, o = _sigmoid(i), _sigmoid(f), _tanh(c / _GATE_STEPS, c, 3), _sigmoid(o)
            cell = self._new_cell(i, f, c, cell)
            squashed = _tanh(cell, cell * 2.0 ** (15 - self.cell_exponent), self.cell_exponent)
            exact = output_factor.exact(_exact(o, _UNIT_STEPS) * _exact(squashed, _UNIT_STEPS))
            return hidden_grid.placed(with_gradient_of(o * squashed / hidden_grid.scale, exact)), cell

        return project, step

    def _new_cell(self, i: Any, f: Any, c: Any, cell: Any) -> Any:
        """The cell state from activated gates, all real values on their grids."""
        cell_steps = 2.0 ** (15 - self.cell_exponent)
        kept = half_away(_exact(f, _UNIT_STEPS) * _exact(cell, cell_steps) / _UNIT_STEPS)
        added = half_away(_exact(i, _UNIT_STEPS) * _exact(c, _UNIT_STEPS) / 2.0 ** (15 + self.cell_exponent))
        return _saturated(with_gradient_of((f * cell + i * c) * cell_steps, kept + added)) / cell_steps

    def _on_cell_grid(self, cell: Any) -> Any:
        steps = cell * 2.0 ** (15 - self.cell_exponent)
        return _saturated(with_gradient_of(steps, half_away(steps))) / 2.0 ** (15 - self.cell_exponent)


def _product(value: Any, kernel: Any, dropout: Any) -> Any:
    """A matrix product behind dropout; its factors may be given for each gate."""
    import tensorflow as tf

    if isinstance(dropout, list):
        kernels = tf.split(kernel, 4, axis=-1)
        return tf.concat([tf.matmul(value * drop, part) for drop, part in zip(dropout, kernels, strict=True)], axis=-1)
    return tf.matmul(value if dropout is None else value * dropout, kernel)


def _gate_weights(kernel: Any) -> tuple[Any, Any]:
    """A weight of shape (inputs, 4 * units) in whole steps, and the scale of each column, shape (4 * units,)."""
    import tensorflow as tf

    by_gate = tf.reshape(kernel, [kernel.shape[0], 4, -1])
    scale = weight_scale(by_gate, (0, 2))
    columns = tf.reshape(tf.broadcast_to(scale, [1, 4, by_gate.shape[2]]), [-1])
    return tf.reshape(int8_weight(by_gate, scale), kernel.shape), columns


def _saturated(steps: Any) -> Any:
    """Clipped to 16 bits, where the gradient ends."""
    import tensorflow as tf

    return tf.clip_by_value(steps, float(INT16_MIN), float(INT16_MAX))


def _sigmoid(steps: Any) -> Any:
    import tensorflow as tf

    return with_gradient_of(tf.sigmoid(steps / _GATE_STEPS), look_up(sigmoid_table(), steps))


def _tanh(value: Any, steps: Any, integer_bits: int) -> Any:
    import tensorflow as tf

    return with_gradient_of(tf.tanh(value), look_up(tanh_table(integer_bits), steps))


def _exact(value: Any, steps: float) -> Any:
    """A real value on a grid as whole numbers in float64, without gradient."""
    import tensorflow as tf

    return tf.stop_gradient(tf.cast(value, tf.float64) * steps)
