"""What an interrupted run has measured so far, so that the next one goes on where it ended."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from edgelstm.errors import OutputError
from edgelstm.targets.base import Run
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.subjects import Subject

FORMAT = "edgelstm-bench-journal-2"


class Kept(NamedTuple):
    """A round that an earlier run finished.

    Attributes:
        run: What it told.
        time: When it was finished, UTC, to the minute.
    """

    run: Run
    time: str


class Journal:
    """A file of one JSON object per line: a head, then every finished round. Safe to use from several threads."""

    def __init__(self, path: Path | None, plan: BenchPlan) -> None:
        """Opens a journal.

        Args:
            path: The file; one of another plan or version of edgelstm, or none at all, is started anew. None keeps
                nothing.
            plan: How long is measured.

        Raises:
            OutputError: If it cannot be read or written.
        """
        self._path = path
        self._lock = threading.Lock()
        self._kept: dict[str, list[Kept]] = {}
        head = {"format": FORMAT, "edgelstm": version("edgelstm"), "plan": asdict(plan)}
        if path is None:
            return
        try:
            entries, num_bytes = _read(path, head)
            for entry in entries:
                self._kept.setdefault(entry["key"], []).append(Kept(entry["run"], entry["time"]))
            if num_bytes:  # only what was cut off goes: the rest stays whole whatever happens now
                os.truncate(path, num_bytes)
            else:
                path.write_text(json.dumps(head) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"Cannot write {path}: {(error.strerror or str(error)).lower()}.") from error

    def kept(self, target: str, subject: Subject) -> list[Kept]:
        """Returns the rounds that earlier runs finished."""
        return list(self._kept.get(_key(target, subject), []))

    def add(self, target: str, subject: Subject, run: Run) -> None:
        """Keeps a round.

        Raises:
            OutputError: If it cannot be written.
        """
        if self._path is None:
            return
        time = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        line = json.dumps({"key": _key(target, subject), "time": time, "run": run}) + "\n"
        try:
            with self._lock, self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise OutputError(f"Cannot write {self._path}: {(error.strerror or str(error)).lower()}.") from error


def _key(target: str, subject: Subject) -> str:
    """Names a subject on a target by its place, its content and how it is run; a delegate by its content, too."""
    delegate = subject.settings.delegate
    content = None
    if delegate and Path(delegate).is_file():
        content = hashlib.sha256(Path(delegate).read_bytes()).hexdigest()
    return json.dumps([target, str(subject.path.resolve()), subject.identity(), content], sort_keys=True)


def _read(path: Path, head: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Returns the whole entries of a journal with that head, and how many bytes head and entries take."""
    if not path.is_file():
        return [], 0
    entries: list[dict[str, Any]] = []
    num_bytes = 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True)):
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(entry, dict):
            break
        if number == 0:
            if entry != head:
                return [], 0
        elif {"key", "time", "run"} <= entry.keys():
            entries.append(entry)
        else:
            break
        num_bytes += len(line)
    return entries, num_bytes
