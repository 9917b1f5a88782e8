"""What a search leaves: best.json, trials.csv, pictures, and the command that trains with the best settings."""

from __future__ import annotations

import csv
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelstm.errors import EdgeLSTMError
from edgelstm.tasks.base import OFFLINE, Setup, Task
from edgelstm.tasks.settings import Setting
from edgelstm.training.folders import write_complete, write_json
from edgelstm.tuning.entries import COMPLETE, FAILED, PRUNED, RUNNING, WAITING, Entry

BEST, TRIALS = "best.json", "trials.csv"


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        folder: Where its files are.
        settings: The best settings among those searched.
        loss: Their validation loss.
        trial: The number of their trial, from 1 on.
        command: The command that trains with the best settings.
        num_trials: Trials of the study, over all processes and calls.
        num_complete: Those that came to their end.
        num_pruned: Those that were ended early.
        num_failed: Those that failed.
        num_running: Those that are running, in other processes.
        num_combinations: How many different settings there are to try; None if they are not countable.
        last_error: Why the last one failed that did.
        files: Names of the files in the folder.
    """

    folder: Path
    settings: dict[str, Setting]
    loss: float
    trial: int
    command: str
    num_trials: int
    num_complete: int
    num_pruned: int
    num_failed: int
    num_running: int
    num_combinations: int | None
    last_error: str = ""
    files: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {**dataclasses.asdict(self), "folder": str(self.folder), "files": list(self.files)}


def best_of(entries: Sequence[Entry]) -> Entry | None:
    """Returns the first of the complete trials with the lowest loss; None if none is complete."""
    complete = [each for each in entries if each.state == COMPLETE and each.loss is not None]
    return min(complete, key=lambda each: each.loss or 0.0, default=None)


def summarize(entries: Sequence[Entry], folder: Path, task: Task, setup: Setup, num_combinations: int | None) -> Found:
    """Returns what a study has come to.

    Raises:
        EdgeLSTMError: If no trial is complete.
    """
    count = {state: sum(each.state == state for each in entries) for state in {each.state for each in entries}}
    errors = [each.error for each in entries if each.error]
    best = best_of(entries)
    if best is None:
        raise EdgeLSTMError(_nothing(count, errors))
    assert best.loss is not None
    return Found(
        folder=folder,
        settings=dict(best.settings),
        loss=best.loss,
        trial=best.number,
        command=command_for(task, setup, best.settings, folder / "best"),
        num_trials=len(entries),
        num_complete=count[COMPLETE],
        num_pruned=count.get(PRUNED, 0),
        num_failed=count.get(FAILED, 0),
        num_running=count.get(RUNNING, 0) + count.get(WAITING, 0),
        num_combinations=num_combinations,
        last_error=errors[-1] if errors else "",
    )


def _nothing(count: Mapping[str, int], errors: Sequence[str]) -> str:
    others = count.get(RUNNING, 0) + count.get(WAITING, 0)
    if others:
        return (
            f"No trial is complete yet, and {others} {'is' if others == 1 else 'are'} running in other processes: give "
            "the same command again when they have ended."
        )
    failed = count.get(FAILED, 0)
    which = "The only trial" if failed == 1 else f"All {failed} trials"
    last = "" if failed == 1 else "the last one "
    return (
        f"{which} failed, {last}for this reason: {errors[-1].rstrip('.') if errors else 'unknown'}. Mend this, then "
        "search again with more --trials, or in a new folder."
    )


def write_tables(found: Found, entries: Sequence[Entry], task: Task, setup: Setup, names: Sequence[str]) -> None:
    """Writes best.json and trials.csv.

    Raises:
        OutputError: If they cannot be written.
    """
    document = {
        "task": task.name,
        "variant": setup.variant,
        "source": str(setup.source),
        "seed": setup.seed,
        "settings": found.settings,
        "validation_loss": found.loss,
        "trial": found.trial,
        "num_complete": found.num_complete,
        "num_pruned": found.num_pruned,
        "num_failed": found.num_failed,
        "command": found.command,
    }
    write_json(found.folder / BEST, document)
    write_trials(found.folder / TRIALS, entries, names)


def write_trials(path: Path, entries: Sequence[Entry], names: Sequence[str]) -> None:
    """Writes a table of trials, one row each; losses of failed and running trials are the lowest so far.

    Raises:
        OutputError: If it cannot be written.
    """

    def write(file: Path) -> None:
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["trial", "state", "validation_loss", *names, "epochs", "seconds", "parameters", "error"])
            for each in entries:
                seconds = None if each.seconds is None else round(each.seconds, 1)
                settings = [each.settings.get(name) for name in names]
                row = [each.number, each.state, each.loss, *settings, len(each.losses), seconds]
                writer.writerow([*row, each.num_parameters, each.error])

    write_complete(path, write)


def command_for(task: Task, setup: Setup, best: Mapping[str, Setting], output: Path) -> str:
    """Returns the command that trains with the best settings and those that were fixed otherwise than by default."""
    defaults = task.setup(setup.variant).settings
    fixed = {name: value for name, value in setup.settings.items() if value != defaults[name] and name not in best}
    words = ["edgelstm", "train", task.name, "-o", str(output)]
    if setup.variant != next(iter(task.variants)):
        words += ["--variant", setup.variant]
    if str(setup.source) != OFFLINE:
        words += ["--data", str(setup.source)]
    if setup.seed:
        words += ["--seed", str(setup.seed)]
    for name, value in {**fixed, **best}.items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)
