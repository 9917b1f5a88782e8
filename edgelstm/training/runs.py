"""Runs: a training from its setup to the folder it leaves behind.

    run.json            what was chosen, with which versions, and whether it is finished
    model.keras         the trained model, without its optimizer
    calibration.npz     training inputs by name, for edgelstm convert --quantize int8 --calibration
    metrics.json        scores on the test split, baselines, training
    history.csv         the figures of each epoch
    labels.txt          names of the classes, one a line, where there are classes
    curves.png, architecture.png, confusion.png
    checkpoint.npz      while it is not finished: what is needed to go on

and what the task adds: vocabulary.txt, scaler.json, pictures.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import EdgeLSTMError, LoadError
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Data, Predict, Setup, Source, Task
from edgelstm.tasks.objectives import AnswersError
from edgelstm.training.claims import (
    ARCHITECTURE,
    CALIBRATION,
    CHECKPOINT,
    CONFUSION,
    CURVES,
    HISTORY,
    LABELS,
    METRICS,
    MODEL,
    RUN,
    check_claim,
    clear,
    read_json,
)
from edgelstm.training.feeding import keras_predict, without_notices
from edgelstm.training.fitting import AfterEpoch, Report, Trainer
from edgelstm.training.folders import write_complete, write_json, write_lines
from edgelstm.training.progress import Progress

NUM_CALIBRATION_EXAMPLES = 200


@dataclasses.dataclass(frozen=True)
class Run:
    """A training and its folder.

    Attributes:
        folder: The folder.
        task: The task.
        setup: What was chosen.
        finished: Whether the model is there.
    """

    folder: Path
    task: Task
    setup: Setup
    finished: bool

    @property
    def model_path(self) -> Path:
        """The trained model."""
        return self.folder / MODEL

    @property
    def calibration_path(self) -> Path:
        """Inputs for the calibration of an int8 file."""
        return self.folder / CALIBRATION

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json.

        Raises:
            LoadError: If it is missing or damaged.
        """
        return read_json(self.folder / METRICS)

    def describe(self) -> dict[str, Any]:
        """Returns what distinguishes it from other trainings, as JSON values."""
        source = self.setup.source
        return {
            "task": self.task.name,
            "variant": self.setup.variant,
            "source": source.name or str(source.path and source.path.resolve()),
            "seed": self.setup.seed,
            "settings": self.setup.settings,
        }


@without_notices()
def train(
    task: str,
    output: str | Path,
    *,
    variant: str | None = None,
    source: str | Path | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    restart: bool = False,
    progress: Report | None = None,
    after_epoch: AfterEpoch | None = None,
) -> Run:
    """Trains one variant of a task and writes everything that belongs to it into a folder.

    The same call again goes on with a training that was interrupted.

    Args:
        task: Name of a task; `edgelstm tasks` lists them.
        output: The folder: a new or empty one, or that of the interrupted training.
        variant: Name of a variant; the task's first one if None.
        source: Where the data comes from: a name of the task's, or the path of the user's own; offline data if None.
        seed: Seed of the data, the weights, dropout, and the order of the examples.
        settings: Settings that differ from the defaults, by name.
        restart: Delete what an earlier training left in the folder; files that no training wrote stay.
        progress: Takes a line about what is being done.
        after_epoch: Takes the number of an epoch, from 0 on, and its figures; may raise to end the training.

    Returns:
        The finished run.

    Raises:
        EdgeLSTMError: If the data cannot be read, the folder not be written, an extra is missing, or the folder holds
            something else.
        TrainingInterruptedError: If the user interrupted it.
        SettingError: If the task, the variant or a setting is unknown or impossible.
    """
    found = load_task(task)
    setup = found.setup(variant, source, seed, settings)
    run = Run(Path(output), found, setup, finished=False)
    check_claim(run.folder, run.describe(), restart=restart)
    report = progress or (lambda _: None)
    report("reading the data")
    data = found.data(setup)
    report("building the model")
    model = build_model(found, setup, data)
    checkpoint = run.folder / CHECKPOINT
    trainer = Trainer(model, found, data, setup, checkpoint=checkpoint, report=report)
    clear(run.folder, everything=restart)  # not before: nothing is lost if the data cannot be read
    _write_run(run, data.files, finished=False)
    done = trainer.run(after_epoch)
    report("scoring and writing")
    added = _write(run, model, data, done)
    _write_run(run, [*data.files, *added], finished=True)
    checkpoint.unlink(missing_ok=True)
    return dataclasses.replace(run, finished=True)


def open_run(folder: str | Path) -> Run:
    """Opens the folder of a training.

    Raises:
        LoadError: If the folder is none, or of a task that is unknown.
    """
    path = Path(folder)
    if not (path / RUN).is_file():
        raise LoadError(f"{path} is no folder of edgelstm train: there is no {RUN} in it.")
    document = read_json(path / RUN)
    try:
        task = load_task(document["task"])
        source = document["source"]
        setup = Setup(
            document["variant"],
            Source(source) if source in task.sources else Source("", Path(source)),
            int(document["seed"]),
            dict(document["settings"]),
        )
        return Run(path, task, setup, finished=bool(document["finished"]))
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(f"{path / RUN} is damaged or of another version ({error}). Train anew.") from error


def build_model(task: Task, setup: Setup, data: Data) -> Any:
    """Builds the untrained model of a setup: the same one each time, in the precision that the settings ask for."""
    keras = import_keras()
    keras.utils.set_random_seed(setup.seed)
    with _policy("mixed_float16" if setup.on("mixed_precision") else "float32"):
        return task.build(setup, data)


def without_optimizer(model: Any) -> Any:
    """Returns the same layers without what only a continued training needs, which would triple the file."""
    return import_keras().Model(model.inputs, model.outputs, name=model.name)


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    keras = import_keras()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _write_run(run: Run, files: Iterable[str], *, finished: bool) -> None:
    """Writes run.json; `files` are the names of those that the task adds."""
    written = {**run.describe(), "finished": finished, "files": sorted(files), "versions": _versions()}
    write_json(run.folder / RUN, written)


def _write(run: Run, model: Any, data: Data, done: Progress) -> list[str]:
    """Writes what a finished training leaves; returns the names of the task's own pictures."""
    from edgelstm.pictures import draw_architecture, draw_confusion, draw_curves

    folder, task = run.folder, run.task
    bare = without_optimizer(model)
    write_complete(folder / MODEL, bare.save)
    for name, item in data.files.items():
        item.save(folder / name)
    if data.labels:
        write_lines(folder / LABELS, list(data.labels))
    _write_calibration(folder / CALIBRATION, data)
    _write_history(folder / HISTORY, done)
    predict = keras_predict(bare)
    write_json(folder / METRICS, _metrics(run, bare, data, done, predict))
    draw_curves(done.history, done.best_epoch, task.objective, folder / CURVES)
    draw_architecture(bare, folder / ARCHITECTURE)
    if data.labels:
        decisions = task.objective.decide(np.asarray(predict(data.test.x)))
        if decisions is not None:
            draw_confusion(data.test.y, decisions, data.labels, folder / CONFUSION)
    return [path.name for path in task.illustrate(predict, data, run.setup, folder) if path.parent == folder]


def _metrics(run: Run, model: Any, data: Data, done: Progress, predict: Predict) -> dict[str, Any]:
    return {
        **run.describe(),
        "main": run.task.objective.main,
        "test": _scores(run, predict, data),
        "baselines": run.task.baselines(data),
        "num_examples": {name: len(split) for name, split in data.splits.items()},
        "num_parameters": int(model.count_params()),
        "training": {
            "epochs": done.epoch,
            "best_epoch": done.best_epoch + 1,
            "best_validation_loss": done.best_loss,
            "seconds": done.seconds,
        },
        "notes": list(data.notes),
    }


def _scores(run: Run, predict: Predict, data: Data) -> dict[str, float]:
    try:
        return run.task.evaluate(predict, data)
    except AnswersError as error:
        raise EdgeLSTMError(f"The trained model cannot be scored: {error} Try a lower learning_rate.") from error


def _write_calibration(path: Path, data: Data) -> None:
    """Writes training inputs spread over the split, because data may be sorted."""
    count = min(NUM_CALIBRATION_EXAMPLES, len(data.train))
    chosen: dict[str, Any] = data.train.take(np.linspace(0, len(data.train) - 1, count).astype(int)).x

    def write(file: Path) -> None:
        with file.open("wb") as stream:
            np.savez_compressed(stream, **chosen)

    write_complete(path, write)


def _write_history(path: Path, done: Progress) -> None:
    def write(file: Path) -> None:
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ["epoch", *done.history[0]])
            writer.writeheader()
            writer.writerows({"epoch": index + 1, **figures} for index, figures in enumerate(done.history))

    write_complete(path, write)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("edgelstm", "keras", "numpy", "tensorflow")}
