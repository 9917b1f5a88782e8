"""Recurrent layers as carriers: what stands in for Keras' `inner_loop` while a model is traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from edgelstm.converters.lowering import activations, masks
from edgelstm.converters.lowering.calls import LstmCall, Trace

FREEZE_PREACTIVATION = 1000.0  # sigmoid(-1000) is exactly 0 and sigmoid(1000) exactly 1 in float32
SMALLEST_FREEZE_WEIGHT = 0.05  # keeps the extra feature below float16's 65,504


@dataclass(frozen=True)
class Lowering:
    """What stands in for the loops of recurrent layers while a model is traced.

    Attributes:
        why_loop: Takes a recurrent layer; the reason why it stays Keras' own loop, None if it does not.
        lower_layer: Takes (layer, sequences, initial states, mask, padding, trace) and returns what Keras'
            `inner_loop` returns: the last output, the outputs of all steps, the final states.
    """

    why_loop: Callable[[Any], str | None]
    lower_layer: Callable[[Any, Any, Any, Any, str, Trace], Any]


def why_loop(layer: Any) -> str | None:
    """Why a recurrent layer stays Keras' own loop; None if its steps can be written out."""
    return next((reason for cell in _cells(layer) if (reason := _why_not_lowered(cell))), None)


def _cells(layer: Any) -> list[Any]:
    import keras

    cell = layer.cell
    return list(cell.cells) if type(cell) is keras.layers.StackedRNNCells else [cell]


def _why_not_lowered(cell: Any) -> str | None:
    import keras

    if type(cell) is not keras.layers.LSTMCell:
        return f"its cell is a {type(cell).__name__}, and only LSTMCell is lowered"
    for role in ("recurrent_activation", "activation"):
        function = getattr(cell, role)
        if activations.name_of(function) is None:
            name = getattr(function, "__name__", "custom")
            return f"{role}={name!r}, and only {', '.join(activations.STEPWISE)} are lowered"
    return None


def lower_layer(
    layer: Any, sequences: Any, initial_state: Any, mask: Any, padding: str, result: Trace, *, counting: bool = False
) -> Any:
    """Stands in for `inner_loop`: (last output, outputs of all steps, final states) of one or more cells."""
    import keras
    import tensorflow as tf

    if keras.tree.is_nested(mask):
        mask = keras.tree.flatten(mask)[0]
    plan = None
    if mask is not None and padding != "none":
        plan = masks.plan_mask(_flat_mask(mask), go_backwards=layer.go_backwards, padding=padding, counting=counting)
    stacked = type(layer.cell) is keras.layers.StackedRNNCells
    states = initial_state if stacked else [initial_state]
    final: list[Any] = []
    for cell, state in zip(_cells(layer), states, strict=True):
        first = not final
        last, outputs, new_state = _lower_cell(layer, cell, sequences, state, plan, result, backwards=first)
        final.append(new_state)
        sequences = outputs
    if plan is not None:
        zero_output = layer.zero_output_for_mask
        sequences = masks.spread(outputs, plan, zero_output=zero_output and not layer.unroll)
        if zero_output and layer.unroll:  # an unrolled layer zeroes by the mask in input order, also going backwards
            sequences = tf.where(_flat_mask(mask)[:, :, tf.newaxis], sequences, tf.zeros_like(sequences))
    return last, sequences, final if stacked else final[0]


def _flat_mask(mask: Any) -> Any:
    import tensorflow as tf

    return tf.squeeze(mask, axis=-1) if len(mask.shape) == 3 else mask


def _lower_cell(
    layer: Any, cell: Any, sequences: Any, state: Any, plan: Any, result: Trace, *, backwards: bool
) -> tuple[Any, Any, list[Any]]:
    """One cell over one sequence; outputs stay compacted where there is a mask."""
    import tensorflow as tf

    go_backwards = layer.go_backwards and backwards  # the second of stacked cells reads processed steps
    hidden, cell_state = (tf.cast(value, tf.float32) for value in state)
    x = tf.cast(sequences, tf.float32)
    freeze = None
    if plan is None:
        x = tf.reverse(x, axis=[1]) if go_backwards else x
    else:
        if backwards:
            x = masks.compact(x, plan, go_backwards=go_backwards)
        if layer.return_state:
            freeze = _freeze_weight(cell)
            column = tf.cast(plan.tail, tf.float32) * (FREEZE_PREACTIVATION / freeze)
            x = tf.concat([x, tf.broadcast_to(column, x.shape[:2])[:, :, tf.newaxis]], axis=-1)
    call = LstmCall(
        len(result.calls),
        result.path(layer),
        cell.units,
        activations.name_of(cell.activation) or "",
        freeze,
        activations.name_of(cell.recurrent_activation) or "",
        backwards=layer.go_backwards,
        masked=plan is not None,
    )
    result.calls.append(call)
    bias = cell.bias if cell.use_bias else tf.zeros([4 * cell.units])
    weights = (
        tf.cast(tf.convert_to_tensor(weight), tf.float32) for weight in (cell.kernel, cell.recurrent_kernel, bias)
    )
    outputs, final_cell = _carrier(call)(x, hidden, cell_state, *weights)
    if plan is None:
        last = outputs[:, -1, :]
        return last, outputs, [last, final_cell]
    last = masks.last_output(outputs, plan, zero_output=layer.zero_output_for_mask)
    return last, outputs, [masks.last_hidden_state(outputs, plan, hidden), final_cell]


def _freeze_weight(cell: Any) -> float:
    """The largest kernel weight, so that the extra row does not coarsen the quantization of the others."""
    import tensorflow as tf

    with tf.init_scope():
        largest = float(tf.reduce_max(tf.abs(tf.convert_to_tensor(cell.kernel))))
    return max(largest, SMALLEST_FREEZE_WEIGHT)


def _carrier(call: LstmCall) -> Any:
    """A function that the converter turns into one custom operator with the name of the call.

    Its body gives the right shapes and NaN everywhere: a body that is ever executed must be noticed.
    """
    import tensorflow as tf

    attributes = f'name: "{call.carrier}" attr {{ key: "tfl_fusable_op" value {{ b: true }} }}'

    @tf.function(experimental_implements=attributes, autograph=False)
    def carrier(x: Any, hidden: Any, cell: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> Any:
        used = sum(tf.reduce_sum(tensor) for tensor in (x, hidden, cell, kernel, recurrent_kernel, bias))
        batch, time = x.shape[0], x.shape[1]
        never = used * float("nan")
        return tf.zeros([batch, time, call.units]) + never, tf.zeros([batch, call.units]) + never

    return carrier


CARRIERS = Lowering(why_loop, lower_layer)
COUNTING_CARRIERS = Lowering(why_loop, partial(lower_layer, counting=True))
"""For runtimes that cannot sort: masks are planned by counting."""
