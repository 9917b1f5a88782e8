"""The trials of a study as the user counts them.

Optuna cannot take a trial back: one that was interrupted stays in the study as failed, and another one goes on with
its settings. Here the two are one entry. Trials that two processes began at the same time for the same place are left
out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from edgelstm.tasks.settings import Setting

CONTINUES = "continues"
"""Attribute of a trial: the number of the one that it goes on with."""
DROPPED = "dropped"
"""Attribute of a trial that is left out."""
ERROR = "error"
"""Attribute of a trial that failed: why."""

COMPLETE, PRUNED, FAILED, RUNNING, WAITING = "complete", "ended early", "failed", "running", "waiting"
_STATES = {"COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED, "RUNNING": RUNNING, "WAITING": WAITING}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A trial.

    Attributes:
        number: From 1 on.
        state: complete, ended early, failed, running or waiting.
        settings: What it tries.
        losses: Validation loss by epoch, from 0 on.
        seconds: Time spent in training, if known.
        num_parameters: Of its model, if known.
        error: Why it failed.
    """

    number: int
    state: str
    settings: Mapping[str, Setting]
    losses: Mapping[int, float]
    seconds: float | None
    num_parameters: int | None
    error: str

    @property
    def loss(self) -> float | None:
        """The lowest validation loss; None if there is none yet."""
        return min((loss for loss in self.losses.values() if loss == loss), default=None)  # noqa: PLR0124


def root_of(trial: Any) -> int:
    """Returns the number in Optuna of the trial that one goes on with; its own if it goes on with none."""
    return int(trial.user_attrs.get(CONTINUES, trial.number))


def roots(trials: Sequence[Any]) -> list[int]:
    """Returns the numbers in Optuna of the trials that count, in order."""
    return sorted(each.number for each in trials if root_of(each) == each.number and DROPPED not in each.user_attrs)


def entries_of(trials: Sequence[Any]) -> list[Entry]:
    """Returns the trials of Optuna as entries, in order."""
    last = {root_of(each): each for each in sorted(trials, key=lambda each: each.number)}
    return [_entry(index + 1, last[number]) for index, number in enumerate(roots(trials))]


def _entry(number: int, trial: Any) -> Entry:
    state = _STATES[trial.state.name]
    attributes = trial.user_attrs
    error = attributes.get(ERROR, "its process ended without a word, perhaps for want of memory")
    return Entry(
        number=number,
        state=state,
        settings=dict(trial.params),
        losses=dict(sorted(trial.intermediate_values.items())),
        seconds=attributes.get("seconds"),
        num_parameters=attributes.get("num_parameters"),
        error=error if state == FAILED else "",
    )
