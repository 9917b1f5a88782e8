"""The contract of a target: where an artifact runs and is timed.

    Target.measure(artifact, plan) -> Measurement

A target is opened once for all that is measured on it, so that a connection is made once and subjects can take turns:

    with target.open() as session:
        for each round, for each subject: run = session.run(subject, plan)
    measurement = target.conclude(subject, plan, runs)

Most targets start the worker (`edgelstm.targets.worker`) somewhere: they only say where, by a `Place`; see
`edgelstm.targets.workers`. None of them imports TensorFlow or a runtime itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgelstm.targets.measurement import Kind, Measurement
from edgelstm.targets.plans import BenchPlan, find_plan
from edgelstm.targets.subjects import Settings, Subject

Run = dict[str, Any]
"""What one round told of one subject, as JSON values, so that it can be kept until an interrupted run goes on."""

Report = Callable[[str], None]
"""Takes what is being done now."""


class Session(ABC):
    """A target that is open."""

    @abstractmethod
    def run(self, subject: Subject, plan: BenchPlan) -> Run:
        """Measures one round of one subject.

        Raises:
            ModelRunError: If the model cannot be run there.
            TargetError: If the target cannot be reached any more.
        """


class Target(ABC):
    """Where an artifact runs and is timed.

    Attributes:
        name: The word for it in tables and on the command line, e.g. "cpu" or "ssh://pi@raspberrypi".
        kind: What its numbers are.
        timeout_s: Seconds after which one round is stopped.
        is_here: Whether it computes on this machine, so that it must not be disturbed by another that does.
    """

    name: str
    kind: Kind
    timeout_s: float = 600.0
    is_here: bool = True

    @abstractmethod
    def open(self, report: Report | None = None) -> AbstractContextManager[Session]:
        """Makes the target ready; leaving the context removes whatever was put there, also after an error.

        Raises:
            TargetError: If it cannot be reached or lacks what is needed.
        """

    @abstractmethod
    def conclude(self, subject: Subject, plan: BenchPlan, runs: list[Run]) -> Measurement:
        """Makes a measurement of what the rounds of one subject told, at least one."""

    def num_rounds(self, plan: BenchPlan) -> int:
        """Returns how often `run` is called for each subject."""
        return plan.num_processes

    def variants(self, subject: Subject) -> list[Subject]:
        """Returns in which ways a subject is measured here, for settings that the user has left open."""
        return [subject]

    def measure(
        self, artifact: str | Path, plan: BenchPlan | str = "full", settings: Settings | None = None
    ) -> Measurement:
        """Measures a model.

        Args:
            artifact: The model file.
            plan: How long to measure: a plan, or the name of one in `PLANS`.
            settings: How to run it.

        Returns:
            The samples and what they say.

        Raises:
            ModelRunError: If the model cannot be run there.
            TargetError: If the target cannot be reached or lacks what is needed.
            MissingExtraError: If the runtime is not installed.
            ValueError: If there is no plan of that name.
        """
        plan, subject = find_plan(plan), Subject.read(artifact, settings)
        with self.open() as session:
            runs = [session.run(subject, plan) for _ in range(self.num_rounds(plan))]
        return self.conclude(subject, plan, runs)


@dataclass(frozen=True)
class Availability:
    """Whether a target can be used now.

    Attributes:
        name: What to give to --target, or its form where there are many: "ssh://user@host[:port]".
        reachable: Whether it can be used.
        text: What it is, or why it cannot be used and what to do, in one sentence.
    """

    name: str
    reachable: bool
    text: str


@dataclass(frozen=True)
class SetupOptions:
    """What `edgelstm targets setup` is told.

    Attributes:
        wheels: Folder with wheels to install from, instead of the package index.
        runtime: The runtime to install, "auto" for what suits the device.
        again: Whether to start over where something is there already.
        options: Whatever else a kind of target takes, by name.
    """

    wheels: Path | None = None
    runtime: str = "auto"
    again: bool = False
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TargetKind:
    """A kind of target: one entry of the table `edgelstm.targets.KINDS`.

    Attributes:
        form: How its names look: "cpu", "ssh://user@host[:port]".
        prefix: How its names begin; the whole name if there is only one.
        make: Makes a target of a name that begins so. Raises SettingError if the rest is wrong.
        available: Lists what of this kind can be used now, and why not the rest, within a second or two.
        setup: Prepares the target of that name and returns what was done in a sentence; None if nothing is to be done.
    """

    form: str
    prefix: str
    make: Callable[[str], Target]
    available: Callable[[], list[Availability]]
    setup: Callable[[str, SetupOptions, Report | None], str] | None = None
