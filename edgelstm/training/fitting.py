"""The training loop: the same for every task, and the same after an interruption as without one."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import EdgeLSTMError, LoadError
from edgelstm.tasks.base import Data, Setup, Task
from edgelstm.training.batches import Batches
from edgelstm.training.checkpoints import Checkpoint, assign, check_fit, fingerprint, values_of, variables_of
from edgelstm.training.feeding import feed, without_notices
from edgelstm.training.optimizers import make_optimizer, own_optimizer
from edgelstm.training.progress import PLATEAU_FACTOR, Progress
from edgelstm.training.truncation import truncated

Report = Callable[[str], None]
AfterStep = Callable[[int, int], None]
AfterEpoch = Callable[[int, dict[str, float]], None]

_KERNELS = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel")
_SAVING_INTERVAL_S = 60.0


class TrainingInterruptedError(KeyboardInterrupt):
    """The user interrupted a training; its checkpoint is written."""

    def __init__(self, where: str) -> None:
        super().__init__(f"interrupted {where}: give the same command again to go on.")


@without_notices()
def fit(
    model: Any,
    task: Task,
    data: Data,
    setup: Setup,
    *,
    checkpoint: Path | None = None,
    report: Report | None = None,
    after_epoch: AfterEpoch | None = None,
    after_step: AfterStep | None = None,
    keep: str = "best",
) -> Progress:
    """Trains a model and gives it the weights of the epoch with the lowest validation loss.

    Interrupted and called again with the same arguments, it goes on from the checkpoint, after the last batch, and
    comes to the same weights as without the interruption.

    Args:
        model: A built model, not compiled; changed in place.
        task: Its task.
        data: The task's data for the setup.
        setup: All settings of `settings.TRAINING`, and the seed.
        checkpoint: The file that keeps what is needed to go on; None to keep nothing.
        report: Takes a line about what is being done, many times in an epoch.
        after_epoch: Takes the number of an epoch, from 0 on, and its figures; may raise to end the training.
        after_step: Takes the number of a step, from 1 on, and that of all steps; may change weights.
        keep: "last" for the weights of the last epoch instead.

    Returns:
        What happened. Figures of an epoch are those of Keras, with "val_" in front for the validation split, and
        "gradient_norm" (the median over its steps), "gradient_norm_max", "learning_rate" and "seconds".

    Raises:
        TrainingInterruptedError: If the user interrupted it.
        LoadError: If the checkpoint is damaged, of another model or of other data.
        EdgeLSTMError: If the loss is no number any more; the model then has the weights of the best epoch so far.
        SettingError: If settings do not fit the model or the data.
    """
    trainer = Trainer(model, task, data, setup, checkpoint=checkpoint, report=report, keep=keep)
    return trainer.run(after_epoch, after_step)


class Trainer:
    """One training, ready to run: what `fit` takes, checked, with no file touched yet.

    Raises:
        SettingError: If settings do not fit the model or the data.
    """

    def __init__(
        self,
        model: Any,
        task: Task,
        data: Data,
        setup: Setup,
        *,
        checkpoint: Path | None = None,
        report: Report | None = None,
        keep: str = "best",
    ) -> None:
        self.progress = Progress()
        self._keeps_last = keep == "last"
        self._setup, self._report, self._path = setup, report or _ignore, checkpoint
        self._validation = data.validation
        self._fingerprint = "" if checkpoint is None else fingerprint(data)
        trained = truncated(model, setup, data.train)
        self._batches = Batches(task, data.train, setup, whole=trained is not model)
        self._model, self._trained = model, trained
        self._best: list[Any] = []
        _regularize(model, setup.float("l2"))
        trained.compile(
            make_optimizer(setup, len(self._batches) * getattr(trained, "updates_per_batch", 1)),
            loss=task.objective.loss,
            weighted_metrics=list(task.objective.metrics),
        )
        trained.optimizer.build(trained.trainable_variables)
        self._warm_up()

    def _warm_up(self) -> None:
        """Makes Keras create the variables of metrics, which a checkpoint holds, and the functions of a step."""
        split = self._validation.take(slice(self._setup.int("batch_size")))
        self._trained.test_on_batch(feed(self._model, split.x), split.y)
        self._trained.make_train_function()
        self._trained.reset_metrics()

    def run(self, after_epoch: AfterEpoch | None = None, after_step: AfterStep | None = None) -> Progress:
        """Does what `fit` promises."""
        self._resume()
        epochs, progress = self._setup.int("epochs"), self.progress
        with _interruptible() as interrupted:
            while not progress.is_over(epochs, self._setup.int("patience")):
                self._run_epoch(interrupted, after_step)
                if after_epoch is not None:
                    after_epoch(progress.epoch - 1, progress.history[-1])
                if interrupted():
                    raise TrainingInterruptedError(f"after epoch {progress.epoch} of {epochs}")
        if not self._best:
            raise EdgeLSTMError(
                "The validation loss was never a number, so no weights are worth keeping: lower the learning_rate, set "
                "clipnorm to 1, or look for values in the validation data that are no numbers."
            )
        assign(self._model.variables, self._best)
        return progress

    def _resume(self) -> None:
        if self._path is None or not self._path.exists():
            return
        checkpoint = Checkpoint.load(self._path)
        variables = variables_of(self._trained)
        check_fit(variables, checkpoint.variables, self._path)
        if checkpoint.best:
            check_fit(self._model.variables, checkpoint.best, self._path)
        if checkpoint.data != self._fingerprint:
            raise LoadError(
                f"The data has changed since the checkpoint {self._path} was written. Bring the former data back, or "
                "train anew with --restart."
            )
        assign(variables, checkpoint.variables)
        self.progress, self._best = checkpoint.progress, checkpoint.best

    def _run_epoch(self, interrupted: Callable[[], bool], after_step: AfterStep | None) -> None:
        progress, start, saved = self.progress, time.monotonic(), time.monotonic()
        optimizer, count = own_optimizer(self._trained), len(self._batches)
        logs: dict[str, float] = {}
        for split, weights in self._batches.of_epoch(progress.epoch, progress.batch):
            x = feed(self._model, split.x)
            logs = _step(self._trained.train_function, x, split.y, weights)
            progress.batch += 1
            if after_step is not None:
                after_step(progress.epoch * count + progress.batch, self._setup.int("epochs") * count)
            progress.gradient_norms.append(float(optimizer.gradient_norm.numpy()))
            self._report(self._line(count, float(logs["loss"])))
            if interrupted():
                progress.seconds += time.monotonic() - start
                self._save()
                where = f"in epoch {progress.epoch + 1}, after batch {progress.batch} of {count}"
                raise TrainingInterruptedError(where)
            if time.monotonic() - saved > _SAVING_INTERVAL_S:
                self._save()
                saved = time.monotonic()
        self._close_epoch(logs, start)

    def _close_epoch(self, logs: dict[str, float], start: float) -> None:
        progress = self.progress
        if not logs:  # interrupted after the last batch
            logs = self._trained.get_metrics_result()
        figures = {name: float(value) for name, value in logs.items()}
        self._trained.reset_metrics()
        figures |= {f"val_{name}": value for name, value in self._validate().items()}
        figures["gradient_norm"] = float(np.median(progress.gradient_norms))
        figures["gradient_norm_max"] = float(np.max(progress.gradient_norms))
        figures["learning_rate"] = float(own_optimizer(self._trained).learning_rate)
        progress.seconds += time.monotonic() - start
        figures["seconds"] = progress.seconds
        if not np.isfinite(figures["loss"]):
            assign(self._model.variables, self._best or values_of(self._model.variables))
            raise EdgeLSTMError(
                f"The loss became {figures['loss']} in epoch {progress.epoch + 1}, so nothing more can be learnt: "
                "lower the learning_rate or set clipnorm to 1."
            )
        if progress.close_epoch(figures) or self._keeps_last:
            self._best = values_of(self._model.variables)
        if self._setup.str("schedule") == "plateau" and progress.wants_reduction(self._setup.int("patience")):
            optimizer = own_optimizer(self._trained)
            optimizer.learning_rate = float(optimizer.learning_rate) * PLATEAU_FACTOR
        self._save()

    def _validate(self) -> dict[str, float]:
        size = self._setup.int("batch_size")
        for start in range(0, len(self._validation), size):
            split = self._validation.take(slice(start, start + size))
            logs = _step(self._trained.test_function, feed(self._model, split.x), split.y)
        self._trained.reset_metrics()
        return logs

    def _save(self) -> None:
        if self._path is not None:
            values = values_of(variables_of(self._trained))
            Checkpoint(self.progress, values, self._best, self._fingerprint).save(self._path)

    def _line(self, count: int, loss: float) -> str:
        progress = self.progress
        done = 20 * progress.batch // count
        line = f"epoch {progress.epoch + 1}/{self._setup.int('epochs')} [{'=' * done:<20}] loss {loss:.4f}"
        if progress.history:
            line += f", validation loss {progress.history[-1]['val_loss']:.4f}"
        return line


def _step(function: Any, *batch: Any) -> dict[str, float]:
    """One step of Keras; its figures are means over all steps since metrics were reset.

    `train_on_batch` and `test_on_batch` would reset them first, in Keras 3.15 at least: their figures are those of one
    batch.
    """
    return {name: float(value) for name, value in function(iter([batch])).items()}


def _regularize(model: Any, factor: float) -> None:
    """Adds the sum of squares of kernels to the loss; what is saved with the model knows nothing of it."""
    for variable in model.trainable_variables:
        if isinstance(variable.regularizer, _Squares):
            variable.regularizer = variable.regularizer.other
        if factor and variable.name in _KERNELS:
            variable.regularizer = _Squares(factor, variable.regularizer)


class _Squares:
    """The sum of squares times a factor, and another regularizer that a variable had before."""

    def __init__(self, factor: float, other: Any) -> None:
        self.squares, self.other = import_keras().regularizers.L2(factor), other

    def __call__(self, value: Any) -> Any:
        return self.squares(value) if self.other is None else self.squares(value) + self.other(value)


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Lets the batch that is being computed come to its end when the user interrupts; a second time ends at once.

    Yields:
        Whether the user has interrupted.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted.is_set
        return

    def handle(*_: Any) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _ignore(_: str) -> None:
    """Reports nothing."""
