"""Results as JSON documents; `docs/bench.md` describes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgelstm.artifact import write_file
from edgelstm.errors import LoadError
from edgelstm.targets.harness import BenchResult
from edgelstm.targets.measurement import Measurement

FORMAT = "edgelstm-bench-1"
"""Value of "format". The number grows when a reader of the older form would read something else."""


def to_document(result: BenchResult, *, version: str, command: Sequence[str] = ()) -> dict[str, Any]:
    """Returns a result with all its raw samples as JSON values.

    Args:
        result: What was measured.
        version: Of edgelstm.
        command: The command line that made it.
    """
    return {
        "format": FORMAT,
        "edgelstm": version,
        "command": list(command),
        "plan": asdict(result.plan),
        "measurements": [measurement.to_json() for measurement in result.measurements],
        "comparisons": [comparison.to_json() for comparison in result.comparisons],
        "failures": [failure.to_json() for failure in result.failures],
    }


def read_measurements(path: str | Path) -> list[Measurement]:
    """Reads the measurements out of a document.

    Raises:
        LoadError: If the file cannot be read or is no such document.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(f"Cannot read {path}: {(error.strerror or str(error)).lower()}.") from error
    except ValueError as error:
        raise LoadError(f"{path} is not a JSON file: give what edgelstm bench --output wrote.") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        raise LoadError(f"{path} is of format {found!r}, not {FORMAT!r}: give what edgelstm bench --output wrote.")
    try:
        return [Measurement.from_json(entry) for entry in document["measurements"]]
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise LoadError(f"{path} is damaged: {reason}. Measure again.") from error


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Writes a document, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    write_file(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
