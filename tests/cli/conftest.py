"""What tests of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edgelstm.artifact import Artifact
from edgelstm.cli import main

CARD = {
    "source": {"name": "digits.keras"},
    "precision": "int8",
    "size_bytes": 104_312,
    "operators": {"UNIDIRECTIONAL_SEQUENCE_LSTM": 1, "FULLY_CONNECTED": 2, "ARG_MAX": 1, "GATHER": 2, "RESHAPE": 1},
    "inputs": [{"name": "pixels", "shape": [1, 8, 8], "dtype": "float32"}],
    "outputs": [{"name": "digit", "shape": [1, 10], "dtype": "float32"}],
    "parity": [
        {
            "runtime": "ai-edge-litert",
            "max_abs_difference": 0.0123,
            "mean_abs_difference": 0.00045,
            "invokes": 3,
            "decision_agreement": 0.998,
            "tolerance": 0.05,
        },
        {
            "runtime": "tflite-runtime",
            "max_abs_difference": 0.0123,
            "mean_abs_difference": 0.00045,
            "invokes": 3,
            "decision_agreement": None,
            "tolerance": 0.05,
        },
    ],
    "warnings": [],
}


class Outcome(NamedTuple):
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd, monkeypatch):
    """Runs a command line in this process."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")

    def run(*argv: str | Path) -> Outcome:
        code = main([str(argument) for argument in argv])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def replace(monkeypatch):
    """Replaces functions of a module of the library while the test runs: `replace("conversion", convert=…)`."""

    def replace(module: str, **functions: Any) -> None:
        for name, function in functions.items():
            monkeypatch.setattr(f"edgelstm.{module}.{name}", function)

    return replace


@pytest.fixture
def artifact(tmp_path):
    return Artifact(tmp_path / "digits.tflite", dict(CARD))
