"""What an interrupted run has measured so far, so that the next one goes on where it ended."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgelstm.errors import OutputError
from edgelstm.targets.base import Run
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.subjects import Subject

FORMAT = "edgelstm-bench-journal-1"


class Journal:
    """A file of one JSON object per line: the plan, then every finished round. Safe to use from several threads."""

    def __init__(self, path: Path | None, plan: BenchPlan) -> None:
        """Opens a journal.

        Args:
            path: The file; one that was written for another plan, or is no journal, is started anew. None keeps
                nothing.
            plan: How long is measured.

        Raises:
            OutputError: If it cannot be written.
        """
        self._path = path
        self._head = {"format": FORMAT, "plan": asdict(plan)}
        self._lock = threading.Lock()
        self._runs: dict[str, list[Run]] = {}
        lines = _read_lines(path)
        kept = lines[1:] if lines[:1] == [self._head] else []
        for entry in kept:
            self._runs.setdefault(entry["key"], []).append(entry["run"])
        if path is not None:  # without a line that was cut off, to which the next one would be added
            self._write([self._head, *kept], mode="w")

    def runs(self, target: str, subject: Subject) -> list[Run]:
        """Returns the rounds that are finished."""
        return list(self._runs.get(_key(target, subject), []))

    def add(self, target: str, subject: Subject, run: Run) -> None:
        """Keeps a round.

        Raises:
            OutputError: If it cannot be written.
        """
        if self._path is not None:
            self._write([{"key": _key(target, subject), "run": run}], mode="a")

    def remove(self) -> None:
        """Deletes the file: what it holds is written elsewhere."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write(self, entries: list[dict[str, Any]], *, mode: str) -> None:
        assert self._path is not None
        try:
            with self._lock, self._path.open(mode, encoding="utf-8") as file:
                file.write("".join(json.dumps(entry) + "\n" for entry in entries))
        except OSError as error:
            raise OutputError(f"Cannot write {self._path}: {(error.strerror or str(error)).lower()}.") from error


def _key(target: str, subject: Subject) -> str:
    return json.dumps([target, subject.identity()], sort_keys=True)


def _read_lines(path: Path | None) -> list[dict[str, Any]]:
    """Returns the entries up to the first that is not one: the last line may have been cut off."""
    if path is None or not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not isinstance(entry, dict) or not ("format" in entry or ("key" in entry and "run" in entry)):
            break
        entries.append(entry)
    return entries
