"""A SavedModel that tf.keras wrote, rebuilt from its configuration and weights: nothing of its graph is run."""

from __future__ import annotations

from typing import Any

from edgelstm.converters.loading.base import Loaded
from edgelstm.converters.loading.custom import import_custom
from edgelstm.converters.loading.legacy import build_legacy
from edgelstm.converters.loading.saved_model.checkpoint import Checkpoint
from edgelstm.converters.loading.saved_model.folder import SavedModelFolder
from edgelstm.converters.loading.saved_model.layer_weights import layer_weights
from edgelstm.converters.loading.saved_model.metadata import Architecture, KerasObject

_SEQUENCES = ("__tuple__", "TensorShape")


def build_keras_model(
    folder: SavedModelFolder,
    model: Architecture,
    objects: dict[int, KerasObject],
    checkpoint: Checkpoint,
    custom: tuple[str, ...],
    batch: int | None,
) -> Loaded:
    """Builds the Keras 3 twin of the model in a folder.

    Raises:
        LoadError: If the folder's metadata and variables do not fit, or as `build_legacy`.
    """
    return build_legacy(
        plain(model.config),
        layer_weights(folder, objects, checkpoint),
        keras_version=model.keras_version,
        custom=import_custom(custom),
        path=folder.path,
        batch=batch,
        backend=model.backend,
    )


def plain(value: Any) -> Any:
    """The configuration as it stands in an HDF5 file: tuples and shapes, which SavedModels mark, as lists."""
    if isinstance(value, dict):
        if value.get("class_name") in _SEQUENCES and isinstance(value.get("items"), list):
            return plain(value["items"])
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value
