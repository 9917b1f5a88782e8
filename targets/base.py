"""The contract of a target: where an artifact runs and is timed.

    Target.measure(artifact, plan) -> Measurement

A target starts the worker (`edgelstm.targets.worker`) on its machine, one or more times as the plan says, and makes a
`Measurement` of what the worker reports. It imports neither TensorFlow nor a runtime itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgelstm.targets.statistics import Statistics

Kind = Literal["measured", "emulated", "estimated"]


@dataclass(frozen=True)
class BenchPlan:
    """How long to measure.

    Attributes:
        warmup_s: Seconds of calls that are recorded apart and not counted, per process.
        max_s: Seconds of counted calls, per process.
        min_runs: Counted calls per process that are made even if they take longer than max_s.
        max_runs: Counted calls per process after which it ends early.
        num_processes: How many workers measure, one after the other. More than one shows what depends on the process.
    """

    warmup_s: float
    max_s: float
    min_runs: int = 30
    max_runs: int = 20_000
    num_processes: int = 1

    def __post_init__(self) -> None:
        if self.warmup_s < 0 or self.max_s < 0 or self.min_runs < 1 or self.num_processes < 1:
            raise ValueError(f"{self} measures nothing: times must not be negative, numbers at least 1.")
        if self.max_runs < self.min_runs:
            raise ValueError(f"max_runs is {self.max_runs}, less than min_runs {self.min_runs}.")


PLANS = {
    "quick": BenchPlan(warmup_s=0.2, max_s=0.8),
    "full": BenchPlan(warmup_s=0.5, max_s=1.5, min_runs=50, num_processes=5),
}
"""The plans that have a name: for a first look, and for numbers to publish."""


def find_plan(plan: BenchPlan | str) -> BenchPlan:
    """Returns a plan by name, or the plan itself.

    Raises:
        ValueError: If there is no plan of that name.
    """
    if isinstance(plan, BenchPlan):
        return plan
    if plan not in PLANS:
        raise ValueError(f"Plan {plan!r} is not known. Give a BenchPlan or one of {', '.join(map(repr, PLANS))}.")
    return PLANS[plan]


@dataclass(frozen=True)
class ProcessSamples:
    """What one worker process measured.

    Attributes:
        samples_ns: Duration of every counted call, in order.
        warmup_ns: Duration of every call before those, in order, but for the first.
        load_us: Creating the interpreter and allocating its tensors.
        first_invoke_us: The first call.
        base_rss_bytes: Resident memory of the process before it loaded the model; None if the system does not tell.
        peak_rss_bytes: Its resident memory at most; None if the system does not tell.
    """

    samples_ns: list[int]
    warmup_ns: list[int]
    load_us: float
    first_invoke_us: float
    base_rss_bytes: int | None
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class Measurement:
    """Raw samples of one model on one machine, what they say, and all that a reader needs to judge them.

    Attributes:
        kind: "measured" on the machine itself, "emulated" or "estimated". Never to be mixed in one column.
        target: Name of the target.
        artifact: The model file.
        size_bytes: Its size.
        sha256: Its hash.
        runtime: Name of the runtime.
        runtime_version: Its version.
        threads: Threads of the runtime.
        plan: How long was measured.
        versions: Of Python and numpy in the worker.
        machine: "device", "cpu", "num_cores", "governor", "system", "architecture", "load_average" (when the
            measurement began), None where unknown.
        statistics: Derived from the counted samples of all processes.
        warnings: Sentences about what makes the numbers doubtful.
        processes: The raw samples.
    """

    kind: Kind
    target: str
    artifact: Path
    size_bytes: int
    sha256: str
    runtime: str
    runtime_version: str
    threads: int
    plan: BenchPlan
    versions: dict[str, str]
    machine: dict[str, Any]
    statistics: Statistics
    warnings: tuple[str, ...]
    processes: tuple[ProcessSamples, ...]

    @property
    def p50_us(self) -> float:
        """The median."""
        return self.statistics.p50_us

    def to_json(self) -> dict[str, Any]:
        """Returns everything, raw samples included, as JSON values."""
        return {
            **asdict(self),
            "artifact": str(self.artifact),
            "warnings": list(self.warnings),
            "processes": [asdict(process) for process in self.processes],
        }

    def summary(self) -> str:
        """Returns what a person wants to know first, in a few lines of at most 80 columns (warnings are longer)."""
        statistics = self.statistics
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        first = min(self.processes, key=lambda process: process.load_us)
        lines = [
            f"{self.artifact.name} ({self.size_bytes:,} bytes), {self.kind} on {self.target}",
            f"  machine     {self.machine.get('cpu') or 'unknown processor'}, {threads}",
            f"  runtime     {self.runtime} {self.runtime_version}",
            f"  median      {format_us(statistics.p50_us)} ({statistics.confidence:.0%} confidence "
            f"{format_us(statistics.p50_low_us)} to {format_us(statistics.p50_high_us)})",
            f"  p90, p99    {format_us(statistics.p90_us)}, {format_us(statistics.p99_us)}",
            f"  min, max    {format_us(statistics.min_us)}, {format_us(statistics.max_us)} of "
            f"{statistics.num_samples} calls",
            f"  start       load {format_us(first.load_us)}, first call {format_us(first.first_invoke_us)}",
            *_memory(first),
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return "\n".join(lines)


class Target(ABC):
    """Where an artifact runs and is timed.

    Attributes:
        name: The word for it in tables and on the command line.
    """

    name: str

    @abstractmethod
    def measure(self, artifact: str | Path, plan: BenchPlan | str) -> Measurement:
        """Times a model.

        Args:
            artifact: The .tflite file.
            plan: How long to measure: a plan, or the name of one in `PLANS`.

        Returns:
            The samples and what they say.

        Raises:
            ModelRunError: If the model cannot be run there.
            ValueError: If there is no plan of that name.
        """


def format_us(duration_us: float) -> str:
    """Returns a duration in a unit that leaves one to three digits before the point."""
    for factor, unit in ((1.0, "µs"), (1e3, "ms")):
        if duration_us < 999.5 * factor:
            return f"{duration_us / factor:.3g} {unit}"
    return f"{duration_us / 1e6:.3g} s"


def _memory(process: ProcessSamples) -> list[str]:
    if process.base_rss_bytes is None or process.peak_rss_bytes is None:
        return []
    model_bytes = process.peak_rss_bytes - process.base_rss_bytes
    return [f"  memory      {model_bytes / 2**20:.1f} MiB for runtime and model"]
