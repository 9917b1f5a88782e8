"""All that can be said about a file: what it holds, and where it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.runtime.inspection import Inspection, format_text, inspect
from edgelstm.runtime.support.entries import Support, find_support
from edgelstm.runtime.support.facts import read_facts
from edgelstm.runtime.support.text import format_support


@dataclass(frozen=True)
class Examination:
    """What is known about a file.

    Attributes:
        inspection: What it holds.
        support: Where it runs.
        contradictions: Sentences about runs that ended otherwise than the rules say; empty if nothing was run.
    """

    inspection: Inspection
    support: tuple[Support, ...]
    contradictions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns everything as values that JSON can hold."""
        return {
            **self.inspection.to_json(),
            "support": [entry.to_json() for entry in self.support],
            "contradictions": list(self.contradictions),
        }

    def to_text(self, width: int = 80) -> str:
        """Returns everything as text for a terminal of so many columns."""
        return f"{format_text(self.inspection, width)}\n\n{format_support(self.support, width)}"


def examine(path: str | os.PathLike[str], *, run: bool = False) -> Examination:
    """Says what a .tflite file holds and where it runs.

    Args:
        path: The file. Any file, whoever made it, is safe to examine without running it.
        run: Whether to run it as well, in child processes, on every runtime that is installed here.

    Raises:
        LoadError: If the file cannot be read, is not a .tflite file, or is damaged.
        ModelRunError: If it is to be run, and there is no telling how to call it.
    """
    path = Path(path)
    inspection = inspect(path)
    facts = read_facts(inspection, path)
    if not run:
        return Examination(inspection, tuple(find_support(facts)))
    # Only here: engines bring along what looking at a file does not need.
    from edgelstm.runtime.support.runs import run_everywhere

    runs = run_everywhere(facts, path)
    return Examination(inspection, tuple(find_support(facts, runs.verdicts)), runs.contradictions)
