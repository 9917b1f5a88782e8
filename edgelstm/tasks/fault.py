"""Fault: will the machine fail within the next steps?

Offline data: four sensors of a pump, every ten minutes over nine months (`edgelstm.tasks.series.machine`); one window
in thirty has a fault in the hour after it. The model sees six hours. Windows that end during a fault are left out:
there is nothing left to warn of.

Alarms are rare, and classes are weighted alike in training, so the answer is no share of cases, and a half is no good
place to decide. The threshold is the one with the highest f1 on the validation split, for whatever is scored: an int8
file has its own. That of the trained model stands in threshold.json.

A good score is an f1 of 0.65: with the default settings the seeds 0, 1 and 2 reached 0.63, 0.66 and 0.67 (int8: 0.62,
0.66 and 0.67), after some 35 s of processor time. Logistic regression on the same windows comes to 0.37 to 0.49,
always an alarm to 0.07, and alarms before every fault that has signs to 0.81 to 0.87. With 35 faults in the test split,
a few hundredths are chance.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgelstm.errors import DataError
from edgelstm.tasks.base import OFFLINE, Array, Data, Predict, Setup, Source, Split, Task, Variant
from edgelstm.tasks.linear import logistic_regression
from edgelstm.tasks.objectives import RareEvents
from edgelstm.tasks.series.machine import LABEL, write_machine
from edgelstm.tasks.series.models import probability_model
from edgelstm.tasks.series.reading import Series, read_series
from edgelstm.tasks.series.thresholds import HALF, best_threshold, move_threshold
from edgelstm.tasks.series.windows import (
    INPUT,
    SCALER,
    SETTINGS,
    VALUE,
    Scaler,
    as_extra,
    fit_column,
    split_rows,
    vary,
    window_ends,
    windows_at,
)
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import LEARNING_RATE, UNITS, Range
from edgelstm.tasks.tables import import_pandas
from edgelstm.training.folders import write_json

if TYPE_CHECKING:
    import keras

LABELS = ("no fault", "fault ahead")
THRESHOLD = "threshold.json"
_NO = ("0", "0.0", "false", "no", "n", "ok", "normal", "none", "healthy", "")
_YES = ("1", "1.0", "true", "yes", "y", "fault", "failure", "fail", "broken", "anomaly")
_LARGEST_FIT = 20_000


class FaultTask(Task):
    """Early warning of faults."""

    name = "fault"
    title = "early warning of faults from sensors"
    objective = RareEvents()
    variants: ClassVar[dict[str, Variant]] = {
        "lstm": Variant("LSTM 32"),
        "stacked": Variant("two LSTMs 32"),
        "cnn": Variant("convolution over time and pooling, LSTM 32"),
    }
    sources: ClassVar[dict[str, str]] = {OFFLINE: "four sensors of a pump, written from a seed"}
    reads = "a CSV file with one row for each time, columns of sensors and a column that tells when there was a fault"
    defaults: ClassVar[dict[str, Setting]] = {
        "look_back": 36,
        "horizon": 6,
        "label": LABEL,
        "num_rows": 40_000,
        "units": 32,
        "dropout": 0.0,
        "filters": 32,
        "kernel_size": 5,
        "shift": 0,
        **SETTINGS,
    }
    training: ClassVar[dict[str, Setting]] = {
        "epochs": 12,
        "batch_size": 256,
        "patience": 4,
        "learning_rate": 0.003,
        "class_weights": True,
    }
    space: ClassVar[dict[str, Range]] = {
        "units": UNITS,
        "learning_rate": LEARNING_RATE,
        "look_back": Range(12, 72, step=12),
    }

    def load(self, setup: Setup) -> Data:
        """Writes or reads a series, and cuts and scales windows.

        Settings: look_back (rows in a window), horizon (rows after it in which a fault counts), label (the column that
        tells of faults), num_rows (of the offline series), shift (how many steps training windows are moved back at
        most: the warning comes earlier), those of `windows.SETTINGS`.

        Returns:
            Input "window": float32, shape (n, look_back, columns), scaled; y: int32, shape (n,), 1 where a fault is
            ahead. In `extra`: what `windows.as_extra` says, "faults" (the row of the next fault for each test window,
            -1 for none within the horizon) and "has_signs" (whether that fault announces itself, offline data only,
            else None).

        Raises:
            DataError: If a table cannot be read, is too short, or the training part has no fault or nothing else.
            SettingError: If a setting is out of its range.
        """
        has_signs = None
        notes: tuple[str, ...] = ()
        if setup.source.path is None:
            machine = write_machine(setup.positive("num_rows"), setup.seed)
            series, is_fault = machine.series, machine.is_fault
        else:
            series, is_fault, notes = _read(setup)
        ends = window_ends(series, setup, is_usable=~is_fault)
        train = split_rows(len(series))["train"]
        columns = tuple(fit_column(name, VALUE, series.column(name)[train]) for name in series.names)
        scaler = Scaler(columns, setup.int("look_back"), setup.int("horizon"), step_s=series.step_s)
        values = scaler.scale(series.values)
        faults = {part: next_faults(is_fault, some, scaler.horizon) for part, some in ends.items()}
        splits = {
            part: Split({INPUT: windows_at(values, some, scaler.look_back)}, (faults[part] >= 0).astype(np.int32))
            for part, some in ends.items()
        }
        if setup.source.path is None:
            has_signs = machine.has_signs[faults["test"]] & (faults["test"] >= 0)
        return Data(
            splits["train"],
            splits["validation"],
            splits["test"],
            labels=LABELS,
            files={SCALER: scaler},
            notes=(*series.notes, *notes, *_check(splits, setup.source, scaler.horizon)),
            extra=as_extra(series, scaler, ends, faults=faults["test"], has_signs=has_signs),
        )

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model: window, float32, shape (batch, look_back, columns) -> alarm, shape (batch, 1)."""
        return probability_model(setup, data, self.name, "alarm")

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Adds noise to windows, hides their first steps and moves them back, as jitter, crop and shift ask for."""
        return vary(examples, generator, setup, shift=setup.int("shift"))

    def evaluate(self, predict: Predict, data: Data) -> dict[str, float]:
        """Scores alarms on the test split, raised at the threshold with the highest f1 on the validation split.

        Returns:
            The figures of `RareEvents`, and "average_precision"; "threshold"; "f1_at_half"; "faults_announced": the
            share of the test split's faults with an alarm in one of their windows at least.
        """
        validation, test = (np.asarray(predict(split.x), np.float64) for split in (data.validation, data.test))
        return self._score(validation, test, data)

    def score(self, answers: Array, y: Array, data: Data) -> dict[str, float]:
        """Scores alarms, raised at the threshold with the highest f1 on these very examples: the most there is in them.

        `evaluate` takes the threshold of other examples, and so comes to a little less.
        """
        del data
        return self.objective.score(move_threshold(answers, best_threshold(answers, y)), y)

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores simple alarms, each with its threshold from the validation split.

        "always": an alarm each time. "linear": logistic regression on the same windows. Offline also "every fault with
        signs": an alarm before each fault that announces itself and no other, which nobody can expect to beat.
        """
        always = [np.ones((len(split), 1)) for split in (data.validation, data.test)]
        figures = {"always": self._score(always[0], always[1], data)}
        if len(np.unique(data.train.y)) == 2:
            figures["linear"] = self._score(*_logistic(data), data)
        signs = data.extra["has_signs"]
        if signs is not None:
            validation = data.validation.y[:, np.newaxis].astype(np.float64)
            figures["every fault with signs"] = self._score(validation, signs[:, np.newaxis].astype(np.float64), data)
        return figures

    def illustrate(self, predict: Predict, data: Data, setup: Setup, folder: Path) -> list[Path]:
        """Writes threshold.json; draws precision against recall, and the confusion at that threshold."""
        from edgelstm.pictures.confusion import draw_confusion
        from edgelstm.pictures.precision_recall import draw_precision_recall

        del setup
        threshold = best_threshold(predict(data.validation.x), data.validation.y)
        probabilities = np.asarray(predict(data.test.x), np.float64).reshape(-1)
        write_json(folder / THRESHOLD, {"threshold": threshold, "rule": "alarm if the answer is greater"})
        paths = [folder / "precision_recall.png", folder / "confusion.png"]
        draw_precision_recall(data.test.y, probabilities, threshold, paths[0])
        draw_confusion(data.test.y, (probabilities > threshold).astype(np.int32), LABELS, paths[1])
        return [folder / THRESHOLD, *paths]

    def _score(self, validation: Array, test: Array, data: Data) -> dict[str, float]:
        from sklearn.metrics import average_precision_score

        threshold = best_threshold(validation, data.validation.y)
        figures = self.objective.score(move_threshold(test, threshold), data.test.y)
        faults, alarms = data.extra["faults"], test.reshape(-1) > threshold
        all_faults, announced = (set(faults[mask & (faults >= 0)]) for mask in (np.ones_like(alarms), alarms))
        is_there = bool(data.test.y.any())
        return {
            **figures,
            "average_precision": float(average_precision_score(data.test.y, test.reshape(-1))) if is_there else 0.0,
            "threshold": threshold,
            "f1_at_half": self.objective.score(test, data.test.y)["f1"],
            "faults_announced": len(announced) / max(1, len(all_faults)),
        }


def next_faults(is_fault: npt.NDArray[np.bool_], ends: Array, horizon: int) -> npt.NDArray[np.int64]:
    """Finds the faults that windows should warn of.

    Args:
        is_fault: Whether there is a fault, shape (rows,).
        ends: Last rows of windows, shape (n,).
        horizon: How many rows after the window count.

    Returns:
        The row of the first fault within the horizon, -1 where there is none, shape (n,).
    """
    rows = np.append(np.flatnonzero(is_fault), len(is_fault) + horizon)
    first = rows[np.searchsorted(rows, ends, side="right")]
    return np.where(first <= ends + horizon, first, -1)


def read_labels(words: npt.NDArray[Any], name: str, source: Source) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Reads a column that tells of faults: 0 and 1, no and yes and their like, numbers of faults, or two words.

    Args:
        words: Its content, shape (n,).
        name: Its name.
        source: Where it comes from.

    Returns:
        Whether there is a fault, and sentences that the user should know.

    Raises:
        DataError: If it cannot be told what is a fault.
    """
    is_missing = import_pandas().isna(words)
    texts = np.array(["" if gone else str(word).strip().lower() for word, gone in zip(words, is_missing, strict=True)])
    if (texts == "").any():
        row = int(np.flatnonzero(texts == "")[0])
        raise DataError(
            f"{source} has nothing in column {name!r} of row {row + 1}, counted by time: write 1 for a fault and 0 "
            "for none."
        )
    kinds, counts = np.unique(texts, return_counts=True)
    if set(kinds) <= {*_NO, *_YES}:
        return np.isin(texts, _YES), ()
    try:
        numbers = texts.astype(np.float64)
    except ValueError:
        numbers = None
    if numbers is not None and (numbers == np.round(numbers)).all():
        return numbers != 0, (f"Every number but 0 in column {name!r} was taken as a fault.",)
    if len(kinds) == 2 and numbers is None:
        rare = str(next((kind for kind in kinds if set(kinds) - {kind} <= set(_NO)), kinds[np.argmin(counts)]))
        return texts == rare, (f"{rare!r} in column {name!r} was taken as the fault, the other word as none.",)
    raise DataError(
        f"Column {name!r} of {source} holds {len(kinds)} kinds of values, e.g. {str(kinds[-1])!r}, and it cannot be "
        "told which are faults: write 1 for a fault and 0 for none."
    )


def _read(setup: Setup) -> tuple[Series, npt.NDArray[np.bool_], tuple[str, ...]]:
    label = setup.str("label")
    assert setup.source.path is not None
    series = read_series(
        setup.source.path, date_column=setup.str("date_column"), max_gap=setup.int("max_gap"), words=[label]
    )
    is_fault, notes = read_labels(series.words[label], label, setup.source)
    return series, is_fault, notes


def _check(splits: dict[str, Split], source: Source, horizon: int) -> tuple[str, ...]:
    """Makes sure that there is something to learn, and says where nothing can be judged."""
    y = splits["train"].y
    if y.min() == y.max():
        what = "only windows before a fault" if y[0] else "no window before a fault"
        raise DataError(
            f"{source}: the first rows, which are for training, have {what} (horizon={horizon}): bring more rows, or "
            "set horizon so that both occur."
        )
    uses = {"validation": f"the threshold is {HALF}", "test": "scores say nothing"}
    return tuple(f"The {part} part has no fault, so {use}." for part, use in uses.items() if not splits[part].y.any())


def _logistic(data: Data) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Probabilities of the validation and the test split by logistic regression on the training windows."""
    chosen = np.unique(np.linspace(0, len(data.train) - 1, _LARGEST_FIT).astype(int))
    train = data.train.take(chosen)
    if len(np.unique(train.y)) == 1:
        train = data.train
    model = logistic_regression(C=0.01, class_weight="balanced", max_iter=2000)
    model.fit(train.x[INPUT].reshape(len(train), -1), train.y)
    validation, test = (
        model.predict_proba(split.x[INPUT].reshape(len(split), -1))[:, 1:] for split in (data.validation, data.test)
    )
    return validation, test
