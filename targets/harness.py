"""Measures models on targets, taking turns: A B A B in one run, so that all share the luck of its minutes."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.errors import EdgeLSTMError, LoadError, MissingExtraError, ModelRunError, SettingError, TargetError
from edgelstm.targets.base import Report, Run, Session, Target
from edgelstm.targets.comparison import Ratio, compare
from edgelstm.targets.journal import Journal
from edgelstm.targets.measurement import Measurement
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.subjects import Subject

ModelError = (ModelRunError, MissingExtraError, SettingError)
"""What costs one subject; a TargetError costs all of a target's."""


@dataclass(frozen=True)
class Failure:
    """What could not be measured.

    Attributes:
        target: Name of the target.
        artifact: The model file.
        settings: How it was to be run, for people.
        message: Why, in a sentence.
    """

    target: str
    artifact: Path
    settings: str
    message: str

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {
            "target": self.target,
            "artifact": str(self.artifact),
            "settings": self.settings,
            "message": self.message,
        }


@dataclass(frozen=True)
class Comparison:
    """How much more one measurement of a target is than the target's first.

    Attributes:
        base: Index of the first one in `BenchResult.measurements`.
        other: Index of the other.
        ratio: Other over base.
    """

    base: int
    other: int
    ratio: Ratio

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {"base": self.base, "other": self.other, **self.ratio.to_json()}


@dataclass(frozen=True)
class BenchResult:
    """What came out.

    Attributes:
        plan: How long was measured.
        measurements: In the order of targets, then subjects.
        failures: What could not be measured.
    """

    plan: BenchPlan
    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...]

    @functools.cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every measurement against the first of its target."""
        first: dict[str, int] = {}
        found = []
        for index, measurement in enumerate(self.measurements):
            base = first.setdefault(measurement.target, index)
            if base != index:
                sides = self.measurements[base], measurement
                interleaved = not any(side.num_rounds_kept for side in sides)
                found.append(Comparison(base, index, compare(*sides, interleaved=interleaved)))
        return tuple(found)


def measure_all(
    targets: Sequence[Target],
    subjects: Sequence[Subject],
    plan: BenchPlan,
    *,
    journal: Journal | None = None,
    report: Report | None = None,
) -> BenchResult:
    """Measures every subject on every target.

    Targets on this machine are measured one after the other, then those elsewhere all at the same time. What fails
    costs itself alone.

    Args:
        targets: Where.
        subjects: What. On each target they take turns, round by round.
        plan: How long.
        journal: Keeps every round as soon as it is finished, and knows those of an interrupted run.
        report: Is told what is being done.
    """
    journal = journal or Journal(None, plan)
    here = [target for target in targets if target.is_here]
    elsewhere = [target for target in targets if not target.is_here]
    outcomes = {id(target): _measure_on(target, subjects, plan, journal, report) for target in here}
    if elsewhere:
        outcomes |= _measure_elsewhere(elsewhere, subjects, plan, journal, report)
    ordered = [outcome for target in targets for outcome in outcomes[id(target)]]
    return BenchResult(
        plan,
        tuple(outcome for outcome in ordered if isinstance(outcome, Measurement)),
        tuple(outcome for outcome in ordered if isinstance(outcome, Failure)),
    )


def _measure_elsewhere(
    targets: Sequence[Target], subjects: Sequence[Subject], plan: BenchPlan, journal: Journal, report: Report | None
) -> dict[int, list[Measurement | Failure]]:
    """Measures on several targets at the same time; an interruption ends all after the round that is being measured."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(targets)) as pool:
        jobs = {id(each): pool.submit(_measure_on, each, subjects, plan, journal, report, stop) for each in targets}
        try:
            done, _ = wait(jobs.values(), return_when=FIRST_EXCEPTION)
            for job in done:
                job.result()
            return {key: job.result() for key, job in jobs.items()}
        except BaseException:
            stop.set()
            raise


def _measure_on(
    target: Target,
    subjects: Sequence[Subject],
    plan: BenchPlan,
    journal: Journal,
    report: Report | None,
    stop: threading.Event | None = None,
) -> list[Measurement | Failure]:
    """Measures all subjects on one target; returns one outcome for each of their variants."""
    variants = [variant for subject in subjects for variant in target.variants(subject)]
    rounds = _Rounds(target, variants, plan, journal, stop or threading.Event())
    try:
        if not rounds.are_complete:
            with target.open(report) as session:
                rounds.run(session, report)
    except (TargetError, SettingError) as error:
        rounds.give_up(error)
    return [rounds.outcome(index) for index in range(len(variants))]


class _Rounds:
    """The rounds of all subjects on one target."""

    def __init__(
        self, target: Target, subjects: Sequence[Subject], plan: BenchPlan, journal: Journal, stop: threading.Event
    ) -> None:
        self._target, self._subjects, self._plan, self._journal, self._stop = target, subjects, plan, journal, stop
        self._num_rounds = target.num_rounds(plan)
        self._kept = [journal.kept(target.name, subject)[: self._num_rounds] for subject in subjects]
        self._runs = [[kept.run for kept in each] for each in self._kept]
        self._errors: dict[int, EdgeLSTMError] = {}

    @property
    def are_complete(self) -> bool:
        return all(len(runs) == self._num_rounds for runs in self._runs)

    def run(self, session: Session, report: Report | None) -> None:
        """Runs what is missing: always those with the fewest rounds, in their order, so that they take turns."""
        while (missing := self._missing()) and not self._stop.is_set():
            fewest = min(len(self._runs[index]) for index in missing)
            for index in missing:
                if len(self._runs[index]) == fewest and not self._stop.is_set():
                    self._run_one(index, session, report)

    def _missing(self) -> list[int]:
        return [
            index for index, runs in enumerate(self._runs) if index not in self._errors and len(runs) < self._num_rounds
        ]

    def _run_one(self, index: int, session: Session, report: Report | None) -> None:
        subject, runs = self._subjects[index], self._runs[index]
        if report:
            report(
                f"{self._target.name}: {subject.path.name} ({subject.settings.describe()}), "
                f"round {len(runs) + 1} of {self._num_rounds} …"
            )
        try:
            run = session.run(subject, self._plan)
        except ModelError as error:
            self._errors[index] = error
            return
        if runs and not _same_runtime(runs[0], run):  # it was changed since the interruption
            runs.clear()
            self._kept[index].clear()
        runs.append(run)
        self._journal.add(self._target.name, subject, run)

    def give_up(self, error: EdgeLSTMError) -> None:
        """Takes the loss of the target as the reason for all that is not finished."""
        for index, runs in enumerate(self._runs):
            if len(runs) < self._num_rounds:
                self._errors.setdefault(index, error)

    def outcome(self, index: int) -> Measurement | Failure:
        """Returns what came of a subject."""
        subject = self._subjects[index]
        if index in self._errors:
            return Failure(self._target.name, subject.path, subject.settings.describe(), str(self._errors[index]))
        measurement = self._target.conclude(subject, self._plan, self._runs[index])
        kept, notes = self._kept[index], measurement.warnings
        if kept:
            notes = (
                *notes,
                f"{len(kept)} of {self._num_rounds} rounds are of an earlier run, the first {kept[0].time}.",
            )
        return replace(measurement, accuracy=_accuracy(subject.path), warnings=notes, num_rounds_kept=len(kept))


def _same_runtime(first: Run, second: Run) -> bool:
    """Says whether two rounds ran in the same versions; rounds without a worker did."""
    known = ("runtime", "runtime_version", "python", "numpy")
    return [first.get("ready", {}).get(name) for name in known] == [second.get("ready", {}).get(name) for name in known]


def _accuracy(path: Path) -> dict[str, Any] | None:
    """Returns the score in the model's card, None if there is none."""
    try:
        accuracy = Artifact.open(path).card.get("accuracy")
    except LoadError:
        return None
    return accuracy if isinstance(accuracy, dict) else None
