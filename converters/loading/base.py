"""What every kind of model file provides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Reader:
    """One kind of model file.

    Attributes:
        kind: What to call such a file, with its article, e.g. "an HDF5 file".
        recognizes: Tells from the first `HEAD_BYTES` of a file whether it is of this kind.
        read: Takes the path and the "module:Name" specs of the model's own classes, returns the model with all its
            weights checked. Raises LoadError and MissingExtraError, nothing else.
    """

    kind: str
    recognizes: Callable[[bytes], bool]
    read: Callable[[Path, tuple[str, ...]], keras.Model]
