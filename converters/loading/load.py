"""The one way in: a path becomes a Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgelstm.converters.loading.foreign import describe
from edgelstm.converters.loading.readers import HEAD_BYTES, READERS
from edgelstm.errors import LoadError

if TYPE_CHECKING:
    import keras


def load_model(path: str | Path, *, custom: Sequence[str] = ()) -> keras.Model:
    """Loads a Keras model from a `.keras` or HDF5 file, told apart by their content and not by their name.

    The file is not trusted: no code in it runs, and no module is imported because the file names it. Only what
    `custom` lists is imported, from the current folder or Python's path.

    Args:
        path: The file.
        custom: The model's own classes and functions, each as "package.module:Name".

    Returns:
        The model, not compiled, with every weight checked against the file.

    Raises:
        LoadError: If there is no such file, it is damaged or is no Keras model, it needs code that `custom` does not
            give, or a weight in it has no place in the model or the reverse.
        MissingExtraError: If Keras or TensorFlow is not installed.
    """
    path = Path(path)
    head = _read_head(path)
    for reader in READERS:
        if reader.recognizes(head):
            return reader.read(path, (custom,) if isinstance(custom, str) else tuple(custom))
    kinds = " nor ".join(reader.kind for reader in READERS)
    what = describe(head) or f"is neither {kinds}. Give the model as model.save() writes it"
    raise LoadError(f"Cannot load {path}: it {what}.")


def _read_head(path: Path) -> bytes:
    """Returns the first bytes of a regular file that is not empty."""
    try:
        if path.is_dir():
            raise LoadError(_folder_message(path))
        if not path.exists():
            raise LoadError(f"Cannot load {path}: there is no such file. Check the path and the current folder.")
        if not path.is_file():
            raise LoadError(f"Cannot load {path}: it is not a regular file.")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except PermissionError as error:
        raise LoadError(
            f"Cannot load {path}: you may not read it (permission denied). Change its permissions or copy it."
        ) from error
    except (OSError, ValueError) as error:
        raise LoadError(f"Cannot load {path}: {getattr(error, 'strerror', None) or error}.") from error
    if not head:
        raise LoadError(f"Cannot load {path}: the file is empty. Copy or save it again.")
    return head


def _folder_message(path: Path) -> str:
    if (path / "saved_model.pb").exists():
        kind = "a SavedModel folder"
    elif (path / "config.json").exists():
        kind = "an unzipped Keras model folder"
    else:
        return (
            f"Cannot load {path}: it is a folder without a model that Keras knows. Give a .keras or .h5 file, "
            "as model.save() writes it."
        )
    return (
        f"Cannot load {path}: it is {kind}, and folders (SavedModel, unzipped .keras, JSON with weights) are not "
        "supported yet. Load it in the Keras that wrote it and save it with model.save('model.keras')."
    )
