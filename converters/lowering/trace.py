"""Keras model -> SavedModel in which every LSTM that can be fused stands as one opaque operator.

TensorFlow's converter turns a `tf.function` that carries the attribute `tfl_fusable_op` into one custom
operator, whatever its body. While the model is traced, `inner_loop` of Keras' recurrent layers is
replaced by a call of such a function, the carrier; around it stand the graph operations for masks and
states. The model itself is not cloned and not changed, and whatever surrounds the layers (wrappers,
sub-models, subclassed models) is traced as it is.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.lowering.calls import Loop, Trace
from edgelstm.converters.lowering.mixed import precision_layers, scope_name
from edgelstm.converters.lowering.recurrent import CARRIERS, Lowering
from edgelstm.converters.lowering.signature import Signature, output_names
from edgelstm.converters.lowering.time_distributed import folded_call
from edgelstm.errors import LoweringError, OutputError

tracing = threading.Lock()
"""Held while a model is traced, because `stand_ins` replaces methods of Keras' classes."""


def trace_model(
    model: Any,
    signature: Signature,
    folder: Path,
    *,
    padding: str = "auto",
    lowering: Lowering = CARRIERS,
    unrolled: bool = False,
    streaming: bool = False,
) -> Trace:
    """Traces a model and saves it as a SavedModel with one signature, `serving_default`.

    Args:
        model: A built Keras model on the TensorFlow backend.
        signature: Its inputs with static shapes.
        folder: Where the SavedModel is written.
        padding: Promise about masked steps, one of `masks.PADDINGS`.
        lowering: What stands in for the recurrent layers' own loops.
        unrolled: Whether the loops of layers that are no LSTMs are written out step by step.
        streaming: Whether states stay from call to call, which only those of LSTMs can.

    Returns:
        The calls, loops and notes.

    Raises:
        LoweringError: If the model cannot be traced.
        OutputError: If the folder cannot be written.
    """
    import keras
    import tensorflow as tf

    result = Trace(paths=layer_paths(model), weighted=precision_layers(model))

    def serve(**inputs: Any) -> dict[str, Any]:
        outputs = model(signature.pack([inputs[name] for name in neutral]), training=False)
        result.outputs[:] = output_names(model, outputs)
        flat = keras.tree.flatten(outputs)
        return {name: tf.identity(tensor) for name, tensor in zip(result.outputs, flat, strict=True)}

    neutral = neutral_names(signature)
    specs = {
        name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for name, spec in zip(neutral, signature.inputs, strict=True)
    }
    function = tf.function(serve, autograph=False)
    with tracing, stateless(model, result, streaming), stand_ins(result, padding, lowering, unrolled):
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
    module = tf.Module()
    module.captured = list(concrete.variables)
    save_module(module, concrete, folder, model.name)
    return result


def save_module(module: Any, concrete: Any, folder: Path, name: str) -> None:
    """Saves a traced function as a SavedModel with the signature `serving_default`.

    Args:
        module: A tf.Module whose attribute `captured` lists the function's variables.
        concrete: The function.
        folder: The folder to write, which does not exist yet.
        name: Name of the model, for errors.

    Raises:
        LoweringError: If the function holds something that a SavedModel cannot.
        OutputError: If the folder cannot be written.
    """
    import tensorflow as tf

    try:
        with clean_variables(module.captured):
            tf.saved_model.save(module, str(folder), signatures={"serving_default": concrete})
    except (OSError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutputError(f"Cannot write the temporary folder {folder}: {reason}. Free space there.") from error
    except (AssertionError, TypeError, ValueError) as error:  # a table of a lookup layer, say, which is no variable
        reason = " ".join(str(error).split()).partition(". ")[0][:200]
        raise LoweringError(
            f"Model {name!r} cannot be saved as a SavedModel, with which every conversion begins ({reason}). Leave out "
            "layers that hold more than weights, such as an IntegerLookup with its table."
        ) from error


@contextlib.contextmanager
def stateless(model: Any, result: Trace, streaming: bool) -> Iterator[None]:
    """Lets stateful layers start from zeros while they are traced, and notes each in `result` unless `streaming`."""
    changed = []
    for layer in [layer for layer in layers_inside(model) if getattr(layer, "stateful", False) is True]:
        with contextlib.suppress(AttributeError):
            layer.stateful = False
            changed.append(layer)
            if hasattr(layer, "cell") and not streaming:
                result.notes.append(
                    f"Layer {result.path(layer)!r} is stateful in Keras; this file starts every call from zero states."
                )
    try:
        yield
    finally:
        for layer in changed:
            layer.stateful = True


@contextlib.contextmanager
def stand_ins(result: Trace, padding: str, lowering: Lowering, unrolled: bool) -> Iterator[None]:
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
    kept = {(owner, name): getattr(owner, name) for owner, name in shortcuts if hasattr(owner, name)}

    def replacement(owner: Any) -> Any:
        original = originals[owner]

        def inner_loop(layer: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
            if threading.get_ident() != thread:
                return original(layer, sequences, initial_state, mask, training=training)
            reason = lowering.why_loop(layer)
            if reason is None:
                return lowering.lower_layer(layer, sequences, initial_state, mask, padding, result)
            if owner is keras.layers.RNN:  # every recurrent layer's own inner_loop ends here
                result.loops.append(Loop(result.path(layer), reason))
                with _unrolled(layer, unrolled):
                    return original(layer, sequences, initial_state, mask, training=training)
            return original(layer, sequences, initial_state, mask, training=training)

        return inner_loop

    try:
        for owner in originals:
            owner.inner_loop = replacement(owner)
        for (owner, name), method in kept.items():
            setattr(owner, name, _for_thread(thread, shortcuts[owner, name], method))
        yield
    finally:
        for owner, original in originals.items():
            owner.inner_loop = original
        for (owner, name), method in kept.items():
            setattr(owner, name, method)


@contextlib.contextmanager
def _unrolled(layer: Any, unrolled: bool) -> Iterator[None]:
    """Lets a recurrent layer be written out step by step for a while, if that is wanted."""
    kept = layer.unroll
    layer.unroll = kept or unrolled
    try:
        yield
    finally:
        layer.unroll = kept


def _for_thread(thread: int, stand_in: Any, method: Any) -> Any:
    """A method that is another one in one thread: models may be trained in others meanwhile."""

    def either(*arguments: Any, **options: Any) -> Any:
        chosen = stand_in if threading.get_ident() == thread else method
        return chosen(*arguments, **options)

    return either


def _clean_scopes(original: Any) -> Any:
    def init(scope: Any, name: str, **options: Any) -> None:
        original(scope, scope_name(name), **options)

    return init


@contextlib.contextmanager
def clean_variables(variables: Sequence[Any]) -> Iterator[None]:
    """Names variables, whose names begin with those of their layers, so that they can be saved."""
    names = [variable.name for variable in variables]
    try:
        for variable, name in zip(variables, names, strict=True):
            path, _, number = name.rpartition(":")
            variable._handle_name = f"{scope_name(path)}:{number}"
        yield
    finally:
        for variable, name in zip(variables, names, strict=True):
            variable._handle_name = name


def neutral_names(signature: Signature) -> list[str]:
    """Names under which the inputs are traced: a function cannot have a parameter named "from"."""
    return [f"edgelstm_input_{position}" for position in range(len(signature.inputs))]


def layer_paths(layer: Any, prefix: str = "") -> dict[int, str]:
    """Paths by id, from the structure alone: Keras' own differ between a live model and one from a file."""
    paths: dict[int, str] = {}
    for child in layers_inside(layer, recursive=False):
        path = f"{prefix}{child.name}"
        paths |= {id(child): path, **layer_paths(child, f"{path}/")}
    return paths
