"""Keras model -> SavedModel in which every LSTM that can be fused stands as one opaque operator.

TensorFlow's converter turns a `tf.function` that carries the attribute `tfl_fusable_op` into one custom
operator, whatever its body. While the model is traced, `inner_loop` of Keras' recurrent layers is
replaced by a call of such a function, the carrier; around it stand the graph operations for masks and
states. The model itself is not cloned and not changed, and whatever surrounds the layers (wrappers,
sub-models, subclassed models) is traced as it is.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.converters.lowering import activations, masks
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.signature import Signature, TensorSpec, output_names
from edgelstm.converters.lowering.time_distributed import folded_call
from edgelstm.errors import LoweringError, OutputError

FREEZE_PREACTIVATION = 1000.0  # sigmoid(-1000) is exactly 0 and sigmoid(1000) exactly 1 in float32
SMALLEST_FREEZE_WEIGHT = 0.05  # keeps the extra feature below float16's 65,504
_tracing = threading.Lock()


@dataclass(frozen=True)
class Loop:
    """A recurrent layer that the fused operator cannot express and that stays a loop, with the reason."""

    layer: str
    reason: str


@dataclass
class Trace:
    """What tracing found out.

    Attributes:
        calls: LSTM calls that became carriers, in tracing order.
        loops: Recurrent layers that stayed loops.
        notes: Sentences for the user.
        outputs: Names, shapes and dtypes of the model's outputs.
        paths: Names of all layers with those of the layers around them, by the layer's id.
    """

    calls: list[LstmCall] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    paths: dict[int, str] = field(default_factory=dict)

    def path(self, layer: Any) -> str:
        """The layer's name with those of the layers around it."""
        return self.paths.get(id(layer), str(layer.name))


def trace_model(model: Any, signature: Signature, folder: Path, *, padding: str = "auto") -> Trace:
    """Traces a model and saves it as a SavedModel with one signature, `serving_default`.

    Args:
        model: A built Keras model on the TensorFlow backend.
        signature: Its inputs with static shapes.
        folder: Where the SavedModel is written.
        padding: Promise about masked steps, one of `masks.PADDINGS`.

    Returns:
        The calls, loops and notes.

    Raises:
        LoweringError: If the model cannot be traced.
        OutputError: If the folder cannot be written.
    """
    import keras
    import tensorflow as tf

    result = Trace(paths=_layer_paths(model))
    names: list[str] = []

    def serve(**inputs: Any) -> dict[str, Any]:
        outputs = model(signature.pack([inputs[name] for name in neutral]), training=False)
        names[:] = output_names(model, outputs)
        flat = keras.tree.flatten(outputs)
        return {name: tf.identity(tensor) for name, tensor in zip(names, flat, strict=True)}

    neutral = neutral_names(signature)
    specs = {
        name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for name, spec in zip(neutral, signature.inputs, strict=True)
    }
    function = tf.function(serve, autograph=False)
    with _tracing, _stateless(model, result), _carriers(result, padding):
        try:
            concrete = function.get_concrete_function(**specs)
        except LoweringError:
            raise
        except Exception as error:  # whatever a model's own code raises
            reason = " ".join(str(error).split())[:300]
            raise LoweringError(
                f"Model {model.name!r} cannot be traced on inputs of shape "
                f"{', '.join(str(spec.shape) for spec in signature.inputs)}: {type(error).__name__}: {reason}"
            ) from error
    shapes = concrete.structured_outputs
    for name in names:
        shape = shapes[name].shape
        result.outputs.append(TensorSpec(name, tuple(shape.as_list()) if shape.rank is not None else (), ""))
    module = tf.Module()
    module.captured = list(concrete.variables)
    try:
        with _clean_variables(module.captured):
            tf.saved_model.save(module, str(folder), signatures={"serving_default": concrete})
    except (OSError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutputError(f"Cannot write the temporary folder {folder}: {reason}. Free space there.") from error
    return result


@contextlib.contextmanager
def _stateless(model: Any, result: Trace) -> Iterator[None]:
    """Lets stateful layers start from zeros while they are traced, and writes a note about each."""
    flatten = getattr(model, "_flatten_layers", None)
    layers = [layer for layer in flatten() if getattr(layer, "stateful", False) is True] if flatten else []
    changed = []
    for layer in layers:
        with contextlib.suppress(AttributeError):
            layer.stateful = False
            changed.append(layer)
            if hasattr(layer, "cell"):
                result.notes.append(
                    f"Layer {result.path(layer)!r} is stateful in Keras; this file starts every call from zero states."
                )
    try:
        yield
    finally:
        for layer in changed:
            layer.stateful = True


@contextlib.contextmanager
def _carriers(result: Trace, padding: str) -> Iterator[None]:
    """Replaces `inner_loop` of LSTM and RNN, for this thread only, while the model is traced."""
    import keras

    thread = threading.get_ident()
    originals = {owner: owner.inner_loop for owner in (keras.layers.LSTM, keras.layers.RNN)}
    # Keras' own shortcuts around inner_loop, by owner and name: what stands in for them, where they exist.
    shortcuts = {
        (keras.layers.Bidirectional, "_can_attempt_fused_lstm"): lambda *_, **__: False,
        # Draws random numbers even in inference, which would leave a variable in the graph.
        (keras.layers.RNN, "_maybe_config_dropout_masks"): lambda *_, **__: None,
        (keras.layers.TimeDistributed, "call"): folded_call(keras.layers.TimeDistributed.call),
        # TensorFlow refuses scopes with spaces, which Keras allows in names.
        (keras.src.backend.name_scope, "__init__"): _clean_scopes(keras.src.backend.name_scope.__init__),
    }
    shortcuts = {(owner, name): stand_in for (owner, name), stand_in in shortcuts.items() if hasattr(owner, name)}
    kept = {(owner, name): getattr(owner, name) for owner, name in shortcuts}

    def replacement(owner: Any) -> Any:
        original = originals[owner]

        def inner_loop(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
            if threading.get_ident() != thread:
                return original(layer, sequences, initial_state, mask, training=training)
            reason = _why_loop(layer)
            if reason is None:
                return _lower(layer, sequences, initial_state, mask, padding, result)
            if owner is keras.layers.RNN:  # every recurrent layer's own inner_loop ends here
                result.loops.append(Loop(result.path(layer), reason))
            return original(layer, sequences, initial_state, mask, training=training)

        return inner_loop

    try:
        for owner in originals:
            owner.inner_loop = replacement(owner)
        for (owner, name), stand_in in shortcuts.items():
            setattr(owner, name, stand_in)
        yield
    finally:
        for owner, original in originals.items():
            owner.inner_loop = original
        for (owner, name), method in kept.items():
            setattr(owner, name, method)


def _clean_scopes(original: Any) -> Any:
    def init(scope: Any, name: str, **options: Any) -> None:
        original(scope, _clean(name), **options)

    return init


def _clean(name: str) -> str:
    """The name as TensorFlow's scopes take it."""
    cleaned = re.sub(r"[^A-Za-z0-9_./>-]", "_", name)
    return cleaned if re.match(r"[A-Za-z0-9.]", cleaned) else f"x{cleaned}"


@contextlib.contextmanager
def _clean_variables(variables: Sequence[Any]) -> Iterator[None]:
    """Names variables, whose names begin with those of their layers, so that they can be saved."""
    names = [variable.name for variable in variables]
    try:
        for variable, name in zip(variables, names, strict=True):
            path, _, number = name.partition(":")
            variable._handle_name = f"{_clean(path)}:{number}"
        yield
    finally:
        for variable, name in zip(variables, names, strict=True):
            variable._handle_name = name


def neutral_names(signature: Signature) -> list[str]:
    """Names under which the inputs are traced: a function cannot have a parameter named "from"."""
    return [f"edgelstm_input_{position}" for position in range(len(signature.inputs))]


def _layer_paths(layer: Any, prefix: str = "") -> dict[int, str]:
    """Paths by id, from the structure alone: Keras' own differ between a live model and one from a file."""
    paths: dict[int, str] = {}
    flatten = getattr(layer, "_flatten_layers", None)
    for child in flatten(include_self=False, recursive=False) if flatten else ():
        path = f"{prefix}{child.name}"
        paths |= {id(child): path, **_layer_paths(child, f"{path}/")}
    return paths


def _why_loop(layer: Any) -> str | None:
    """Why a recurrent layer cannot be fused; None if it can."""
    return next((reason for cell in _cells(layer) if (reason := _why_not_fused(cell))), None)


def _cells(layer: Any) -> list[Any]:
    import keras

    cell = layer.cell
    return list(cell.cells) if type(cell) is keras.layers.StackedRNNCells else [cell]


def _why_not_fused(cell: Any) -> str | None:
    import keras

    if type(cell) is not keras.layers.LSTMCell:
        return f"its cell is a {type(cell).__name__}, and only LSTMCell has a fused operator"
    if not activations.is_sigmoid(cell.recurrent_activation):
        name = getattr(cell.recurrent_activation, "__name__", "custom")
        return f"recurrent_activation={name!r}, and the fused operator's gates are sigmoid"
    if activations.fused_name(cell.activation) is None:
        name = getattr(cell.activation, "__name__", "custom")
        return f"activation={name!r}, and the fused operator knows {', '.join(activations.FUSED)}"
    return None


def _lower(layer: Any, sequences: Any, initial_state: Any, mask: Any, padding: str, result: Trace) -> Any:
    """Stands in for `inner_loop`: (last output, outputs of all steps, final states) of one or more fused cells."""
    import keras
    import tensorflow as tf

    if keras.tree.is_nested(mask):
        mask = keras.tree.flatten(mask)[0]
    plan = None
    if mask is not None and padding != "none":
        plan = masks.plan_mask(_flat_mask(mask), go_backwards=layer.go_backwards, padding=padding)
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
    """One fused cell over one sequence; outputs stay compacted where there is a mask."""
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
        len(result.calls), result.path(layer), cell.units, activations.fused_name(cell.activation) or "", freeze
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
