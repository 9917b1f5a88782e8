"""Stages on the way to a single file: what the flags of `edgelstm convert` do, without a folder and a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from edgelstm.compression.learning import read_learning
from edgelstm.compression.measures import calibration_of
from edgelstm.compression.recipe import parse_recipe
from edgelstm.compression.workshop import TrainingWorkshop
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array, Examples, Stage, Workshop
from edgelstm.errors import SettingError, StageError
from edgelstm.source import Source
from edgelstm.training.fitting import Report


@dataclasses.dataclass(frozen=True)
class Flag:
    """How a stage is asked for on the command line.

    Attributes:
        setting: The setting whose value the flag takes.
        untrained: Settings with which the stage needs no data; None if there are none.
        trained: Settings that differ from the defaults where there is data.
    """

    setting: str
    untrained: Mapping[str, Any] | None = None
    trained: Mapping[str, Any] = dataclasses.field(default_factory=dict)


FLAGS = {
    "shrink-embedding": Flag("rank", trained={"min_count": 0}),
    "prune-units": Flag("fraction", {"epochs": 0}),
    "factorize": Flag("energy", {"epochs": 0, "data_aware": False}),
    "distill": Flag("fraction"),
    "prune": Flag("sparsity", {"ramp_epochs": 0, "epochs": 0}),
    "cluster": Flag("clusters", {"epochs": 0}),
    "qat": Flag("epochs"),
}
"""The stages that have a flag, in the order in which they are run."""


def entries_of(flags: Mapping[str, Any], *, trained: bool) -> list[dict[str, Any]]:
    """Returns stages as a recipe has them.

    Args:
        flags: Value of the flag of each stage by its name, None where it was not given.
        trained: Whether there is data.

    Raises:
        SettingError: If a stage needs data and there is none.
    """
    entries = []
    for kind, flag in FLAGS.items():
        value = flags.get(kind)
        if value is None:
            continue
        if not trained and flag.untrained is None:
            raise SettingError(f"--{kind} needs data to learn from: add --data, e.g. --data task:text or --data d.npz.")
        entries.append({"kind": kind, **(flag.trained if trained else flag.untrained or {}), flag.setting: value})
    return entries


@dataclasses.dataclass(frozen=True)
class Staged:
    """A model that stages have changed.

    Attributes:
        source: The changed model with its recipe; name and hash are those of the model as it came.
        ranges: What quantization-aware training learnt for an int8 file.
        calibration: Typical inputs by name, from the data; None without data.
    """

    source: Source
    ranges: Mapping[str, tuple[float, float]]
    calibration: dict[str, Array] | None


def run_stages(
    source: Source, entries: Sequence[Mapping[str, Any]], data: str | None, quantize: str, report: Report
) -> Staged:
    """Runs stages on a model, one after the other.

    Args:
        source: The model; it stays as it is.
        entries: Stages as a recipe has them: "kind" and settings.
        data: What to learn from, as `learning.read_learning` takes it; None for stages that learn nothing.
        quantize: Precision of the file.
        report: Takes a line about what is being done.

    Raises:
        SettingError: If a stage or a setting is unknown, or a value impossible, alone or with the precision.
        StageError: If a stage does not fit the model, or needs data that is not there.
        EdgeLSTMError: If the data cannot be read, or a training fails.
    """
    recipe = parse_recipe({"stage": [dict(entry) for entry in entries], "export": {"quantize": quantize}})
    learning = read_learning(data, source.model) if data is not None else None
    workshop: Workshop = TrainingWorkshop(learning, None, report) if learning else NoData(report)
    model = source.model
    ranges: dict[str, tuple[float, float]] = {}
    notes = [_told(recipe.stages)]
    for number, stage in enumerate(recipe.stages, 1):
        report(f"{stage.name}")
        import_keras().utils.set_random_seed(number)
        outcome = stage.apply(model, workshop)
        if outcome.tokens:
            raise StageError(
                f"Stage {stage.name!r} gives words new ids, which the app must know: use edgelstm compress, which "
                "writes the vocabulary as well."
            )
        model, ranges = outcome.model, dict(outcome.ranges)
        notes += outcome.notes
    changed = dataclasses.replace(
        source, model=model, notes=(*source.notes, *notes), recipe=tuple(recipe.to_json()["stage"])
    )
    return Staged(changed, ranges, calibration_of(learning) if learning else None)


def _told(stages: Sequence[Stage]) -> str:
    names = ", ".join(stage.name for stage in stages)
    return f"Stages changed the model before it was converted ({names}): parity is with the model that they made."


class NoData:
    """A workshop without examples: for stages that need none."""

    def __init__(self, takes: Report) -> None:
        self._takes = takes

    @property
    def seed(self) -> int:
        """Of everything random."""
        return 0

    def report(self, line: str) -> None:
        """Takes a line about what is being done."""
        self._takes(line)

    @property
    def train(self) -> Examples:
        """There are none."""
        self._refuse()

    @property
    def validation(self) -> Examples:
        """There are none."""
        self._refuse()

    def finetune(self, model: Any, *, epochs: int, **_: Any) -> None:
        """Trains for no epochs; more is refused."""
        del model
        if epochs:
            self._refuse()

    def label_loss(self, targets: Any, answers: Any) -> Any:
        """There is none without examples."""
        del targets, answers
        self._refuse()

    def cached(self, name: str, make: Callable[[], Array]) -> Array:
        """Makes an array."""
        del name
        return make()

    def loss(self, model: Any) -> float:
        """There is none without examples."""
        del model
        self._refuse()

    def score(self, model: Any) -> float:
        """There is none without examples."""
        del model
        self._refuse()

    def with_tokens(self, tokens: Mapping[str, Array]) -> NoData:
        """Ids of no examples change nothing."""
        del tokens
        return self

    def _refuse(self) -> NoReturn:
        raise StageError("A stage needs data to learn from: add --data, e.g. --data task:text or --data d.npz.")
