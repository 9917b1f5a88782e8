"""TimeDistributed as one call over all frames, instead of one copy of the layer's operators for each frame.

Keras calls the inner layer once per step of a static time axis. In the file that is as many copies of a
CNN as there are frames, each with weights that runtimes pack for themselves. A layer that treats every
row of its batch alike gives the same answers on all frames at once, as one larger batch.
"""

from __future__ import annotations

from typing import Any


def folded_call(original: Any) -> Any:
    """A stand-in for `TimeDistributed.call` that folds time into the batch where that is the same."""
    import keras

    def call(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        sizes = inputs.shape[:2]
        masked = mask is not None and layer.layer._call_has_mask_arg
        if masked or None in sizes or not _treats_rows_alike(layer.layer, keras):
            return original(layer, inputs, training=training, mask=mask)
        folded = keras.ops.reshape(inputs, (sizes[0] * sizes[1], *inputs.shape[2:]))
        arguments = {"training": training} if layer.layer._call_has_training_arg else {}
        outputs = layer.layer.call(folded, **arguments)
        return keras.ops.reshape(outputs, (*sizes, *outputs.shape[1:]))

    return call


def _treats_rows_alike(layer: Any, keras: Any) -> bool:
    """Whether a layer is Keras' own and keeps nothing from call to call, and so do all layers inside it."""
    if isinstance(layer, (keras.Sequential, keras.src.models.functional.Functional)):
        return len(layer.outputs) == 1 and all(_treats_rows_alike(inner, keras) for inner in layer.layers)
    inner = getattr(layer, "layer", None) or getattr(layer, "cell", None)
    if inner is not None and not _is_of_keras(inner):
        return False
    return _is_of_keras(layer) and getattr(layer, "stateful", False) is not True


def _is_of_keras(layer: Any) -> bool:
    return type(layer).__module__.startswith("keras.src.layers") and type(layer).__name__ != "Lambda"
