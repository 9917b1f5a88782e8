"""Calls of a model in a worker, arrays in and arrays out: one interpreter, one call after the other, no reset."""

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
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs calls on one interpreter that is never reset, so that what one call leaves behind reaches the next.

    Args:
        model: The .tflite file.
        calls: Arrays by input name, shape (calls, *input shape with batch).
        runtime: Name of the runtime, or "auto".
        python: The Python to start, None for the one that has the runtime.
        timeout_s: Limit in seconds.

    Returns:
        Arrays by output name as the runtime gives them, shape (calls, *output shape), and the worker's result.

    Raises:
        ModelRunError: If the model or the runtime fails.
        MissingExtraError: If no Python has the runtime.
    """
    with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        save_arrays(inputs, calls)
        plan = {"op": "run", "model": model, "runtime": runtime, "inputs": inputs, "outputs": outputs}
        result = run_worker(plan, python=python, timeout_s=timeout_s)[-1]
        with np.load(outputs) as archive:
            return {name: archive[name] for name in archive.files}, result
