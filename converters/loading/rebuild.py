"""Letting Keras rebuild a checked model: in safe mode, quietly, and with errors of one line."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.loading.reasons import reason
from edgelstm.errors import LoadError


def rebuild(path: Path, suffix: str, objects: Mapping[str, Any]) -> Any:
    """Calls Keras' own loader on a file whose configuration has been checked.

    Args:
        path: The file.
        suffix: The suffix by which Keras knows this kind of file, ".keras" or ".h5"; the file may have another one.
        objects: The user's classes and functions by the names that the file calls them.

    Returns:
        The `keras.Model`, not compiled.

    Raises:
        LoadError: If Keras refuses the file or it holds something else than a model.
    """
    keras = import_keras()

    def load() -> Any:
        with _named(path, suffix) as named:
            return keras.saving.load_model(named, custom_objects=dict(objects), compile=False, safe_mode=True)

    return _safely(load, path)


def revive(path: Path, config: Mapping[str, Any], objects: Mapping[str, Any]) -> Any:
    """Lets Keras build a model from a configuration that has been checked; its weights are random.

    Args:
        path: The file that the configuration comes from, for messages.
        config: The configuration, in the form of Keras 3.
        objects: The user's classes and functions by the names that the configuration calls them.

    Returns:
        The `keras.Model`, not compiled.

    Raises:
        LoadError: If Keras refuses the configuration or it describes something else than a model.
    """
    keras = import_keras()
    # How a model was trained is no part of it, and layers are built by calling them.
    kept = {name: value for name, value in config.items() if name not in ("compile_config", "build_config")}

    def build() -> Any:
        return keras.saving.deserialize_keras_object(kept, custom_objects=dict(objects), safe_mode=True)

    return _safely(build, path)


def _safely(build: Callable[[], Any], path: Path) -> Any:
    keras = import_keras()
    # The argument safe_mode alone does not hold: Keras 3.15 prefers the process-wide switch, which any module can have
    # turned off through keras.config.enable_unsafe_deserialization().
    from keras.src.saving.serialization_lib import SafeModeScope

    try:
        with _quiet(), SafeModeScope(safe_mode=True):
            model = build()
    except Exception as error:
        raise LoadError(
            f"Cannot load {path}: Keras {keras.__version__} cannot rebuild the model. "
            f"It says: {reason(error)}. If an older Keras wrote the file, load it there and save it with "
            "model.save('model.keras')."
        ) from error
    if not isinstance(model, keras.Model):
        raise LoadError(f"Cannot load {path}: it holds a {type(model).__name__} and not a model.")
    return model


@contextmanager
def _named(path: Path, suffix: str) -> Iterator[str]:
    """Yields a path of the file that ends in `suffix`, because Keras goes by the name; a folder is taken as it is."""
    if path.suffix == suffix or path.is_dir():
        yield str(path.absolute())
        return
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        named = Path(folder, "model" + suffix)
        try:
            named.symlink_to(path.resolve())
        except OSError:  # a file system without links
            shutil.copyfile(path, named)
        yield str(named)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back Keras' warnings and log lines; what they warn of is checked after loading."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
