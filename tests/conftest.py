"""What all tests share."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgelstm.errors import ConversionError

# Read by TensorFlow and Keras when they are first imported: no notices about the machine, and no other backend.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Gives every test the same weights in every run: Keras draws the seeds of initializers from this generator."""
    random.seed(0)


@pytest.fixture
def run_python(tmp_path: Path) -> Run:
    """Runs code in a fresh Python outside the repository and returns the finished process, its output as text.

    Arguments are the code, then the program's arguments; `prefix=[...]` is put before the Python.
    """

    def run(code: str, *arguments: str | Path, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [*prefix, sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture(scope="module")
def converter_in_this_process() -> Iterator[None]:
    """Converts and quantizes in this process: matrices save the start of one for each of their files."""
    from edgelstm.converters import native
    from edgelstm.converters.native import worker

    def run(job: dict[str, str], *, what: str, timeout_s: float) -> bytes:
        try:
            return {"convert": worker.convert, "quantize": worker.quantize}[job["op"]](job)
        except Exception as error:
            raise ConversionError(f"The {what} failed: {error}") from error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_run", run)
        yield
