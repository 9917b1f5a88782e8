"""Where a Keras model comes from: a file, a folder or a live object, with a hash that tells one from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.loading import Loaded, load_model
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.live import is_tf_keras_model, load_tf_keras_model
from edgelstm.converters.loading.rebatch import rebase_batch
from edgelstm.errors import LoadError


@dataclass(frozen=True)
class Source:
    """A Keras model.

    Attributes:
        model: The model.
        name: Name of its file, or of the live model.
        sha256: Of the file, of all files in the folder, or of the live model's weights.
        notes: What the user should know about the model as it was loaded.
        recipe: Stages that have changed it since, as a recipe has them.
    """

    model: Any
    name: str
    sha256: str
    notes: tuple[str, ...] = ()
    recipe: tuple[Mapping[str, Any], ...] = ()


def open_source(
    model: Any, custom: Sequence[str], *, batch: int | None = None, weights: str | Path | None = None
) -> Source:
    """Loads a model from a file or folder, or takes a live model.

    Args:
        model: A Keras 3 or tf_keras model, or the path of a file or folder that holds one.
        custom: Custom classes of the model, each as "package.module:Class".
        batch: Batch size in place of one that the model fixes; None keeps the model's.
        weights: The file with the weights of an architecture that is kept in a JSON file of its own.

    Raises:
        LoadError: If the file cannot be read, or the object is no built Keras model.
        MissingExtraError: If Keras or TensorFlow is not installed.
        ValueError: If `batch` is less than 1.
    """
    if isinstance(model, (str, Path)):
        path = Path(model)
        loaded = load_model(path, custom=custom, batch=batch, weights=weights)
        return Source(loaded.model, path.name, _digest_of_files(path, weights), loaded.notes)
    if weights is not None:
        raise LoadError(f"A file of weights belongs to an architecture in a JSON file, not to a {_class_name(model)}.")
    loaded = _take_live(model, custom, batch)
    digest = hashlib.sha256()
    for weight in loaded.model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return Source(loaded.model, loaded.model.name, digest.hexdigest(), loaded.notes)


def _take_live(model: Any, custom: Sequence[str], batch: int | None) -> Loaded:
    if is_tf_keras_model(model):
        return load_tf_keras_model(model, custom, batch)
    if not isinstance(model, import_keras().Model):
        raise LoadError(
            f"Cannot convert a {_class_name(model)}: give a Keras 3 or tf_keras model, or the path of its file."
        )
    if not model.built:
        raise LoadError(f"Model {model.name!r} has no weights yet: call it once on data, or load its weights.")
    return rebase_batch(model, batch)


def _class_name(model: Any) -> str:
    return f"{type(model).__module__}.{type(model).__name__}"


def _digest_of_files(path: Path, weights: str | Path | None) -> str:
    """Returns the digest of a file, of a file and its weights, or of the names and contents in a folder."""
    digest = hashlib.sha256()
    if path.is_dir():
        for inner in sorted(inner for inner in path.rglob("*") if inner.is_file()):
            digest.update(inner.relative_to(path).as_posix().encode() + b"\0")
            digest.update(hashlib.sha256(inner.read_bytes()).digest())
        return digest.hexdigest()
    digest.update(path.read_bytes())
    if weights is not None:
        digest.update(hashlib.sha256(Path(weights).read_bytes()).digest())
    return digest.hexdigest()
