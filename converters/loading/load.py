"""The one way in: a path becomes a Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgelstm.converters.loading.base import Loaded, Request
from edgelstm.converters.loading.foreign import describe
from edgelstm.converters.loading.head import is_folder, read_head
from edgelstm.converters.loading.readers import FOLDER_READERS, READERS
from edgelstm.errors import LoadError


def load_model(
    path: str | Path,
    *,
    custom: Sequence[str] = (),
    batch: int | None = None,
    weights: str | Path | None = None,
) -> Loaded:
    """Loads a Keras model from a file or folder, told apart by its content and not by its name.

    The file is not trusted: no code in it runs, and no module is imported because the file names it. Only what
    `custom` lists is imported, from the current folder or Python's path.

    Args:
        path: The file or folder.
        custom: The model's own classes and functions, each as "package.module:Name".
        batch: Batch size in place of one that the file fixes; None keeps the file's. A batch size that the file leaves
            free stays free.
        weights: The file with the weights of an architecture that is kept in a JSON file of its own.

    Returns:
        The model, not compiled, with every weight checked against the file, and what the user should know about it.

    Raises:
        LoadError: If there is no such file, it is damaged or is no Keras model, it needs code that `custom` does not
            give, or a weight in it has no place in the model or the reverse.
        MissingExtraError: If Keras or TensorFlow is not installed.
        ValueError: If `batch` is less than 1.
    """
    if batch is not None and batch < 1:
        raise ValueError(f"batch={batch} must be at least 1.")
    path = Path(path)
    specs = (custom,) if isinstance(custom, str) else tuple(custom)
    request = Request(specs, batch, None if weights is None else Path(weights))
    if is_folder(path):
        return _read_folder(path, request)
    head = read_head(path)
    for reader in READERS:
        if reader.recognizes(head):
            if request.weights is not None and not reader.takes_weights:
                raise LoadError(
                    f"Cannot load {path}: it is {reader.kind}, which holds its weights itself. Leave --weights out."
                )
            return reader.read(path, request)
    kinds = " nor ".join(reader.kind for reader in READERS if not reader.takes_weights)
    what = describe(head) or f"is neither {kinds}. Give the model as model.save() writes it"
    raise LoadError(f"Cannot load {path}: it {what}.")


def _read_folder(path: Path, request: Request) -> Loaded:
    for reader in FOLDER_READERS:
        if reader.recognizes(path):
            if request.weights is not None:
                raise LoadError(
                    f"Cannot load {path}: it is {reader.kind}, which holds its weights itself. Leave --weights out."
                )
            return reader.read(path, request)
    raise LoadError(
        f"Cannot load {path}: it is a folder without a model that Keras knows. Give a .keras or .h5 file, "
        "as model.save() writes it."
    )
