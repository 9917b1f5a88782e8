"""A task that trains in a second: which of three slow waves is it?"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm import tasks
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import DataError
from edgelstm.tasks.base import OFFLINE, Data, Setup, Split, Task, Variant
from edgelstm.tasks.objectives import Classification
from edgelstm.training.fitting import fit
from edgelstm.training.folders import write_complete, write_lines
from edgelstm.training.runs import build_model

TIME, FEATURES, LABELS = 5, 2, ("slow", "middle", "fast")
WHERE = "tests.training.tiny_task:TinyTask"


class Words:
    def save(self, path: Path) -> None:
        write_lines(path, ["one", "two"])


class TinyTask(Task):
    """Sums of a wave and noise; the first class is three times as frequent as the others."""

    name = "tiny"
    title = "waves"
    objective = Classification()
    variants = {  # noqa: RUF012
        "dense": Variant("dense 3 with dropout"),  # no LSTM: its graphs take seconds to build
        "lstm": Variant("LSTM 4 with dropout", {"units": 4}),
    }
    sources = {OFFLINE: "waves written from a seed"}  # noqa: RUF012
    reads = "a file whose size is the seed of the waves"
    defaults = {"units": 3, "num_train": 40, "noise": 0.1, "nap_s": 0.0}  # noqa: RUF012
    training = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01}  # noqa: RUF012

    def load(self, setup: Setup) -> Data:
        if setup.source.path is not None and setup.source.path.stat().st_size == 0:
            raise DataError(f"{setup.source.path} is empty.")
        seed = setup.seed if setup.source.path is None else setup.source.path.stat().st_size
        generator = np.random.default_rng((seed, 7))
        sizes = (setup.int("num_train"), 18, 20)
        train, validation, test = (_waves(generator, size) for size in sizes)
        return Data(train, validation, test, LABELS, {"words.txt": Words()}, ("These are no real waves.",))

    def build(self, setup: Setup, data: Data) -> Any:
        layers = import_keras().layers
        x = wave = layers.Input((TIME, FEATURES), name="wave")
        if setup.variant == "lstm":
            x = layers.LSTM(setup.int("units"), dropout=0.2, recurrent_dropout=0.2)(x)
        else:
            x = layers.Dense(setup.int("units"), activation="tanh", name="hidden")(layers.Flatten()(x))
        x = layers.Dropout(0.2)(x)
        x = layers.Dense(len(LABELS), activation="softmax", dtype="float32", name="speed")(x)
        return import_keras().Model(wave, x, name="tiny")

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        time.sleep(setup.float("nap_s") or float(os.environ.get("TINY_NAP_S", "0")))
        noise = generator.normal(0, setup.float("noise"), examples.x["wave"].shape).astype(np.float32)
        return Split({"wave": examples.x["wave"] + noise}, examples.y)

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        return {"always slow": {"accuracy": float((data.test.y == 0).mean()), "macro_f1": 0.25}}

    def illustrate(self, predict: Any, data: Data, setup: Setup, folder: Path) -> list[Path]:
        write_complete(folder / "waves.png", lambda path: path.write_bytes(b"picture"))
        return [folder / "waves.png"]


def _waves(generator: np.random.Generator, size: int) -> Split:
    y = generator.choice(3, size, p=[0.6, 0.2, 0.2]).astype(np.int32)
    y[:3] = [0, 1, 2]
    phase = generator.uniform(0, 6, (size, 1))
    angle = (0.3 + y[:, np.newaxis]) * np.arange(TIME) + phase
    return Split({"wave": np.stack([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)}, y)


def use_tiny(monkeypatch: Any) -> None:
    """Puts the task into the table of tasks."""
    monkeypatch.setitem(tasks.TASKS, "tiny", WHERE)


def prepare(variant: str | None = None, **settings: Any) -> tuple[Any, Task, Data, Setup]:
    """Returns what `fit` takes."""
    task = TinyTask()
    setup = task.setup(variant, settings=settings)
    data = task.data(setup)
    return build_model(task, setup, data), task, data, setup


def fit_tiny(checkpoint: Path | None = None, report: Any = None, **settings: Any) -> tuple[list[Any], Any]:
    """Trains; returns the weights and what happened."""
    model, *rest = prepare(**settings)
    done = fit(model, *rest, checkpoint=checkpoint, report=report)
    return [variable.numpy() for variable in model.variables], done


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in figures.items() if name != "seconds"} for figures in history]
