"""Recurrent layers as carriers of ONNX's operators LSTM, GRU and RNN, while a model is traced.

ONNX's operators know directions, sequence lengths, initial and final states and more activations than the
fused operator of TensorFlow Lite, so more layers become one operator, with less around it. What they cannot
express is written out step by step: the file holds no loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgelstm.converters.lowering import activations
from edgelstm.converters.lowering.calls import CARRIER_PREFIX, LstmCall, Trace
from edgelstm.converters.lowering.recurrent import Lowering


@dataclass(frozen=True)
class OnnxActivation:
    """An activation as ONNX's recurrent operators name it, with its parameters."""

    name: str
    alpha: float | None = None
    beta: float | None = None


# By the names of `activations.name_of`. hard_tanh is missing: ONNX has no activation that is -1 below.
ACTIVATIONS = {
    "sigmoid": OnnxActivation("Sigmoid"),
    "tanh": OnnxActivation("Tanh"),
    "relu": OnnxActivation("Relu"),
    "linear": OnnxActivation("Affine", 1.0, 0.0),
    "elu": OnnxActivation("Elu", 1.0),
    "softsign": OnnxActivation("Softsign"),
    "hard_sigmoid": OnnxActivation("HardSigmoid", 1 / 6, 0.5),
    "hard_sigmoid_of_keras_2": OnnxActivation("HardSigmoid", 0.2, 0.5),
}
RELU6_LIMIT = 6.0
RELU6 = "relu6"
"""relu6(x) is 6 * clip(x / 6, 0, 1), and ONNX's HardSigmoid is such a clip: an LSTM that keeps a sixth of both
states computes it exactly, with recurrent weights six times as large."""


@dataclass(frozen=True)
class OnnxCall(LstmCall):
    """A call of a recurrent layer that becomes one operator of ONNX.

    In the traced graph it stands as one opaque operator, the carrier:

        inputs   x (batch, time, features) in the order of the input, also where it is read backwards;
                 lengths (batch,) int32 where `masked`: the number of steps to read of each row, at least 1;
                 the initial states, each (batch, units): h0, and for an LSTM c0;
                 kernel (features, gates * units), recurrent_kernel (units, gates * units) and bias as Keras
                 keeps them, gates in Keras' order
        outputs  h of every step (batch, time, units) in the order of the input, anything behind the lengths;
                 the final states, each (batch, units)

    Attributes:
        operator: "LSTM", "GRU" or "RNN".
        functions: The operator's activations in ONNX's order.
        reset_after: For a GRU, whether the reset gate comes behind the recurrent product.
    """

    operator: str = "LSTM"
    functions: tuple[OnnxActivation, ...] = ()
    reset_after: bool = False

    @property
    def carrier(self) -> str:
        """Name of the custom operator that stands for the call."""
        return f"{CARRIER_PREFIX}onnx.{self.index}"

    @property
    def num_states(self) -> int:
        """Number of states: h, and for an LSTM c."""
        return 2 if self.operator == "LSTM" else 1


@dataclass(frozen=True)
class SequencePlan:
    """A mask as sequence lengths; all int32 TensorFlow tensors, steps in the order of the input.

    Attributes:
        valid: 1 on valid steps, shape (batch, time).
        lengths: Number of valid steps, shape (batch, 1).
        order: Input step that each compacted step reads, shape (batch, time); None for "as they are".
        source: Compacted step whose output each step shows, shape (batch, time).
        written: Above 0 on steps that show an output, zero on those before the first valid one in the
            order of processing, shape (batch, time).
    """

    valid: Any
    lengths: Any
    order: Any
    source: Any
    written: Any


def plan_lengths(mask: Any, *, reverse: bool, padding: str) -> SequencePlan:
    """Computes where each step goes when the valid ones are moved to the front, in the order of the input.

    Args:
        mask: True on valid steps, shape (batch, time), static.
        reverse: Whether the layer reads the last step first.
        padding: "auto" for any pattern; "pre" or "post" where the caller promises that all masked steps
            come first or last, which needs no sorting.
    """
    import tensorflow as tf

    valid = tf.cast(mask, tf.int32)
    time = int(valid.shape[1])
    steps = tf.range(time, dtype=tf.int32)[tf.newaxis, :]
    lengths = tf.reduce_sum(valid, axis=1, keepdims=True)
    order = None
    if padding == "auto":  # unique keys: valid steps above all masked ones, earlier steps above later ones
        order = tf.math.top_k(valid * time + (time - steps), time).indices
    elif padding == "pre":
        order = tf.minimum(steps + (time - lengths), time - 1)
    count = tf.cumsum(valid, axis=1)
    if reverse:
        return SequencePlan(valid, lengths, order, count - valid, tf.cumsum(valid, axis=1, reverse=True))
    return SequencePlan(valid, lengths, order, tf.maximum(count - 1, 0), count)


def lower_layer(layer: Any, sequences: Any, initial_state: Any, mask: Any, padding: str, result: Trace) -> Any:
    """Stands in for `inner_loop`: (last output, outputs of all steps, final states), as Keras' loop gives them."""
    import keras
    import tensorflow as tf

    mask = _flat_mask(mask) if padding != "none" else None
    states = list(initial_state) if keras.tree.is_nested(initial_state) else [initial_state]
    cells = _cells(layer)
    reason = next((why for cell in cells if (why := why_stepwise(cell))), None)
    if reason is not None:
        result.notes.append(f"Layer {result.path(layer)!r} is written out step by step: {reason}.")
        return _step_by_step(layer, sequences, states, mask)
    plan = None if mask is None else plan_lengths(mask, reverse=layer.go_backwards, padding=padding)
    x = tf.cast(sequences, tf.float32)
    if plan is not None and plan.order is not None:
        x = tf.gather(x, plan.order, batch_dims=1)
    stacked = type(layer.cell) is keras.layers.StackedRNNCells
    final = []
    for cell, state in zip(cells, states if stacked else [states], strict=True):
        x, new = _lower_cell(layer, cell, x, keras.tree.flatten(state), plan, result)
        final.append(new)
    last, outputs = _in_order_of_processing(layer, x, final[-1][0], plan)
    return last, outputs, final if stacked else final[0]


def _cells(layer: Any) -> list[Any]:
    import keras

    return list(layer.cell.cells) if type(layer.cell) is keras.layers.StackedRNNCells else [layer.cell]


def _flat_mask(mask: Any) -> Any:
    """The mask of a sequence as (batch, time); Keras gives it with another axis of size 1, or in a list."""
    import keras
    import tensorflow as tf

    if keras.tree.is_nested(mask):
        mask = keras.tree.flatten(mask)[0]
    if mask is None:
        return None
    return tf.cast(tf.squeeze(mask, axis=-1) if len(mask.shape) == 3 else mask, tf.bool)


def why_stepwise(cell: Any) -> str | None:
    """Why ONNX has no operator for a recurrent cell; None if it has one."""
    import keras

    kinds = {keras.layers.LSTMCell: "LSTM", keras.layers.GRUCell: "GRU", keras.layers.SimpleRNNCell: "RNN"}
    if type(cell) not in kinds:
        return f"its cell is a {type(cell).__name__}, and ONNX has operators for LSTM, GRU and simple RNN cells only"
    for role in ("recurrent_activation", "activation"):
        function = getattr(cell, role, None)
        known = activations.name_of(function) if function is not None else "sigmoid"
        relu6 = known == RELU6 and role == "activation" and kinds[type(cell)] == "LSTM"
        if known not in ACTIVATIONS and not relu6:
            name = known or getattr(function, "__name__", "custom")
            return f"{role}={name!r}, and ONNX's {kinds[type(cell)]} knows {', '.join(ACTIVATIONS)}"
    return None


def _lower_cell(
    layer: Any, cell: Any, x: Any, states: Sequence[Any], plan: SequencePlan | None, result: Trace
) -> tuple[Any, list[Any]]:
    """One cell over one sequence: outputs in the order of the input, compacted where there is a mask; final states."""
    import keras
    import tensorflow as tf

    call = _describe(layer, cell, plan is not None, result)
    result.calls.append(call)
    gates = int(cell.recurrent_kernel.shape[-1]) // cell.units
    bias = cell.bias if cell.use_bias else tf.zeros([gates * cell.units])
    weights = [
        tf.cast(tf.convert_to_tensor(weight), tf.float32) for weight in (cell.kernel, cell.recurrent_kernel, bias)
    ]
    initial = [tf.cast(state, tf.float32) for state in states]
    given = initial
    scale = RELU6_LIMIT if call.activation == RELU6 else None
    if scale is not None:
        weights[1] = weights[1] * scale
        given = [state / scale for state in given]
    lengths = [] if plan is None else [tf.maximum(plan.lengths[:, 0], 1)]
    outputs, *final = _carrier(call)(x, *lengths, *given, *weights)
    if scale is not None:
        outputs, final = outputs * scale, [state * scale for state in final]
    if plan is not None:  # what an operator does with rows of length 0 is not specified, so there are none
        final = [tf.where(plan.lengths > 0, new, old) for new, old in zip(final, initial, strict=True)]
    return outputs, keras.tree.flatten(final)


def _describe(layer: Any, cell: Any, masked: bool, result: Trace) -> OnnxCall:
    import keras

    activation = activations.name_of(cell.activation) or ""
    gate = activations.name_of(getattr(cell, "recurrent_activation", None) or keras.activations.sigmoid) or ""
    operator, functions = "RNN", [activation]
    if isinstance(cell, keras.layers.LSTMCell):
        operator, functions = "LSTM", [gate, activation, activation]
    elif isinstance(cell, keras.layers.GRUCell):
        operator, functions = "GRU", [gate, activation]
    known = [ACTIVATIONS[name] for name in functions if name != RELU6]
    if activation == RELU6:
        known += [OnnxActivation("HardSigmoid", 1 / RELU6_LIMIT, 0.0), OnnxActivation("HardSigmoid", 1.0, 0.0)]
    return OnnxCall(
        index=len(result.calls),
        layer=result.path(layer),
        units=cell.units,
        activation=activation,
        recurrent_activation=gate,
        operator=operator,
        backwards=layer.go_backwards,
        masked=masked,
        functions=tuple(known),
        reset_after=getattr(cell, "reset_after", False),
    )


def _in_order_of_processing(layer: Any, outputs: Any, final: Any, plan: SequencePlan | None) -> tuple[Any, Any]:
    """The last output and all outputs, as Keras gives them: the step that was read first comes first."""
    import tensorflow as tf

    last = final
    if plan is not None:
        zero_output = layer.zero_output_for_mask
        written = plan.valid if zero_output and not layer.unroll else plan.written
        outputs = tf.gather(outputs, plan.source, batch_dims=1)
        outputs = tf.where(written[:, :, tf.newaxis] > 0, outputs, tf.zeros_like(outputs))
        shown = plan.lengths
        if zero_output:
            shown = plan.valid[:, :1] if layer.go_backwards else plan.valid[:, -1:]
        last = tf.where(shown > 0, final, tf.zeros_like(final))
    if layer.go_backwards:
        outputs = tf.reverse(outputs, axis=[1])
    if plan is not None and layer.unroll and layer.zero_output_for_mask:
        # An unrolled layer of Keras zeroes by the mask in the order of the input, also going backwards.
        outputs = tf.where(plan.valid[:, :, tf.newaxis] > 0, outputs, tf.zeros_like(outputs))
    return last, outputs


def _step_by_step(layer: Any, sequences: Any, states: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Keras' loop over any cell, written out."""
    import keras
    import tensorflow as tf

    arguments = {"training": False} if getattr(layer.cell, "_call_has_training_arg", False) else {}
    steps = list(range(int(sequences.shape[1])))
    outputs: list[Any] = []
    for step in reversed(steps) if layer.go_backwards else steps:
        output, new = layer.cell(sequences[:, step], states, **arguments)
        new = list(new) if keras.tree.is_nested(new) else [new]
        if mask is not None:
            valid = mask[:, step]
            zeroes = not outputs or (layer.zero_output_for_mask and not layer.unroll)
            output = _where(valid, output, tf.zeros_like(output) if zeroes else outputs[-1])
            pairs = zip(keras.tree.flatten(new), keras.tree.flatten(states), strict=True)
            new = keras.tree.pack_sequence_as(states, [_where(valid, after, before) for after, before in pairs])
        outputs.append(output)
        states = new
    last, together = outputs[-1], tf.stack(outputs, axis=1)
    if mask is not None and layer.zero_output_for_mask and layer.unroll:
        last = _where(mask[:, 0 if layer.go_backwards else -1], last, tf.zeros_like(last))
        together = tf.where(_like(mask, together), together, tf.zeros_like(together))
    return last, together, states


def _where(valid: Any, one: Any, other: Any) -> Any:
    import tensorflow as tf

    return tf.where(_like(valid, one), one, other)


def _like(mask: Any, tensor: Any) -> Any:
    """The mask with axes of size 1 behind its own, so that it goes with a tensor."""
    import tensorflow as tf

    return tf.reshape(mask, [*mask.shape, *[1] * (len(tensor.shape) - len(mask.shape))])


def _carrier(call: OnnxCall) -> Any:
    """A function that the converter turns into one custom operator with the name of the call.

    Its body gives the right shapes and NaN everywhere: a body that is ever executed must be noticed.
    """
    import tensorflow as tf

    attributes = f'name: "{call.carrier}" attr {{ key: "tfl_fusable_op" value {{ b: true }} }}'

    @tf.function(experimental_implements=attributes, autograph=False)
    def carrier(*tensors: Any) -> Any:
        batch, time = tensors[0].shape[:2]
        never = sum(tf.reduce_sum(tf.cast(tensor, tf.float32)) for tensor in tensors) * float("nan")
        shapes = [[batch, time, call.units], *[[batch, call.units]] * call.num_states]
        return tuple(tf.zeros(shape) + never for shape in shapes)

    return carrier


def _never_a_loop(layer: Any) -> str | None:
    """Every recurrent layer is lowered: to an operator, or step by step."""
    del layer
    return None


ONNX = Lowering(_never_a_loop, lower_layer)
