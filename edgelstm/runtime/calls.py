"""Calls of a model in a worker, arrays in and arrays out: one process, one call after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.runtime.arrays import save_arrays
from edgelstm.runtime.child import DEFAULT_TIMEOUT_S, run_worker


def run_calls(
    model: Path,
    calls: Mapping[str, Any],
    *,
    runtime: str = "auto",
    python: str | None = None,
    carry: Mapping[str, str] | None = None,
    sequence: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs calls in one process without a reset, so that what one call leaves behind reaches the next.

    Args:
        model: The .tflite file.
        calls: Arrays by input name, shape (calls, *input shape with batch).
        runtime: Name of the runtime, or "auto".
        python: The Python to start, None for the one that has the runtime.
        carry: Names of outputs by the names of inputs that take them in the next call. Calls do not hold these
            inputs; they begin at zero.
        sequence: If given, so many calls belong together: variables and carried inputs begin anew after them.
        timeout_s: Limit in seconds.

    Returns:
        Arrays by output name as the runtime gives them, shape (calls, *output shape), and the worker's result with
        "runtime" and "runtime_version".

    Raises:
        ModelRunError: If the model or the runtime fails.
        MissingExtraError: If no Python has the runtime.
    """
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        save_arrays(inputs, calls)
        plan = {
            "op": "run",
            "model": model,
            "runtime": runtime,
            "inputs": inputs,
            "outputs": outputs,
            "carry": dict(carry or {}),
            "sequence": sequence,
            "reset": sequence is not None,
        }
        ready, *_, result = run_worker(plan, python=python, timeout_s=timeout_s)
        result.update({key: ready[key] for key in ("runtime", "runtime_version")})
        with np.load(outputs) as archive:
            return {name: archive[name] for name in archive.files}, result
