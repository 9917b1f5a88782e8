"""Where masks reach layers that treat them otherwise in Keras 3 than in Keras 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.legacy_layers import MERGES
from edgelstm.converters.loading.configuration import dictionaries
from edgelstm.converters.loading.rewriting import Writer


def may_mask(config: Any, custom: Mapping[str, Any]) -> bool:
    """Tells whether any layer of an old configuration may make a mask."""
    return bool(custom) or any(
        entry.get("class_name") == "Masking" or entry.get("mask_zero") for entry, _ in dictionaries(config)
    )


def masked_differently(model: Any, writer: Writer) -> frozenset[str]:
    """Returns the names of the layers that need the old meaning of masks.

    Merging layers need it where their inputs have different masks, and Concatenate where they have any: Keras 3 joins
    even equal ones by an operation whose name may be that of a layer. A Bidirectional layer needs it where it has a
    mask at all and the writer is older than tf.keras of TensorFlow 1.14, in which masked steps began to answer zero.

    Args:
        model: The model, built from the file's configuration with the variants of all layers.
        writer: The Keras that wrote the file.
    """
    import keras

    merges = tuple(getattr(keras.layers, name) for name in MERGES)
    concerned = (*merges, keras.layers.Bidirectional) if _repeats_outputs(writer) else merges
    names = set()
    for layer, masks in _masks(model):
        if isinstance(layer, keras.Model):  # what its own graph does with a mask is seen in calls only
            names |= {inner.name for inner in layers_inside(layer) if isinstance(inner, concerned)}
        elif isinstance(layer, concerned):
            alike = isinstance(layer, merges) and not isinstance(layer, keras.layers.Concatenate)
            if not alike or len(set(map(id, masks))) > 1:
                names.add(layer.name)
    return frozenset(names)


def notes_on_masks(model: Any, writer: Writer) -> list[str]:
    """Tells where masks still mean something else: before 2.4 outside TensorFlow, in front of the first valid step.

    There a recurrent layer answered its initial state, and answers zero today. Without such a state that is the same.

    Args:
        model: The built model.
        writer: The Keras that wrote the file.
    """
    if writer.in_tensorflow:
        return []
    import keras

    concerned = (keras.layers.RNN, keras.layers.Bidirectional)
    names = dict.fromkeys(layer.name for layer, _ in _masks(model, with_states=True) if isinstance(layer, concerned))
    return [
        f"Where the first steps of a sequence are masked, {name!r} answers zero for them, and answered its initial "
        f"state in {writer.title}."
        for name in names
    ]


def _repeats_outputs(writer: Writer) -> bool:
    return not writer.in_tensorflow or writer.before(2, 2, 4)


def _masks(model: Any, *, with_states: bool = False) -> Iterator[tuple[Any, list[Any]]]:
    """Yields every layer once for each of its calls that have masks, with the masks of what it is called on.

    Args:
        model: The model.
        with_states: Only calls of layers that begin with a state that is given or left from the last call.
    """
    import keras

    for layer in (model, *layers_inside(model)):
        for node in getattr(layer, "_inbound_nodes", ()):
            tensors = keras.tree.flatten(node.arguments.args[:1])
            masks = [getattr(tensor, "_keras_mask", None) for tensor in tensors]
            stateful = getattr(layer, "stateful", False) or node.arguments.kwargs.get("initial_state") is not None
            if any(mask is not None for mask in masks) and (stateful or not with_states):
                yield layer, masks
