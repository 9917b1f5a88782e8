"""A task whose trainings take no time: their losses are a formula of the settings."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import edgelstm.tasks
from edgelstm.cli import main
from edgelstm.errors import DataError
from edgelstm.tasks.base import Data, Split, Task, Variant
from edgelstm.tasks.objectives import Regression
from edgelstm.tasks.spaces import LENGTH, Range
from edgelstm.training.fitting import TrainingInterruptedError
from edgelstm.training.progress import Progress
from edgelstm.tuning import trials

BEST_UNITS, BEST_RATE = 48, 0.003


class FakeTask(Task):
    """The loss is lowest with 48 units and a learning rate of 0.003. Some settings go wrong, as `go_wrong` says."""

    name = "fake"
    title = "nothing"
    objective = Regression()
    variants: ClassVar[dict[str, Variant]] = {"one": Variant("one"), "two": Variant("two", {"dropout": 0.5})}
    sources: ClassVar[dict[str, str]] = {"offline": "zeros", "broken": "nothing"}
    reads = "a file"
    defaults: ClassVar[dict] = {"units": 32, "length": 10, "dropout": 0.2, "bidirectional": False, "cell": "lstm"}
    training: ClassVar[dict] = {"epochs": 4}
    space: ClassVar[dict[str, Range]] = {"units": Range(16, 64, step=16), "length": LENGTH}

    def load(self, setup):
        go_wrong(setup)
        zeros = np.zeros((4, setup.int("length"), 1), np.float32)
        split = Split({"x": zeros}, zeros)
        return Data(split, split, split)

    def build(self, setup, data):
        assert data.train.x["x"].shape[1] == setup.int("length")
        return SimpleNamespace(count_params=lambda: setup.int("units") * 10)


def go_wrong(setup):
    if str(setup.source) == "broken" or setup.int("units") == 13:
        raise DataError("There is no data with 13 units.")
    if setup.int("units") == 14:
        raise ValueError("deep inside")


def loss_of(settings, epoch):
    """The validation loss after an epoch, from 0 on."""
    units, rate = float(settings["units"]), float(settings["learning_rate"])
    distance = abs(units - BEST_UNITS) / 16 + abs(np.log10(rate / BEST_RATE)) + float(settings["dropout"])
    return float(1 + distance + 1 / (epoch + 1))


def fit(model, task, data, setup, *, checkpoint=None, report=None, after_epoch=None):
    """Stands for `training.fitting.fit`; writes a line to FAKE_LOG for each epoch, and waits FAKE_EPOCH_S in it."""
    progress = Progress()
    if checkpoint is not None and checkpoint.exists():
        progress = Progress(**json.loads(checkpoint.read_text()))
    while not progress.is_over(setup.int("epochs"), 0):
        report(f"epoch {progress.epoch + 1}/{setup.int('epochs')} [====================] loss 1.2345")
        _log(setup, progress.epoch)
        try:
            time.sleep(float(os.environ.get("FAKE_EPOCH_S", "0")))
        except KeyboardInterrupt:
            raise TrainingInterruptedError("in an epoch") from None
        loss = float("nan") if setup.int("units") == 15 else loss_of(setup.settings, progress.epoch)
        progress.seconds += 0.5
        progress.close_epoch({"val_loss": loss, "seconds": progress.seconds})
        if checkpoint is not None:
            checkpoint.write_text(json.dumps(progress.to_json()))
        if after_epoch is not None:
            after_epoch(progress.epoch - 1, progress.history[-1])
    if progress.best_epoch < 0:
        raise DataError("The validation loss was never a number.")
    return progress


def _log(setup, epoch):
    if "FAKE_LOG" in os.environ:
        with Path(os.environ["FAKE_LOG"]).open("a") as stream:
            settings = {name: setup.settings[name] for name in ("units", "dropout", "learning_rate", "length")}
            stream.write(json.dumps({"pid": os.getpid(), "epoch": epoch, **settings}) + "\n")


def install(patch: pytest.MonkeyPatch) -> None:
    """Puts the task into the table, and the formula in place of trainings."""
    patch.setitem(edgelstm.tasks.TASKS, "fake", "tests.tuning.fake:FakeTask")
    patch.setattr(trials, "fit", fit)
    patch.setattr(trials, "_free_memory", lambda: None)  # there are no models to free, and it takes long beside others
    patch.setattr(trials, "build_model", lambda task, setup, data: task.build(setup, data))


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        sys.exit(main(sys.argv[1:]))
