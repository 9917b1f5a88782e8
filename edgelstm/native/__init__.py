"""The native library that is built together with the package.

It exposes a C interface only, so it needs no Python headers and works with every supported Python.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from functools import cache
from importlib import resources
from pathlib import Path

from edgelstm.errors import EdgeLSTMError

_FILE_NAMES = ("libedgelstm_native.so", "libedgelstm_native.dylib", "edgelstm_native.dll")
_REINSTALL = "Reinstall it: pip install --force-reinstall --no-deps edgelstm."


@cache
def library_path() -> Path:
    """Finds the native library of this package.

    Returns:
        Path of the shared library; it is of the same version as the package.

    Raises:
        EdgeLSTMError: If the library is missing, cannot be opened, or belongs to another version of edgelstm.
    """
    path = _find_library()
    built_for, installed = _read_version(path), importlib.metadata.version("edgelstm")
    if built_for != installed:
        raise EdgeLSTMError(
            f"The native library {path} belongs to edgelstm {built_for}, but edgelstm {installed} is installed. "
            + _REINSTALL
        )
    return path


def version() -> str:
    """Asks the native library which version of edgelstm it was built for.

    Returns:
        A version such as "0.1.0", equal to `edgelstm.__version__`.

    Raises:
        EdgeLSTMError: As `library_path`.
    """
    return _read_version(library_path())


def _find_library() -> Path:
    folder = resources.files(__name__)
    for name in _FILE_NAMES:
        candidate = folder.joinpath(name)
        if candidate.is_file():
            return Path(str(candidate))
    raise EdgeLSTMError(f"The native library of edgelstm is missing from {folder}. {_REINSTALL}")


def _read_version(path: Path) -> str:
    try:
        function = ctypes.CDLL(str(path)).edgelstm_native_version
    except (OSError, AttributeError) as error:
        raise EdgeLSTMError(f"{path} is not a native library of edgelstm: {error}. {_REINSTALL}") from error
    function.restype = ctypes.c_char_p
    answer: bytes = function()
    return answer.decode("ascii")
