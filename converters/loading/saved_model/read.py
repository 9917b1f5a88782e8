"""A SavedModel folder becomes a Keras model."""

from __future__ import annotations

from pathlib import Path

from edgelstm.converters.loading.base import Loaded
from edgelstm.converters.loading.custom import check_spec
from edgelstm.converters.loading.saved_model.agreement import largest_disagreement
from edgelstm.converters.loading.saved_model.checkpoint import Checkpoint, read_checkpoint
from edgelstm.converters.loading.saved_model.folder import SavedModelFolder, open_folder
from edgelstm.converters.loading.saved_model.keras_model import build_keras_model
from edgelstm.converters.loading.saved_model.metadata import architecture, keras_objects
from edgelstm.converters.loading.saved_model.served import serve
from edgelstm.converters.loading.saved_model.signature import open_signature
from edgelstm.errors import LoadError


def read(folder: Path, custom: tuple[str, ...] = (), batch: int | None = None) -> Loaded:
    """Reads a SavedModel folder; nothing that it was saved with is executed.

    A model that tf.keras saved is rebuilt from its configuration and its weights, and has to answer as the operations
    of its serving signature. Where that is not possible, and for all other SavedModels, these operations themselves
    are wrapped as a model.

    Args:
        folder: The folder.
        custom: The "module:Name" specs of the model's own classes and functions.
        batch: Batch size in place of one that the folder fixes; None keeps the folder's.

    Raises:
        LoadError: If files are missing or damaged, or neither way leads to a model.
        MissingExtraError: If Keras or TensorFlow is not installed.
    """
    for spec in custom:
        check_spec(spec)
    opened = open_folder(folder)
    objects = keras_objects(opened)
    model = architecture(objects)
    checkpoint = read_checkpoint(opened)
    if model is None:
        return _serve(opened, checkpoint, batch, "The SavedModel holds no Keras configuration")
    try:
        rebuilt = build_keras_model(opened, model, objects, checkpoint, custom, batch)
    except LoadError as error:
        return _serve_instead(opened, checkpoint, batch, error)
    return _agreeing(opened, checkpoint, batch, rebuilt)


def _serve(folder: SavedModelFolder, checkpoint: Checkpoint, batch: int | None, reason: str) -> Loaded:
    """The operations of the signature as a model."""
    signature = open_signature(folder, checkpoint)
    for entry in signature.inputs:
        if batch is not None and entry.shape and entry.shape[0] not in (None, batch):
            raise LoadError(
                f"Cannot load {folder.path}: the input {entry.name!r} of its signature has its batch fixed to "
                f"{entry.shape[0]}, and the graph cannot be changed to {batch}. Leave --batch out."
            )
    served = serve(folder, signature)
    if served.other_types:
        raise LoadError(
            f"Cannot load {folder.path}: its signature computes in {' and '.join(sorted(served.other_types))}, and "
            "TensorFlow Lite computes in float32. Save the model again with float32 layers."
        )
    note = f"{reason}, so the operations of its signature {signature.name!r} are converted as they are."
    return Loaded(served, (note,))


def _serve_instead(folder: SavedModelFolder, checkpoint: Checkpoint, batch: int | None, error: LoadError) -> Loaded:
    """The signature, where the Keras model in the folder cannot be rebuilt."""
    told = _first_sentence(error, folder)
    try:
        return _serve(folder, checkpoint, batch, f"The Keras model in the SavedModel cannot be rebuilt ({told})")
    except LoadError as other:
        raise LoadError(
            f"{error} The graph beside it cannot be taken either: {_first_sentence(other, folder)}."
        ) from other


def _first_sentence(error: LoadError, folder: SavedModelFolder) -> str:
    return str(error).removeprefix(f"Cannot load {folder.path}: ").partition(". ")[0].rstrip(".")


def _agreeing(folder: SavedModelFolder, checkpoint: Checkpoint, batch: int | None, rebuilt: Loaded) -> Loaded:
    """The rebuilt model if it answers as the signature does or there is no signature to run, else the signature."""
    try:
        signature = open_signature(folder, checkpoint)
        served = serve(folder, signature, for_conversion=False)
    except LoadError:
        return rebuilt
    disagreement = largest_disagreement(rebuilt.model, served, signature)
    if disagreement is None or disagreement <= 1:
        return rebuilt
    reason = "The Keras model rebuilt from the SavedModel's configuration answers otherwise than its signature"
    return _serve(folder, checkpoint, batch, reason)
