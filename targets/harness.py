"""Measures models on targets, taking turns: A B A B in one run, so that all share the luck of its minutes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgelstm.artifact import Artifact
from edgelstm.errors import EdgeLSTMError, LoadError, MissingExtraError, ModelRunError, SettingError, TargetError
from edgelstm.targets.base import Report, Session, Target
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

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every measurement against the first of its target."""
        first: dict[str, int] = {}
        found = []
        for index, measurement in enumerate(self.measurements):
            base = first.setdefault(measurement.target, index)
            if base != index:
                found.append(Comparison(base, index, compare(self.measurements[base], measurement)))
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
        with ThreadPoolExecutor(len(elsewhere)) as pool:
            jobs = {
                id(target): pool.submit(_measure_on, target, subjects, plan, journal, report) for target in elsewhere
            }
            outcomes |= {key: job.result() for key, job in jobs.items()}
    ordered = [outcome for target in targets for outcome in outcomes[id(target)]]
    return BenchResult(
        plan,
        tuple(outcome for outcome in ordered if isinstance(outcome, Measurement)),
        tuple(outcome for outcome in ordered if isinstance(outcome, Failure)),
    )


def _measure_on(
    target: Target, subjects: Sequence[Subject], plan: BenchPlan, journal: Journal, report: Report | None
) -> list[Measurement | Failure]:
    """Measures all subjects on one target; returns one outcome for each of their variants."""
    variants = [variant for subject in subjects for variant in target.variants(subject)]
    rounds = _Rounds(target, variants, plan, journal)
    try:
        if not rounds.are_complete:
            with target.open(report) as session:
                rounds.run(session, report)
    except (TargetError, SettingError) as error:
        rounds.give_up(error)
    return [rounds.outcome(index) for index in range(len(variants))]


class _Rounds:
    """The rounds of all subjects on one target."""

    def __init__(self, target: Target, subjects: Sequence[Subject], plan: BenchPlan, journal: Journal) -> None:
        self._target, self._subjects, self._plan, self._journal = target, subjects, plan, journal
        self._num_rounds = target.num_rounds(plan)
        self._runs = [journal.runs(target.name, subject)[: self._num_rounds] for subject in subjects]
        self._errors: dict[int, EdgeLSTMError] = {}

    @property
    def are_complete(self) -> bool:
        return all(len(runs) == self._num_rounds for runs in self._runs)

    def run(self, session: Session, report: Report | None) -> None:
        """Runs what is missing: the first round of all subjects, then the second."""
        for number in range(self._num_rounds):
            for index, subject in enumerate(self._subjects):
                if index in self._errors or len(self._runs[index]) > number:
                    continue
                if report:
                    report(
                        f"{self._target.name}: {subject.path.name} ({subject.settings.describe()}), "
                        f"round {number + 1} of {self._num_rounds} …"
                    )
                try:
                    run = session.run(subject, self._plan)
                except ModelError as error:
                    self._errors[index] = error
                    continue
                self._runs[index].append(run)
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
        return replace(measurement, accuracy=_accuracy(subject.path))


def _accuracy(path: Path) -> dict[str, Any] | None:
    """Returns the score in the model's card, None if there is none."""
    try:
        accuracy = Artifact.open(path).card.get("accuracy")
    except LoadError:
        return None
    return accuracy if isinstance(accuracy, dict) else None
