"""Importing Keras on the TensorFlow backend, at the moment of use and without notices on the terminal."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgelstm.errors import LoadError, MissingExtraError

_INSTALL = 'Install what converting needs with: pip install "edgelstm[convert]"'


def import_keras() -> Any:
    """Imports Keras 3 on TensorFlow and returns the module `keras`.

    Raises:
        LoadError: If Keras runs, or is set to run, on another backend than TensorFlow.
        MissingExtraError: If Keras or TensorFlow is not installed, cannot be imported or is too old.
    """
    if "keras" not in sys.modules:
        backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        if backend != "tensorflow":
            raise LoadError(
                f"Keras is set to run on the backend {backend!r}, but models are converted on TensorFlow. "
                "Set the environment variable KERAS_BACKEND to tensorflow, or unset it."
            )
    keras = _import()
    if int(keras.__version__.split(".")[0]) < 3:
        raise MissingExtraError(f"Keras {keras.__version__} is installed, but Keras 3 is needed. {_INSTALL}")
    if keras.backend.backend() != "tensorflow":
        raise LoadError(
            f"Keras already runs on the backend {keras.backend.backend()!r} in this process, but models are converted "
            "on TensorFlow. Set KERAS_BACKEND=tensorflow before Keras is first imported."
        )
    return keras


def _import() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with _silent_import(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensorflow = importlib.import_module("tensorflow")
            tensorflow.config.list_physical_devices()  # looks for GPUs now, while what it says about them is kept back
            importlib.import_module("h5py")
            return importlib.import_module("keras")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"Loading Keras models needs {error.name}, which is not installed. {_INSTALL}"
        ) from error
    except ImportError as error:
        reason = str(error).strip().partition("\n")[0]
        raise MissingExtraError(f"Keras or TensorFlow cannot be imported: {reason}. {_INSTALL}") from error


@contextmanager
def _silent_import() -> Iterator[None]:
    """Keeps what the first import of TensorFlow writes to the process's standard error, unless it fails.

    TensorFlow writes notices about the machine before it reads any setting of its log level, hence at this level.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    try:
        terminal = os.dup(2)
    except OSError:  # no standard error: nobody to disturb
        yield
        return
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(terminal, 2)
            notices.seek(0)
            os.write(2, notices.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
