"""Python scripts in processes of their own, which a damaged file or a native library may crash."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgelstm.errors import ModelRunError


def start(
    script: str | Path, *arguments: str | Path, timeout_s: float, content: bytes = b"", folder: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs a script in a Python of its own to its end.

    Args:
        script: The script.
        *arguments: What it is given.
        timeout_s: Seconds after which it is stopped.
        content: What it reads from its standard input.
        folder: Where it runs; None for here.

    Returns:
        The finished process, with its output.

    Raises:
        subprocess.TimeoutExpired: If it takes longer.
    """
    command = [sys.executable, "-P", "-B", str(script), *map(str, arguments)]
    return subprocess.run(command, input=content, capture_output=True, timeout=timeout_s, check=False, cwd=folder)


def run_script(script: Path, plan: Path, *, file: Path, runtime: str, timeout_s: float) -> dict[str, Any]:
    """Runs a script in a Python of its own, in the folder of its plan.

    Args:
        script: The script, whose only argument is the path of the plan.
        plan: A JSON file that tells it what to do.
        file: What it runs, for errors.
        runtime: What it runs it on, for errors.
        timeout_s: Seconds after which it is stopped.

    Returns:
        The JSON object in the last line of its standard output.

    Raises:
        ModelRunError: If it fails, crashes or runs too long.
    """
    try:
        done = start(script, plan, timeout_s=timeout_s, folder=plan.parent)
    except subprocess.TimeoutExpired as error:
        raise ModelRunError(
            f"{file}: {runtime} was stopped after {timeout_s:g} s. Give it fewer calls or more time with --timeout."
        ) from error
    if done.returncode == 0:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    if done.returncode < 0:
        known = -done.returncode in set(signal.Signals)
        name = signal.Signals(-done.returncode).name if known else f"signal {-done.returncode}"
        raise ModelRunError(f"{file}: {runtime} crashed ({name}). Please report the model.")
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    raise ModelRunError(f"{file}: {runtime} failed: {lines[-1][:300] if lines else 'it gave no reason'}")
