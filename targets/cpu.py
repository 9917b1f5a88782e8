"""Target "cpu": the machine that edgelstm itself runs on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgelstm.runtime.child import run_worker
from edgelstm.targets.base import Availability, Report, TargetKind
from edgelstm.targets.measurement import Kind
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.subjects import Subject
from edgelstm.targets.workers import Event, Place, WorkerTarget

SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


class LocalPlace(Place):
    """This machine: files lie where they are, workers are child processes."""

    def send(self, path: Path) -> str:
        """Returns the path; see `Place.send`."""
        return str(path)

    def run_worker(self, plan: dict[str, Any], *, timeout_s: float) -> list[Event]:
        """Runs a child process; see `Place.run_worker`.

        Raises:
            MissingExtraError: If no Python has the runtime.
        """
        return run_worker(plan, timeout_s=timeout_s)


class CpuTarget(WorkerTarget):
    """Times models on this machine, each in fresh processes that stay on their cores.

    Attributes:
        timeout_s: Seconds after which a worker is stopped.
        pin: Whether each worker is kept on as many cores as it has threads.
    """

    name = "cpu"
    kind: Kind = "measured"

    def __init__(self, *, timeout_s: float = 600.0, pin: bool = True) -> None:
        self.timeout_s = timeout_s
        self.pin = pin

    @contextmanager
    def open_place(self, report: Report | None = None) -> Iterator[Place]:
        """Yields this machine; see `WorkerTarget.open_place`."""
        yield LocalPlace()

    def worker_plan(self, subject: Subject, plan: BenchPlan, place: Place) -> dict[str, Any]:
        """Adds the cores; see `WorkerTarget.worker_plan`."""
        cores = choose_cores(subject.settings.threads) if self.pin else []
        return {**super().worker_plan(subject, plan, place), **({"cores": cores} if cores else {})}


def choose_cores(threads: int) -> list[int]:
    """Chooses one core for each thread: the last ones, since the first serves interrupts, and none twice.

    Returns:
        Numbers of logical processors, on different cores where there are enough; empty if the system does not tell, or
        has no more processors than threads: then the system's scheduler knows better.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    free = sorted(affinity(0), reverse=True) if affinity else []
    if threads >= len(free):
        return []
    one_per_core = {_first_sibling(number): number for number in free}
    chosen = sorted(one_per_core.values(), reverse=True)
    return sorted((chosen if len(chosen) >= threads else free)[:threads])


def _first_sibling(number: int) -> str:
    """Returns what the logical processors of one core have in common."""
    try:
        return Path(SIBLINGS.format(number)).read_text(encoding="ascii").strip()
    except OSError:
        return str(number)


def _available() -> list[Availability]:
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return [Availability("cpu", True, f"this machine, {cores} core{'s' if cores > 1 else ''}.")]


def _make(name: str) -> CpuTarget:
    return CpuTarget()


KIND = TargetKind(form="cpu", prefix="cpu", make=_make, available=_available)
