"""Live models of tf_keras, the Keras 2 that lives on beside Keras 3."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.loading.base import Loaded
from edgelstm.converters.loading.custom import check_spec, import_custom
from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.legacy import build_legacy
from edgelstm.converters.loading.reasons import reason
from edgelstm.errors import LoadError


def is_tf_keras_model(model: Any) -> bool:
    """Tells whether an object is a model of tf_keras, without importing that."""
    return any(
        base.__module__.partition(".")[0] == "tf_keras" and base.__name__ == "Model" for base in type(model).__mro__
    )


def load_tf_keras_model(model: Any, custom: Sequence[str], batch: int | None) -> Loaded:
    """Builds the Keras 3 twin of a live tf_keras model.

    Args:
        model: The model.
        custom: Keras 3 twins of the model's own classes, each as "package.module:Class".
        batch: Batch size in place of one that the model fixes; None keeps the model's.

    Raises:
        LoadError: If it has no weights yet, is no Sequential or functional model, or has no exact twin in Keras 3.
    """
    if not model.built:
        raise LoadError(f"Model {model.name!r} has no weights yet: call it once on data, or load its weights.")
    for spec in custom:
        check_spec(spec)
    try:
        config = json.loads(model.to_json())
    except Exception as error:
        raise LoadError(
            f"Cannot convert the tf_keras model {model.name!r}: it cannot tell its configuration ({reason(error)}). "
            "Only Sequential and functional models can be built again in Keras 3."
        ) from error
    return build_legacy(
        config,
        {layer.name: _weights(layer) for layer in model.layers},
        keras_version=str(getattr(sys.modules.get("tf_keras"), "__version__", "2.16.0")),
        custom=import_custom((custom,) if isinstance(custom, str) else custom),
        path=Path(str(model.name)),
        batch=batch,
        backend="tensorflow",
    )


def _weights(layer: Any) -> list[tuple[str, Array]]:
    variables = [*layer.trainable_weights, *layer.non_trainable_weights]
    return [(str(variable.name), np.asarray(variable.numpy())) for variable in variables]
