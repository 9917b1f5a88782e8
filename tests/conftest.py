"""What all tests share."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import warm

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


@pytest.fixture(scope="session", autouse=True)
def _warm_children() -> Iterator[dict[str, Callable[..., object]]]:
    """Has conversions and runs of files in children that need not import first."""
    with pytest.MonkeyPatch.context() as patch:
        yield warm.start_children_warm(patch)


@pytest.fixture(autouse=True)
def _cold_children(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _warm_children: dict[str, Callable[..., object]]
) -> None:
    """Tests marked `cold` start children as users do."""
    if request.node.get_closest_marker("cold") is not None:
        for name, start in _warm_children.items():
            monkeypatch.setattr(name, start)
