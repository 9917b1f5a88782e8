"""Targets that start the worker somewhere: they differ in the place alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from edgelstm.errors import ModelRunError
from edgelstm.targets.base import Report, Run, Session, Target
from edgelstm.targets.measurement import Measurement, ProcessSamples
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.statistics import summarize
from edgelstm.targets.subjects import Subject
from edgelstm.targets.warnings import warnings_of

Event = dict[str, Any]


class Place(Protocol):
    """Where workers are started and files lie."""

    def send(self, path: Path) -> str:
        """Makes a file available there, once however often it is asked for, and returns its path there.

        Raises:
            TargetError: If it cannot be written there, for instance because the disk is full.
        """

    def run_worker(self, plan: dict[str, Any], *, timeout_s: float) -> list[Event]:
        """Runs one plan, paths in it as `send` returned them, and returns the events; the last is the result.

        Raises:
            ModelRunError: If the model, the runtime or the plan was refused, or the worker crashed or ran too long.
            TargetError: If the target cannot be reached any more.
        """


class WorkerTarget(Target):
    """A target that starts workers.

    Attributes:
        device: "cpu" or "gpu": what of the machine computes.
    """

    device: str = "cpu"

    @abstractmethod
    def open_place(self, report: Report | None) -> AbstractContextManager[Place]:
        """Makes the place ready; leaving the context removes whatever was put there, also after an error."""

    @contextmanager
    def open(self, report: Report | None = None) -> Iterator[Session]:
        """Makes the target ready; see `Target.open`."""
        with self.open_place(report) as place:
            yield WorkerSession(self, place)

    def worker_plan(self, subject: Subject, plan: BenchPlan, place: Place) -> dict[str, Any]:
        """Returns the plan of one worker; a target may add what only it needs."""
        settings = subject.settings
        optional = {
            "batch": settings.batch,
            "length": settings.length,
            "delegate": settings.delegate and {"library": _send_delegate(settings.delegate, place), "options": {}},
            "mode": settings.mode,
            "dtype": settings.dtype,
            "profile": plan.operators or None,
        }
        return {
            "op": "bench",
            "model": place.send(subject.path),
            "runtime": settings.runtime,
            "threads": settings.threads,
            "device": self.device,
            "plan": plan.limits(),
            "seed": settings.seed,
            **{key: value for key, value in optional.items() if value is not None},
        }

    def conclude(self, subject: Subject, plan: BenchPlan, runs: list[Run]) -> Measurement:
        """Makes a measurement of the events of all workers; see `Target.conclude`."""
        ready, results = runs[0]["ready"], [run["result"] for run in runs]
        processes = tuple(ProcessSamples.of_result(result) for result in results)
        statistics = summarize([process.samples_ns for process in processes], seed=subject.settings.seed)
        return Measurement.of_subject(
            subject,
            kind="measured",
            target=self.name,
            runtime=ready["runtime"],
            runtime_version=ready["runtime_version"],
            plan=plan,
            versions={name: ready[name] for name in ("python", "numpy")},
            machine=results[0]["machine"],
            statistics=statistics,
            warnings=tuple(warnings_of(statistics, results, subject.settings)),
            processes=processes,
            shapes=results[0].get("shapes") or {},
        )


class WorkerSession(Session):
    """Workers that take turns at a place."""

    def __init__(self, target: WorkerTarget, place: Place) -> None:
        self._target = target
        self._place = place

    def run(self, subject: Subject, plan: BenchPlan) -> Run:
        """Runs one worker; see `Session.run`."""
        worker_plan = self._target.worker_plan(subject, plan, self._place)
        ready, *_, result = self._place.run_worker(worker_plan, timeout_s=self._target.timeout_s)
        return {"ready": ready, "result": result}


def _send_delegate(library: str, place: Place) -> str:
    """Makes a delegate available; its path is absolute, for the loader looks for a bare name elsewhere.

    Raises:
        ModelRunError: If there is no such file.
    """
    path = Path(library).absolute()
    if not path.is_file():
        raise ModelRunError(f"Delegate {library}: there is no such file. Give the path of a shared library.")
    return place.send(path)
