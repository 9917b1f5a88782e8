"""A compression under way: the model as far as it is made, what was tried on it, and the files that keep both."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm.compression.guard import Guard, split_for_guard, uncertainty_note
from edgelstm.compression.learning import Learning
from edgelstm.compression.measures import Measures, calibration_of, measure_file
from edgelstm.compression.recipe import Export
from edgelstm.compression.steps import EXPORT, START, Step
from edgelstm.compression.workshop import TrainingWorkshop
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array, Outcome, Stage
from edgelstm.converters.stages.cloning import independent_copy
from edgelstm.errors import (
    EdgeLSTMError,
    LoadError,
    MissingExtraError,
    OutputError,
    SettingError,
    StageError,
    VerificationError,
)
from edgelstm.source import open_source
from edgelstm.training.claims import read_json
from edgelstm.training.evaluation import file_predict
from edgelstm.training.fitting import Report
from edgelstm.training.folders import make_folder, write_complete, write_json

MODEL, ARTIFACT = "model.keras", "model.tflite"
_STAGE, _OUTCOME, _STEP = "stage.json", "outcome.json", "step.json"
_NOT_ABOUT_MODELS = (StageError, OutputError, LoadError, MissingExtraError, SettingError)

Ranges = dict[str, tuple[float, float]]


class Session:
    """Tries stages one after the other, keeps those that the guard allows, and remembers all of them on disk.

    Asked for the same in the same order after an interruption, it reads what was finished, and the training that had
    begun goes on after its last batch.

    Args:
        model: The model as it came; it stays as it is.
        learning: What to learn from and be judged by.
        work: A folder of its own for what is finished.
        seed: Of everything random.
        max_drop: What the guard lets go; None for no guard.
        target: Where latency is measured; None to leave it out.
        report: Takes a line about what is being done.

    Attributes:
        model: As far as it is made.
        learning: With ids as they are now.
        stages: Those that were kept, with the settings that they were kept with.
        tried: Everything so far, the model as it came in float32 first.
        guard: None without one.
        tokens: By input name, the new id of each id that the data had; only of inputs whose ids have changed.
        notes: Sentences that the user should know.
    """

    def __init__(
        self,
        model: Any,
        learning: Learning,
        work: Path,
        *,
        seed: int = 0,
        max_drop: float | None = None,
        target: str | None = None,
        report: Report = lambda _: None,
    ) -> None:
        self.model, self.work, self.report = model, work, report
        self.learning = learning if max_drop is None else split_for_guard(learning)
        self.stages: list[Stage] = []
        self.tokens: dict[str, Array] = {}
        self.notes: list[str] = []
        self.guard: Guard | None = None
        self._seed, self._target = seed, target
        self._ranges: Ranges = {}
        self._measures: dict[str, Measures] = {}
        self._started, self._before_s = time.monotonic(), 0.0
        self.tried = [self._step(START, lambda: Step(START, {}, self.measure(Export())))]
        reference, guarding = self.tried[0].measures, self.learning.guarding
        if max_drop is not None and guarding is not None and reference is not None and reference.guard is not None:
            self.guard = Guard(max_drop, reference.guard, learning.task.objective.higher_is_better)
            note = uncertainty_note(self.guard, len(guarding))
            self.notes += [note] if note else []

    @property
    def seconds(self) -> float:
        """How long it has been at work, in seconds, before interruptions as well."""
        return self._before_s + time.monotonic() - self._started

    def attempt(self, stage: Stage, export: Export) -> bool:
        """Runs a stage on the model, measures the result, and keeps it if the guard allows that.

        Args:
            stage: The stage.
            export: How the result is exported to be judged.

        Raises:
            StageError: If the stage does not fit the model.
            OutputError: If files cannot be written.
            LoadError: If what was finished before cannot be read.
            EdgeLSTMError: If it fails otherwise and there is no guard; with one, the stage is not kept then.
        """
        place = self._place(stage, export)
        failed = _failed_before(place)
        if failed is not None:
            self.tried.append(failed)
            return False
        try:
            outcome = self._outcome(place, stage)
            learning = self.learning.with_tokens(outcome.tokens) if outcome.tokens else self.learning
            ranges = {**outcome.ranges} if export.quantize == "int8" else {}

            def measured() -> Step:
                measures = self.measure(export, outcome.model, learning, ranges)
                return Step(stage.name, stage.values, measures, outcome.notes, outcome.figures)

            step = self._judged(self._step(place.name, measured))
        except EdgeLSTMError as error:
            self._raise_unless_bad(error)
            step = Step(stage.name, stage.values, None, kept=False, reason=str(error))
            write_json(place / _STEP, step.to_json())
        self.tried.append(step)
        if step.kept:
            self.model, self.learning, self._ranges = outcome.model, learning, {**outcome.ranges}
            self.stages.append(stage)
            for name, table in outcome.tokens.items():
                self.tokens[name] = table[self.tokens[name]] if name in self.tokens else table
        return step.kept

    def refuse(self, stage: Stage, reason: str) -> None:
        """Remembers a stage that could not be tried."""
        self.tried.append(Step(stage.name, stage.values, None, kept=False, reason=reason))

    def judge(self, export: Export) -> Step:
        """Measures the model as it is now in a precision; whether that is kept is the guard's word."""
        key = f"{len(self.tried)}-{EXPORT}-{_digest([self._described(), export.to_json()])[:12]}"
        try:
            step = self._step(key, lambda: Step(EXPORT, export.to_json(), self.measure(export)))
        except EdgeLSTMError as error:
            self._raise_unless_bad(error)
            return Step(EXPORT, export.to_json(), None, kept=False, reason=str(error))
        return self._judged(step)

    def finish(self, exports: Iterable[Export]) -> tuple[Export, Artifact]:
        """Exports and verifies the model in the first way that passes.

        Args:
            exports: Ways to export it, the best one first.

        Returns:
            The way, and the artifact in the folder for work.

        Raises:
            EdgeLSTMError: If the last way fails, too.
        """
        refused = []
        for export in exports:
            self.report(f"exporting and verifying, {export}")
            try:
                artifact = self._convert(export, self.work / ARTIFACT, verify=True)
                step = self._judged(Step(EXPORT, export.to_json(), self._measure_file(artifact.path, self.learning)))
            except EdgeLSTMError as error:
                self._raise_unless_bad(error)
                step = Step(EXPORT, export.to_json(), None, kept=False, reason=str(error))
            self.tried.append(step)
            if step.kept:
                return export, artifact
            refused.append(f"{export}: {step.reason.rstrip('.')}")
        raise VerificationError(
            f"No file of the model passes the guard ({'; '.join(refused)}). Allow a greater max_drop, or take other "
            "stages."
        )

    def measure(
        self,
        export: Export,
        model: Any = None,
        learning: Learning | None = None,
        ranges: Ranges | None = None,
    ) -> Measures:
        """Measures a model, the one as it is now if none is given, in an export."""
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as scratch:
            path = Path(scratch) / ARTIFACT
            self._convert(export, path, model, learning, ranges, verify=False)
            return self._measure_file(path, learning or self.learning)

    def answers(self, export: Export, x: Mapping[str, Any]) -> Any:
        """Returns what the model as it is now answers in an export, to inputs by name."""
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as scratch:
            path = Path(scratch) / ARTIFACT
            self._convert(export, path, verify=False)
            return np.asarray(file_predict(path)({**x}))

    def _convert(
        self,
        export: Export,
        path: Path,
        model: Any = None,
        learning: Learning | None = None,
        ranges: Ranges | None = None,
        *,
        verify: bool,
    ) -> Artifact:
        chosen = self._ranges if ranges is None and model is None else ranges
        return edgelstm.convert(
            self.model if model is None else model,
            path,
            quantize=export.quantize,
            layers=export.layers,
            strip_names=export.strip_names,
            calibration=calibration_of(learning or self.learning),
            ranges=chosen if export.quantize == "int8" else None,
            verify=verify,
            progress=self.report if verify else None,
        )

    def _measure_file(self, path: Path, learning: Learning) -> Measures:
        """The same bytes are measured once."""
        key = hashlib.sha256(path.read_bytes()).hexdigest()
        if key not in self._measures:
            self._measures[key] = measure_file(path, learning, target=self._target)
        return self._measures[key]

    def _raise_unless_bad(self, error: EdgeLSTMError) -> None:
        """Raises an error again that is not about how good a model is; without a guard, any."""
        if self.guard is None or isinstance(error, _NOT_ABOUT_MODELS):
            raise error

    def _judged(self, step: Step) -> Step:
        if self.guard is None or step.measures is None or step.measures.guard is None:
            return step
        if self.guard.allows(step.measures.guard):
            return step
        return dataclasses.replace(step, kept=False, reason=self.guard.refusal(step.measures.guard))

    def _described(self) -> list[dict[str, Any]]:
        """The stages that the model as it is now has behind it."""
        return [{"kind": stage.name, **stage.values} for stage in self.stages]

    def _place(self, stage: Stage, export: Export) -> Path:
        """The folder of an attempt; what it holds of another one goes."""
        place = self.work / f"{len(self.tried)}-{stage.name}"
        described = {
            "stage": {"kind": stage.name, **stage.values},
            "export": export.to_json(),
            "after": self._described(),
        }
        if not (place / _STAGE).exists() or read_json(place / _STAGE) != described:
            shutil.rmtree(place, ignore_errors=True)
            make_folder(place)
            write_json(place / _STAGE, described)
        return place

    def _outcome(self, place: Path, stage: Stage) -> Outcome:
        if (place / _OUTCOME).exists():
            outcome, seconds = _read_outcome(place)
            self._before_s += seconds
            return outcome
        self.report(f"{place.name}: begins")
        started = time.monotonic()
        import_keras().utils.set_random_seed(self._seed + len(self.stages) + 1)
        outcome = stage.apply(self.model, TrainingWorkshop(self.learning, place, self.report))
        _write_outcome(place, outcome, time.monotonic() - started)
        return outcome

    def _step(self, name: str, make: Callable[[], Step]) -> Step:
        """Reads what was measured before, or measures it and keeps it."""
        path = self.work / name / _STEP
        if path.exists():
            return Step.from_json(read_json(path))
        self.report(f"{name}: measuring")
        step = make()
        make_folder(path.parent)
        write_json(path, step.to_json())
        return step


def _failed_before(place: Path) -> Step | None:
    """Returns the attempt that ended in an error before an interruption."""
    if not (place / _STEP).exists() or (place / _OUTCOME).exists():
        return None
    return Step.from_json(read_json(place / _STEP))


def _write_outcome(place: Path, outcome: Outcome, seconds: float) -> None:
    write_complete(place / MODEL, independent_copy(outcome.model).save)
    document = {
        "notes": list(outcome.notes),
        "figures": dict(outcome.figures),
        "ranges": dict(outcome.ranges),
        "tokens": {name: table.tolist() for name, table in outcome.tokens.items()},
        "seconds": seconds,
    }
    write_json(place / _OUTCOME, document)


def _read_outcome(place: Path) -> tuple[Outcome, float]:
    """The outcome, and the seconds that it took."""
    document = read_json(place / _OUTCOME)
    model = open_source(place / MODEL, ()).model
    ranges = {name: (low, high) for name, (low, high) in document["ranges"].items()}
    tokens = {name: np.asarray(table) for name, table in document["tokens"].items()}
    return Outcome(model, tuple(document["notes"]), document["figures"], tokens, ranges), document["seconds"]


def _digest(document: Any) -> str:
    return hashlib.sha256(repr(document).encode()).hexdigest()
