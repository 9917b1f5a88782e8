"""A search: trials, each a training, in a study that any number of processes on any machines may share.

What is searched for is the lowest validation loss; the test split is not looked at. Trials whose loss lies above the
median of the others' at the same epoch are ended early.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgelstm.errors import MissingExtraError, OutputError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Setup, Task
from edgelstm.training.folders import check_writable, make_folder
from edgelstm.tuning.entries import COMPLETE, FAILED, PRUNED, Entry, entries_of, roots
from edgelstm.tuning.results import TRIALS, Found, best_of, summarize, write_tables, write_trials
from edgelstm.tuning.running import go_on_with_lost, take_up_lost
from edgelstm.tuning.space import Space, check_grid, count_combinations, make_distributions, make_grid, make_space
from edgelstm.tuning.storage import database_errors, open_storage

SAMPLERS = ("tpe", "random", "grid")
MAX_FAILURES = 5
"""So many failures, and nothing else, end a search: something is wrong with all trials."""

Report = Callable[[str], None]


def tune(
    task: str,
    output: str | Path,
    *,
    trials: int = 20,
    variant: str | None = None,
    source: str | Path | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    ranges: Mapping[str, str] | None = None,
    sampler: str = "tpe",
    prune: bool = True,
    storage: str | None = None,
    study_name: str | None = None,
    progress: Report | None = None,
) -> Found:
    """Searches for good settings and writes the study, its best settings, a table of trials and pictures into a folder.

    The same call again goes on with a search that was interrupted. Processes that give the same `storage` and
    `study_name` share one study.

    Args:
        task: Name of a task.
        output: The folder.
        trials: Trials that the study shall have in all, over all processes; fewer if there are fewer combinations.
        variant: Name of a variant; the task's first one if None.
        source: Where the data comes from, as for `edgelstm.train`.
        seed: Seed of the data, of every training, and of the choice of settings.
        settings: Settings that stay fixed, where they differ from the defaults.
        ranges: Where to look, as for `space.make_space`; the task's own ranges if None.
        sampler: One of `SAMPLERS`.
        prune: Whether hopeless trials are ended early.
        storage: URL of a database, as SQLAlchemy writes it; a file in the folder if None.
        study_name: Name of the study in the database; made of task, variant and data if None.
        progress: Takes a line about what is being done.

    Returns:
        What was found in the whole study.

    Raises:
        EdgeLSTMError: If Optuna is missing, data, database or folder cannot be used, or every trial failed.
        SettingError: If something is unknown or out of range.
        TrainingInterruptedError: If the user interrupted it.
    """
    found = load_task(task)
    setup = found.setup(variant, source, seed, settings)
    if sampler not in SAMPLERS:
        raise SettingError(f"There is no sampler {sampler!r}. The samplers are {', '.join(SAMPLERS)}.")
    if trials < 1:
        raise SettingError(f"trials={trials}: at least 1 is needed.")
    space = make_space(found, setup.variant, ranges or {}, settings)
    _import_optuna()
    search = _Search(found, setup, dict(settings or {}), space, Path(output), sampler, prune, storage)
    if sampler == "grid":
        check_grid(space)
    make_folder(search.folder)
    check_writable(search.folder)
    name = study_name or "-".join(
        [task, setup.variant, setup.source.path.name if setup.source.path else str(setup.source)]
    )
    with database_errors(storage):
        study = search.open(name)
        search.run(study, trials, progress or (lambda _: None))
        return search.finish(study)


@dataclasses.dataclass(frozen=True)
class _Search:
    """Everything that was chosen for a search."""

    task: Task
    setup: Setup
    given: Mapping[str, Any]
    space: Space
    folder: Path
    sampler: str
    prune: bool
    url: str | None

    @property
    def distributions(self) -> dict[str, Any]:
        return make_distributions(self.space, self.setup.settings)

    @property
    def grid(self) -> dict[str, list[Any]]:
        return make_grid(self.space, self.setup.settings) if self.sampler == "grid" else {}

    def num_combinations(self) -> int | None:
        if self.sampler != "grid":
            return count_combinations(self.distributions)
        return math.prod(map(len, self.grid.values()))

    def open(self, name: str) -> Any:
        """Opens the study, or creates it."""
        import optuna

        from edgelstm.tuning.samplers import NUM_STARTUP_TRIALS, UnrepeatedSampler

        study = optuna.create_study(
            study_name=name,
            storage=open_storage(self.folder, self.url, go_on_with_lost),
            load_if_exists=True,
            sampler=UnrepeatedSampler(self.sampler, self.distributions, self.grid, self.setup.seed),
            pruner=optuna.pruners.MedianPruner(NUM_STARTUP_TRIALS, 1) if self.prune else optuna.pruners.NopPruner(),
        )
        self._claim(study)
        return study

    def _claim(self, study: Any) -> None:
        """Makes sure that a study that is there already is of the same search."""
        path = self.setup.source.path
        # Machines that share a database may keep the data in different places.
        source = str(self.setup.source) if path is None else str(path.resolve()) if self.url is None else path.name
        mine = {
            "task": self.task.name,
            "variant": self.setup.variant,
            "data": source,
            "seed": self.setup.seed,
            "sampler": "grid" if self.sampler == "grid" else "tpe or random",  # a grid counts its combinations
            **{f"setting {name}": value for name, value in self.setup.settings.items() if name not in self.space},
            **{f"range of {name}": _plain(where) for name, where in sorted(self.space.items())},
        }
        num_trials = len(study.get_trials(deepcopy=False))  # read first: whoever adds trials has claimed before
        theirs = study.user_attrs.get("search")
        if theirs is None and not num_trials:
            study.set_user_attr("search", mine)
            return
        mine, theirs = json.loads(json.dumps(mine)), theirs or {}
        differing = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        if differing:
            there, here = (_told(each.get(differing[0])) for each in (theirs, mine))
            raise OutputError(
                f"The study {study.study_name!r} is of another search ({differing[0]}: {there}, not {here}). Choose a "
                "new folder for -o, or another --study."
            )

    def entries(self, study: Any) -> list[Entry]:
        return entries_of(study.get_trials(deepcopy=False))

    def run(self, study: Any, trials: int, report: Report) -> None:
        """Runs trials until the study has enough of them."""
        import optuna

        from edgelstm.tuning.trials import Objective, TrialDroppedError, TrialFailedError

        limit = min(trials, self.num_combinations() or trials)
        objective = Objective(self.task, self.setup, self.given, self.distributions, self.folder, limit, report)
        num_before = len(self.entries(study))
        while True:
            take_up_lost(study, self.folder, self.setup, set(self.space))
            everything = study.get_trials(deepcopy=False)
            waiting = any(each.state == optuna.trial.TrialState.WAITING for each in everything)
            if not waiting and len(roots(everything)) >= limit:
                return
            try:
                study.optimize(objective, n_trials=1, catch=(TrialFailedError, TrialDroppedError))
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError) as error:
                if "Cannot tell" not in str(error) and not isinstance(
                    error, optuna.exceptions.UpdateFinishedTrialError
                ):
                    raise
                continue  # this process was silent for so long that another one has taken the trial over
            entries = self.entries(study)
            self._write(entries)
            new = entries[num_before:]
            hopeless = sum(each.state == FAILED for each in new) >= MAX_FAILURES
            if hopeless and not any(each.state in (COMPLETE, PRUNED) for each in entries):
                return

    def _write(self, entries: list[Entry]) -> None:
        if best_of(entries) is None:
            write_trials(self.folder / TRIALS, entries, list(self.space))
        else:
            found = summarize(entries, self.folder, self.task, self.setup, self.num_combinations())
            write_tables(found, entries, self.task, self.setup, list(self.space))

    def finish(self, study: Any) -> Found:
        """Writes what is known of the whole study."""
        from edgelstm.tuning.pictures import draw_study

        entries = self.entries(study)
        self._write(entries)
        found = summarize(entries, self.folder, self.task, self.setup, self.num_combinations())
        draw_study(study, entries, self.space, self.folder)
        names = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))
        return dataclasses.replace(found, files=tuple(names))


def _import_optuna() -> None:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError('A search needs Optuna: pip install "edgelstm[train]".') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _plain(where: Any) -> Any:
    return list(where) if isinstance(where, tuple) else dataclasses.asdict(where)


def _told(value: Any) -> str:
    """A range or a value as the user would write it."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        last = ":log" if value["log"] else "" if value["step"] is None else f":{value['step']:g}"
        return f"{value['low']:g}:{value['high']:g}{last}"
    return str(value)
