"""Measurements and targets that are made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.targets.base import Report, Run, Session, Target
from edgelstm.targets.measurement import Estimate, InstructionCount, Kind, Measurement, ProcessSamples
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.statistics import Statistics, summarize
from edgelstm.targets.subjects import Settings, Subject

PLAN = BenchPlan(warmup_s=0.0, max_s=0.1, num_processes=3)
MACHINE = {"device": None, "cpu": "Abacus", "num_cores": 4, "governor": None, "system": "Linux", "load_average": 0.0}


def processes(median_us: float, *, count: int = 3, spread: float = 0.01, seed: int = 0) -> tuple[ProcessSamples, ...]:
    """Returns samples of 60 calls in each of some processes, around a median."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        samples = (median_us * 1e3 * (1 + spread * rng.standard_normal(60))).astype(int).tolist()
        made.append(ProcessSamples(samples, [int(2e3 * median_us)], 900.0, 400.0, 40 * 2**20, 46 * 2**20))
    return tuple(made)


def measured(median_us: float = 100.0, *, name: str = "m.tflite", target: str = "cpu", **changes: Any) -> Measurement:
    """Returns a measurement of 60 calls in each of three processes."""
    taken = changes.pop("processes", None) or processes(median_us, seed=changes.pop("seed", 0))
    return _made(
        "measured", name, target, processes=taken, statistics=summarize([p.samples_ns for p in taken]), **changes
    )


def summarized(median_us: float = 100.0, *, name: str = "m.tflite", count: int = 1, **changes: Any) -> Measurement:
    """Returns a measurement of some processes that told a summary and no single calls."""
    statistics = Statistics(
        num_samples=50,
        min_us=0.8 * median_us,
        p50_us=median_us,
        p90_us=1.25 * median_us,
        p99_us=2 * median_us,
        max_us=2 * median_us,
        p50_low_us=0.99 * median_us,
        p50_high_us=1.01 * median_us,
        confidence=0.95,
        stable=False,
        stability="Single durations are not known.",
    )
    told = tuple(ProcessSamples([], [], 900.0, 400.0) for _ in range(count))
    return _made("measured", name, "adb:SERIAL", processes=told, statistics=statistics, **changes)


def emulated(instructions: int, *, name: str = "m.tflite", **changes: Any) -> Measurement:
    """Returns a count of instructions."""
    parts = {"loads": instructions // 4, "stores": instructions // 10, "multiply_adds": instructions // 3}
    count = InstructionCount(instructions, instructions, instructions, 3, parts, "cortex-a72")
    return _made("emulated", name, "emulated:arm64", count=count, **changes)


def estimated(latency_us: float, *, name: str = "m.tflite", **changes: Any) -> Measurement:
    """Returns an estimate that may be wrong by a factor of two."""
    parts = {"multiply-accumulates": 0.7 * latency_us, "bytes": 0.3 * latency_us}
    estimate = Estimate(
        latency_us, latency_us / 2, latency_us * 2, "a factor of 2.", parts, {"clock_hz": "a datasheet"}
    )
    return _made("estimated", name, "profile:raspberry-pi-4", estimate=estimate, **changes)


def _made(kind: Kind, name: str, target: str, **changes: Any) -> Measurement:
    fields: dict[str, Any] = {
        "kind": kind,
        "target": target,
        "artifact": Path(name),
        "size_bytes": 5000,
        "sha256": name,
        "runtime": "ai-edge-litert",
        "runtime_version": "9.8",
        "settings": Settings(),
        "plan": PLAN,
        "versions": {"python": "3.11.0", "numpy": "2.0.0"},
        "machine": dict(MACHINE),
    }
    return Measurement(**{**fields, **changes})


class FakeTarget(Target):
    """A target whose rounds are written down.

    Attributes:
        log: What was done, in order; several targets may share one.
        errors: What a round of a file raises, by (name of the file, number of the round).
        opening: What opening raises.
        during: Called in every round.
    """

    kind: Kind = "measured"

    def __init__(
        self, name: str = "fake", *, log: list[str] | None = None, is_here: bool = True, version: str = "1"
    ) -> None:
        self.name = name
        self.version = version
        self.during: Callable[[], Any] = lambda: None
        self.log = [] if log is None else log
        self.is_here = is_here
        self.errors: dict[tuple[str, int], BaseException] = {}
        self.opening: Exception | None = None

    @contextmanager
    def open(self, report: Report | None = None) -> Iterator[Session]:
        if self.opening:
            raise self.opening
        self.log.append(f"open {self.name}")
        try:
            yield _FakeSession(self)
        finally:
            self.log.append(f"close {self.name}")

    def conclude(self, subject: Subject, plan: BenchPlan, runs: list[Run]) -> Measurement:
        taken = tuple(ProcessSamples([run["ns"]] * 40, [], 1.0, 1.0) for run in runs)
        return measured(name=str(subject.path), target=self.name, processes=taken, settings=subject.settings)


class _FakeSession(Session):
    def __init__(self, target: FakeTarget) -> None:
        self._target = target
        self._rounds: dict[str, int] = {}

    def run(self, subject: Subject, plan: BenchPlan) -> Run:
        number = self._rounds.get(subject.path.name, 0)
        self._rounds[subject.path.name] = number + 1
        self._target.log.append(f"{subject.path.name} {number}")
        self._target.during()
        error = self._target.errors.get((subject.path.name, number))
        if error:
            raise error
        return {"ready": {"runtime_version": self._target.version}, "ns": 1000 * (number + 1)}
