"""What every kind of model file provides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Loaded:
    """A model from a file.

    Attributes:
        model: The model, not compiled, with every weight checked against the file.
        notes: What the user should know about it, a sentence or two each.
    """

    model: keras.Model
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What is wanted of a file beside its path.

    Attributes:
        custom: The "module:Name" specs of the model's own classes and functions.
        batch: Batch size in place of one that the file fixes; None keeps the file's.
        weights: A second file with the weights, for files that hold an architecture only.
    """

    custom: tuple[str, ...] = ()
    batch: int | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class Reader:
    """One kind of model file.

    Attributes:
        kind: What to call such a file, with its article, e.g. "an HDF5 file".
        recognizes: Tells from the first `HEAD_BYTES` of a file whether it is of this kind.
        read: Takes the path and what is wanted of it, returns the model with all its weights checked. Raises LoadError
            and MissingExtraError, nothing else.
        takes_weights: Whether the weights stand in a second file.
    """

    kind: str
    recognizes: Callable[[bytes], bool]
    read: Callable[[Path, Request], Loaded]
    takes_weights: bool = False


@dataclass(frozen=True)
class FolderReader:
    """One kind of model folder.

    Attributes:
        kind: What to call such a folder, with its article.
        recognizes: Tells from the folder's entries whether it is of this kind.
        read: As in `Reader`.
    """

    kind: str
    recognizes: Callable[[Path], bool]
    read: Callable[[Path, Request], Loaded]
