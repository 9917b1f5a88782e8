"""Where a Keras model comes from: a file or a live object, with a hash that tells one from another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.loading import load_model
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import LoadError


@dataclass(frozen=True)
class Source:
    """A Keras model.

    Attributes:
        model: The model.
        name: Name of its file, or of the live model.
        sha256: Of the file, or of the live model's weights.
    """

    model: Any
    name: str
    sha256: str


def open_source(model: Any, custom: Sequence[str]) -> Source:
    """Loads a model file, or takes a live model as it is.

    Args:
        model: A Keras 3 model, or the path of its file.
        custom: Custom classes of the model, each as "package.module:Class".

    Raises:
        LoadError: If the file cannot be read, or the object is no built Keras 3 model.
        MissingExtraError: If Keras or TensorFlow is not installed.
    """
    if isinstance(model, (str, Path)):
        path = Path(model)
        loaded = load_model(path, custom=custom)
        return Source(loaded, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    keras = import_keras()
    if not isinstance(model, keras.Model):
        raise LoadError(
            f"Cannot convert a {type(model).__module__}.{type(model).__name__}: give a Keras 3 model or the path of "
            "its file."
        )
    if not model.built:
        raise LoadError(f"Model {model.name!r} has no weights yet: call it once on data, or load its weights.")
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return Source(model, model.name, digest.hexdigest())
