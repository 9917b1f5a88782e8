"""Functions that Keras 3 defines otherwise than the Keras that wrote the file: the same name, other numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgelstm.converters.loading.configuration import dictionaries
from edgelstm.errors import LoadError


def refuse_redefined(config: Any, keras_version: str, path: Path) -> None:
    """Refuses files of Keras 1 and 2 that use `hard_sigmoid`.

    Keras 3 computes x / 6 + 0.5, Keras 1 and 2 computed 0.2 x + 0.5: such a model would load and answer wrongly.

    Args:
        config: The configuration of a model, as JSON gives it.
        keras_version: Version that wrote the file, e.g. "2.2.4".
        path: The file, for messages.

    Raises:
        LoadError: If a layer uses `hard_sigmoid` and the file was written by Keras 1 or 2.
    """
    if keras_version.partition(".")[0] not in ("1", "2"):
        return
    for value, layer in dictionaries(config):
        if any(setting == "hard_sigmoid" for key, setting in value.items() if key != "name"):
            raise LoadError(
                f"Cannot load {path}: {layer} uses hard_sigmoid of Keras {keras_version}, which Keras 3 defines "
                "otherwise, so the model would answer wrongly. Such old files are not supported yet; retrain with "
                "sigmoid."
            )
