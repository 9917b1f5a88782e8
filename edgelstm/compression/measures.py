"""What a model is worth at a point of its compression: size, work, score, latency."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import edgelstm
from edgelstm.compression.learning import Learning
from edgelstm.errors import EdgeLSTMError, SettingError
from edgelstm.targets import find_target
from edgelstm.tasks.base import Array, Split
from edgelstm.training.evaluation import file_predict

NUM_RESAMPLES = 400
NUM_CALIBRATION = 200
CPU = "cpu"
_CONFIDENCE = 95.0


@dataclasses.dataclass(frozen=True)
class Measures:
    """Figures of one exported file.

    Attributes:
        parameters: Weights in the file, shared ones once.
        size_bytes: Of the file.
        gzip_bytes: After gzip at level 6; None for a file that is too large.
        macs: Multiply-accumulates of one call; None where loops hide them.
        score: Main figure on the test examples, as the task reports it: an error is low when it is good.
        interval: Bounds of the score's 95 % confidence interval, by resampling the test examples.
        latency_us: Median of one call on a target, one thread; None if not asked for.
        guard: The score on the guard's examples; None without a guard.
    """

    parameters: int
    size_bytes: int
    gzip_bytes: int | None
    macs: int | None
    score: float
    interval: tuple[float, float]
    latency_us: float | None = None
    guard: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Measures:
        """Reads what `to_json` returned."""
        return cls(**{**document, "interval": tuple(document["interval"])})


def calibration_of(learning: Learning) -> dict[str, Array]:
    """Returns training examples for calibration, from everywhere, by input name."""
    train = learning.data.train
    chosen = np.linspace(0, len(train) - 1, min(NUM_CALIBRATION, len(train))).astype(int)
    return {name: array[chosen] for name, array in train.x.items()}


def measure_file(path: Path, learning: Learning, *, target: str | None = CPU) -> Measures:
    """Measures an exported file on the test examples, and on the guard's where there are some.

    Args:
        path: The file.
        learning: The data.
        target: Where latency is measured, a name that `edgelstm.targets.find_target` knows; None to leave it out.

    Raises:
        EdgeLSTMError: If it cannot be run, or its answers cannot be scored.
    """
    inspection, predict = edgelstm.inspect(path), file_predict(path)
    test, guarding = learning.data.test, learning.guarding
    answers = np.asarray(predict(test.x))
    return Measures(
        parameters=inspection.parameters,
        size_bytes=inspection.size_bytes,
        gzip_bytes=inspection.gzip_bytes,
        macs=inspection.macs,
        score=score_of(answers, learning, test),
        interval=confidence(answers, learning, test),
        latency_us=latency_us(path, target) if target else None,
        guard=score_of(np.asarray(predict(guarding.x)), learning, guarding) if guarding is not None else None,
    )


def latency_us(path: Path, target: str) -> float:
    """Returns the median of one call on a target, one thread, in microseconds; of a profile its estimate.

    Raises:
        EdgeLSTMError: If the target cannot run it.
    """
    measured = find_target(target).measure(path, "quick")
    return measured.estimate.latency_us if measured.estimate else measured.p50_us


def check_target(target: str) -> None:
    """Refuses the name of a target that there is not, or that tells no latency.

    Raises:
        SettingError: If it is one of those.
    """
    if find_target(target).kind == "emulated":
        raise SettingError(f"Target {target!r} counts instructions and tells no latency. Name another, e.g. cpu.")


def score_of(answers: Array, learning: Learning, split: Split) -> float:
    """Returns the main figure of answers to a split, as the task reports it."""
    figure = learning.score(answers, split)
    return figure if learning.task.objective.higher_is_better else -figure


def confidence(answers: Array, learning: Learning, split: Split) -> tuple[float, float]:
    """Returns the 95 % confidence interval of the score.

    The examples are drawn with replacement as often as there are (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993); the bounds are percentiles over 400 such draws, the same ones each time.
    """
    generator, figures = np.random.default_rng(len(split)), []
    for _ in range(NUM_RESAMPLES):
        drawn = generator.integers(0, len(split), len(split))
        try:
            figures.append(score_of(answers[drawn], learning, split.take(drawn)))
        except EdgeLSTMError:  # a draw without an example of some class
            continue
    if not figures:
        return float("nan"), float("nan")
    low, high = np.percentile(figures, [(100 - _CONFIDENCE) / 2, (100 + _CONFIDENCE) / 2])
    return float(low), float(high)
