"""Layers that Keras 3 defines otherwise than Keras 1 and 2, with their old meaning.

They differ from Keras' own only in what they do with masks, and stand in for them only where masks reach them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from edgelstm.converters.legacy_functions import PACKAGE

MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
SUFFIX = "OfKeras2"


def variant_config(class_name: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the configuration of the variant of a layer, None if the layer has none."""
    if class_name not in (*MERGES, "Bidirectional"):
        return None
    name = f"{PACKAGE}>{class_name}{SUFFIX}"
    return {"module": None, "class_name": f"{class_name}{SUFFIX}", "config": dict(settings), "registered_name": name}


@functools.cache
def register_layers() -> None:
    """Makes the variants known to Keras, so that configurations can name them."""
    import keras

    register = keras.saving.register_keras_serializable(package=PACKAGE)
    for name in MERGES:
        base = getattr(keras.layers, name)
        mask = _joined_by_parts if name == "Concatenate" else _joined
        register(type(f"{name}{SUFFIX}", (base,), {"compute_mask": mask, "__doc__": f"{name} with masks of Keras 2."}))
    register(_bidirectional())


def _joined(_: Any, inputs: Any, mask: Any = None) -> Any:
    """A step is valid where it is so in every input that has a mask; in Keras 3, in any input, and all need one."""
    import keras

    masks = list({id(one): one for one in mask or () if one is not None}.values())
    return functools.reduce(keras.ops.logical_and, masks) if masks else None


def _joined_by_parts(layer: Any, inputs: Any, mask: Any = None) -> Any:
    """A step is valid where it is so in every input, an input without a mask being valid; in Keras 3, in any input."""
    import keras

    if mask is None or all(one is None for one in mask):
        return None
    if layer.axis != 1 or len(inputs[0].shape) == 2:  # features are joined: one mask for all of them
        return _joined(layer, inputs, mask)
    parts = [
        keras.ops.ones_like(part[..., 0], dtype="bool") if one is None else one
        for part, one in zip(inputs, mask, strict=True)
    ]
    # Joins along axis 1, and by a name that no layer has: in Keras 3 an operation between layers may not share one.
    return keras.ops.hstack(parts)


def _bidirectional() -> type:
    import keras

    class BidirectionalOfKeras2(keras.layers.Bidirectional):  # type: ignore[misc]
        """Bidirectional whose layers repeat their output at masked steps; in Keras 3 they answer zero there."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.forward_layer.zero_output_for_mask = False
            self.backward_layer.zero_output_for_mask = False

    return BidirectionalOfKeras2
