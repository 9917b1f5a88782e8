"""Trials that run: what is kept of each so that it can be gone on with when its process ends.

While a trial runs there are two hidden files in the folder of the search, named after its settings: the checkpoint of
its training, and a lock that the operating system takes away when the process ends, however it ends. A trial whose lock
is free has lost its process. Of trials on other machines only the database knows, by their heartbeats.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgelstm.tasks.base import Setup
from edgelstm.tasks.settings import Setting
from edgelstm.tuning.entries import CONTINUES, ERROR, root_of

MAX_DEATHS = 2
"""So many times a trial may lose its process; then it counts as failed."""

_DEATHS = "deaths"


@contextlib.contextmanager
def running(folder: Path, name: str) -> Iterator[Path | None]:
    """Marks a trial as running meanwhile.

    Args:
        folder: Of the search.
        name: Of the trial's files.

    Yields:
        The file for its checkpoint, which is gone in the end unless the trial is interrupted; None if another process
        trains with the same settings in the same folder.
    """
    lock, checkpoint = folder / f".{name}.lock", folder / f".{name}.npz"
    if is_held(lock):
        yield None
        return
    # The name appears when the lock is held already.
    temporary = folder / f".{os.getpid()}-{name}.lock"
    with temporary.open("w") as stream:
        with contextlib.suppress(OSError):  # some network drives know no locks
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        temporary.replace(lock)
        try:
            yield checkpoint
        except KeyboardInterrupt:
            raise
        except BaseException:
            checkpoint.unlink(missing_ok=True)
            raise
        else:
            checkpoint.unlink(missing_ok=True)
        finally:
            lock.unlink(missing_ok=True)


def is_held(lock: Path) -> bool:
    """Whether a process that lives holds a lock; True where that cannot be found out."""
    try:
        with lock.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def file_name(setup: Setup, chosen: Mapping[str, Setting]) -> str:
    """Returns the name of a trial's files: the same for the same training."""
    described = [setup.variant, str(setup.source), setup.seed, {**setup.settings, **chosen}]
    return f"trial-{hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]}"


def take_up_lost(study: Any, folder: Path, setup: Setup, names: set[str]) -> None:
    """Lets trials of this folder whose process has ended be gone on with."""
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        lock = folder / f".{file_name(setup, trial.params)}.lock"
        if not names <= set(trial.params) or not lock.exists() or is_held(lock):
            continue
        with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):  # another one was faster
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            lock.unlink(missing_ok=True)
            go_on_with_lost(study, trial)


def go_on_with_lost(study: Any, trial: Any) -> None:
    """Lets a trial that has lost its process be gone on with, unless that happened too often."""
    deaths = int(trial.user_attrs.get(_DEATHS, 0)) + 1
    if deaths < MAX_DEATHS and trial.params:
        go_on_later(study, trial, deaths)


def go_on_later(study: Any, trial: Any, deaths: int | None = None) -> None:
    """Queues a trial that goes on with another one: with its settings, and the losses it has seen.

    Args:
        study: The study.
        trial: The trial as the database has it.
        deaths: How often it has lost its process; as before if None.
    """
    import optuna

    root = root_of(trial)
    for each in study.get_trials(deepcopy=False):
        if root_of(each) == root and each.number > trial.number:
            return
    attributes = {name: value for name, value in trial.user_attrs.items() if name != ERROR}
    attributes[CONTINUES] = root
    if deaths is not None:
        attributes[_DEATHS] = deaths
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            intermediate_values=trial.intermediate_values,
            user_attrs=attributes,
            system_attrs={"fixed_params": dict(trial.params)},
        )
    )
