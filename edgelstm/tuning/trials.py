"""One trial: a training with settings that the sampler chose."""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgelstm.errors import EdgeLSTMError, LoadError, MissingExtraError, OutputError
from edgelstm.tasks.base import Data, Setup, Task
from edgelstm.tasks.settings import Setting
from edgelstm.training.fitting import TrainingInterruptedError, fit
from edgelstm.training.progress import Progress
from edgelstm.training.runs import build_model
from edgelstm.tuning.entries import CONTINUES, DROPPED, ERROR, root_of, roots
from edgelstm.tuning.running import file_name, go_on_later, running
from edgelstm.tuning.space import suggest

Report = Callable[[str], None]


class TrialFailedError(Exception):
    """A trial failed, and the search goes on: why stands in the trial."""


class TrialDroppedError(Exception):
    """Another process was faster, and the trial is left out."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """What Optuna minimizes: the validation loss of a training.

    Attributes:
        task: The task.
        setup: What is the same in all trials.
        given: The settings among them that were given, not filled up.
        distributions: What is chosen.
        folder: Of the search.
        limit: Trials in all.
        report: Takes a line about what is being done.
    """

    task: Task
    setup: Setup
    given: Mapping[str, Any]
    distributions: Mapping[str, Any]
    folder: Path
    limit: int
    report: Report

    def __call__(self, trial: Any) -> float:
        """Runs a trial; returns its lowest validation loss.

        Raises:
            TrialFailedError: If it failed.
            TrialDroppedError: If it is one too many, or the same as another one.
            TrainingInterruptedError: If the user interrupted it; it is queued to be gone on with.
            optuna.TrialPruned: If it is hopeless.
        """
        import optuna

        number = 0
        try:
            frozen = _frozen(trial)
            number = sum(root <= root_of(frozen) for root in roots(trial.study.get_trials(deepcopy=False)))
            chosen = suggest(trial, self.distributions)
            if _is_repeated(trial) or (number > self.limit and CONTINUES not in frozen.user_attrs):
                trial.set_user_attr(DROPPED, True)
                raise TrialDroppedError
            return self._run(trial, chosen, f"trial {number}/{self.limit}")
        except KeyboardInterrupt:
            go_on_later(trial.study, _frozen(trial))
            raise TrainingInterruptedError(f"in trial {number} of {self.limit}") from None
        except (MissingExtraError, OutputError):  # no trial would do better
            go_on_later(trial.study, _frozen(trial))
            raise
        except (optuna.TrialPruned, optuna.exceptions.OptunaError, TrialDroppedError):
            raise
        except Exception as error:
            trial.set_user_attr(ERROR, _sentence(error))
            raise TrialFailedError from error
        finally:
            _free_memory()

    def _run(self, trial: Any, chosen: Mapping[str, Setting], label: str) -> float:
        self.report(f"{label}, reading the data")
        setup = dataclasses.replace(
            self.setup,
            settings=self.task.setup(self.setup.variant, settings={**self.given, **chosen}).settings,
        )
        data = self.task.data(setup)
        with running(self.folder, file_name(self.setup, chosen)) as checkpoint:
            try:
                done = self._train(trial, setup, data, checkpoint, label)
            except LoadError:
                if checkpoint is None or not checkpoint.exists():
                    raise
                checkpoint.unlink()  # of other data: the training begins anew
                done = self._train(trial, setup, data, checkpoint, label)
        trial.set_user_attr("seconds", done.seconds)
        return done.best_loss

    def _train(self, trial: Any, setup: Setup, data: Data, checkpoint: Path | None, label: str) -> Progress:
        import optuna

        model = build_model(self.task, setup, data)
        trial.set_user_attr("num_parameters", int(model.count_params()))
        seen = _frozen(trial).intermediate_values

        def after_epoch(epoch: int, figures: Mapping[str, float]) -> None:
            if epoch in seen:
                return
            trial.report(figures["val_loss"], epoch)
            if trial.should_prune():
                trial.set_user_attr("seconds", figures["seconds"])
                raise optuna.TrialPruned

        return fit(
            model,
            self.task,
            data,
            setup,
            checkpoint=checkpoint,
            report=lambda line: self.report(f"{label}, {line}"),
            after_epoch=after_epoch,
        )


def _frozen(trial: Any) -> Any:
    """The trial as the database has it."""
    return trial.storage.get_trial(trial._trial_id)


def _is_repeated(trial: Any) -> bool:
    """Whether a process that chose at the same time chose the same; the earlier of two trials goes on."""
    own = _frozen(trial)
    return any(
        each.params == own.params and each.number < own.number and root_of(each) != root_of(own)
        for each in trial.study.get_trials(deepcopy=False)
        if DROPPED not in each.user_attrs
    )


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, EdgeLSTMError) and text else f"unexpected {type(error).__name__}: {text}"


def _free_memory() -> None:
    """Lets go of the model of a trial, which Keras and TensorFlow would keep."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
    gc.collect()
