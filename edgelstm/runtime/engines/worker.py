"""The engines that the worker drives: Python packages that read a file and run it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgelstm.runtime.calls import run_calls
from edgelstm.runtime.engines.base import Engine, Result
from edgelstm.runtime.interpreters import PACKAGES, find_runtime, is_available, python_for


def worker_engine(name: str, title: str) -> Engine:
    """Makes an engine of a runtime in `PACKAGES`."""
    return Engine(
        name=name,
        title=title,
        requirement=f"pip install '{PACKAGES[name].requirement}'",
        is_here=partial(is_available, name),
        version=lambda: find_runtime(name).version,
        run=partial(_run, name),
        run_sequences=partial(_run_sequences, name),
    )


def _run(name: str, file: Path, calls: Mapping[str, Any], *, timeout_s: float) -> tuple[dict[str, Any], Result]:
    return run_calls(file, calls, runtime=name, python=python_for(name), timeout_s=timeout_s)


def _run_sequences(
    name: str, file: Path, calls: Mapping[str, Any], *, sequence: int, carry: Mapping[str, str], timeout_s: float
) -> tuple[dict[str, Any], Result]:
    return run_calls(
        file, calls, runtime=name, python=python_for(name), sequence=sequence, carry=carry, timeout_s=timeout_s
    )
