"""Starts the worker as a program, and says what an LSTM has to answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.runtime.child import worker_file
from edgelstm.runtime.interpreters import is_available, python_for
from tests.lstm_reference import lstm_step
from tests.tiny_models import BATCH, FEATURES, TIME, UNITS, lstm_weights


def require(runtime: str) -> str:
    """Returns the name of a runtime that is there; the test is skipped without."""
    if not is_available(runtime):
        pytest.skip(f"no Python has {runtime}; EDGELSTM_RUNTIMES={runtime}=/path/to/python names one")
    return runtime


def start(text: str, *, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [python, "-I", "-B", str(worker_file())]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)


def work(plan: dict[str, Any], runtime: str = "ai-edge-litert") -> list[dict[str, Any]]:
    """Returns the events of a plan that succeeds."""
    plan = {"protocol": 1, "runtime": runtime, **plan}
    done = start(json.dumps(plan, default=str), python=python_for(runtime))
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refuse(plan: dict[str, Any], runtime: str = "ai-edge-litert") -> str:
    """Returns the message of a plan that fails."""
    plan = {"protocol": 1, "runtime": runtime, **plan}
    done = start(json.dumps(plan, default=str), python=python_for(runtime))
    event = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, event["event"], sorted(event)) == (1, "error", ["event", "message"]), done.stderr
    return event["message"]


def run_calls(folder: Path, model: Path, inputs: dict[str, Any], runtime: str, **plan: Any) -> dict[str, Any]:
    """Runs calls and returns the outputs."""
    np.savez(folder / "in.npz", **inputs)
    common = {"op": "run", "model": model, "inputs": folder / "in.npz", "outputs": folder / "out.npz"}
    work({**common, **plan}, runtime)
    with np.load(folder / "out.npz") as arrays:
        return dict(arrays)


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def sequences(calls: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((calls, BATCH, TIME, FEATURES)).astype(np.float32)


def cells_of(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs the reference LSTM and returns the hidden states, the cell states, and the final cell state."""
    weights = lstm_weights()
    hidden, cells = np.zeros((BATCH, TIME, UNITS)), np.zeros((BATCH, TIME, UNITS))
    for row in range(BATCH):
        state = h[row], c[row]
        for t in range(TIME):
            state = lstm_step(x[row, t], *state, weights)
            hidden[row, t], cells[row, t] = state
    return hidden, cells, cells[:, -1]
