"""Models of Keras 1 and 2: their configuration rewritten for Keras 3, their weights put where they belong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.converters.legacy_functions import register_functions
from edgelstm.converters.legacy_layers import register_layers
from edgelstm.converters.loading.base import Loaded
from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.masks import masked_differently, may_mask, notes_on_masks
from edgelstm.converters.loading.placing import place_weights
from edgelstm.converters.loading.policy import allowed_objects
from edgelstm.converters.loading.reasons import reason
from edgelstm.converters.loading.rebatch import batch_note, check_batch
from edgelstm.converters.loading.rebuild import revive
from edgelstm.converters.loading.rewriting import Context, Writer, rewrite_model
from edgelstm.converters.loading.rewriting.plain import plain
from edgelstm.errors import LoadError

LayerWeights = Mapping[str, Sequence[tuple[str, Array]]]
"""Name and values of every weight, by the name of the layer, in the order in which that Keras lists a layer's weights
(trainable ones first); layers without weights may be left out."""


def is_legacy(keras_version: str) -> bool:
    """Tells whether a version is one of Keras 1 or 2."""
    return Writer.parse(keras_version).before(3)


@dataclass(frozen=True)
class Built:
    """A model rebuilt from an old configuration, its weights still random.

    Attributes:
        model: The Keras 3 model.
        context: What came to light in it.
    """

    model: Any
    context: Context


def build_legacy(
    config: dict[str, Any],
    weights: LayerWeights,
    *,
    keras_version: str,
    custom: Mapping[str, Any],
    path: Path,
    batch: int | None = None,
    backend: str | None = None,
) -> Loaded:
    """Builds the Keras 3 twin of a model that Keras 1 or 2 wrote.

    Args:
        config: Its configuration, {"class_name": ..., "config": ...}; not changed.
        weights: Its weights.
        keras_version: Version of the Keras that wrote it, e.g. "2.2.4" or "2.3.0-tf".
        custom: The user's own classes and functions by the names that the file may call them, as
            `custom.import_custom` returns them.
        path: The file, for messages.
        batch: Batch size in place of one that the file fixes; None keeps the file's.
        backend: The backend of the Keras that wrote it, e.g. "theano"; None if the file does not say.

    Returns:
        The model and what the user should know about it.

    Raises:
        LoadError: If a layer or setting has no exact counterpart in Keras 3, or names, number or shapes of the weights
            do not fit the configuration.
    """
    writer = Writer.parse(keras_version, backend)
    named = _name_nested(config, list(weights))
    return finish(named, writer, custom, path, batch, lambda built: place_weights(built.model, weights, built.context))


def finish(
    config: dict[str, Any],
    writer: Writer,
    custom: Mapping[str, Any],
    path: Path,
    batch: int | None,
    place: Callable[[Built], None],
) -> Loaded:
    """Builds a model from an old configuration and has its weights put in place.

    Args:
        config: As in `build_legacy`.
        writer: The Keras that wrote it.
        custom: As in `build_legacy`.
        path: The file, for messages.
        batch: As in `build_legacy`.
        place: Assigns every weight of the built model, or raises LoadError.

    Raises:
        LoadError: As in `build_legacy`.
    """
    import_keras()
    register_functions()
    register_layers()
    built = _build(config, Context(path, writer, custom, batch, None if may_mask(config, custom) else frozenset()))
    if built.context.as_written is None:
        as_written = masked_differently(built.model, writer)
        built = _build(config, Context(path, writer, custom, batch, as_written))
    if not built.model.built:
        raise LoadError(
            f"Cannot load {path}: its configuration does not tell the shape of its input. Load it in the Keras that "
            "wrote it, call it once on data, and save it again."
        )
    check_batch(built.model, batch, path)
    place(built)
    built.context.notes.extend(notes_on_masks(built.model, writer))
    return Loaded(built.model, tuple(_notes(built.context)))


def _build(config: dict[str, Any], context: Context) -> Built:
    try:
        rewritten = rewrite_model(plain(config), context)
    except LoadError:
        raise
    except Exception as error:  # whatever damaged data brings about: KeyError, TypeError, RecursionError, ...
        raise LoadError(
            f"Cannot load {context.path}: its configuration is damaged or of an unknown form ({reason(error)}). Save "
            "the model again."
        ) from error
    objects = allowed_objects(rewritten, context.custom, context.path)
    return Built(revive(context.path, rewritten, objects), context)


def _name_nested(config: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Gives models inside a Sequential model the names that the weights have, where old Keras did not write them."""
    layers = config.get("config")
    if not isinstance(layers, list):
        return config
    known = {_own_name(layer) for layer in layers}
    unclaimed = iter([name for name in names if name not in known])
    named = [
        layer if _own_name(layer) or not isinstance(layer, dict) else layer | {"name": next(unclaimed, "")}
        for layer in layers
    ]
    return config | {"config": named}


def _own_name(layer: Any) -> str | None:
    inner = layer.get("config") if isinstance(layer, dict) else None
    names = [part.get("name") for part in (layer, inner) if isinstance(part, dict)]
    return next((name for name in names if name and isinstance(name, str)), None)


def _notes(context: Context) -> list[str]:
    notes = list(context.notes)
    if context.batches and context.batch is not None:
        notes.append(batch_note(context.batches, context.batch))
    if context.hard_sigmoids:
        names = ", ".join(repr(name) for name in dict.fromkeys(context.hard_sigmoids))
        notes.append(
            f"hard_sigmoid in {names} keeps the meaning that it had in {context.writer.title}, 0.2 x + 0.5, which "
            "Keras 3 defines otherwise."
        )
    if context.training_only:
        names = ", ".join(dict.fromkeys(context.training_only))
        notes.append(f"Left out, because Keras 3 does not have it and only training uses it: {names}.")
    return notes
