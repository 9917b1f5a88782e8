"""What was measured, and what it says. `docs/bench.md` describes the JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.records import read_record
from edgelstm.targets.statistics import Statistics
from edgelstm.targets.subjects import Settings, Subject

Kind = Literal["measured", "emulated", "estimated"]


@dataclass(frozen=True)
class ProcessSamples:
    """What one worker process measured. None stands for what the system or the runtime does not tell.

    Attributes:
        samples_ns: Duration of every counted call, in order.
        warmup_ns: Duration of every call before those, in order, but for the first.
        load_us: Creating the interpreter and allocating its tensors.
        first_invoke_us: The first call.
        base_rss_bytes: Resident memory of the process before it loaded the model.
        peak_rss_bytes: Its resident memory at most.
        arena_bytes: Memory for the tensors.
        warmup_stable: Whether the warm-up ended because the calls had become stable.
        overhead_ns: What timing a call costs: the median duration of calls that do nothing. It is in every sample.
        prepare_ns: What the harness does between two calls, which is in none: feeding the inputs, readings.
        cold_start: Times until the first answer in µs, by part: "process_us", "import_us", "load_us",
            "first_invoke_us".
        conditions: Clock, temperature and throttling before, during and after the calls.
        energy: "source", "joules", "seconds", "calls".
        operators: Time by operator.
    """

    samples_ns: list[int]
    warmup_ns: list[int]
    load_us: float
    first_invoke_us: float
    base_rss_bytes: int | None = None
    peak_rss_bytes: int | None = None
    arena_bytes: int | None = None
    warmup_stable: bool | None = None
    overhead_ns: float | None = None
    prepare_ns: float | None = None
    cold_start: dict[str, float | None] | None = None
    conditions: list[dict[str, Any]] = field(default_factory=list)
    energy: dict[str, Any] | None = None
    operators: list[dict[str, Any]] | None = None

    @classmethod
    def of_result(cls, result: dict[str, Any]) -> ProcessSamples:
        """Takes the samples out of the last event of a worker."""
        return cls(**{name: result[name] for name in cls.__dataclass_fields__ if name in result})


@dataclass(frozen=True)
class Estimate:
    """What a model would take on a device, computed, not measured.

    Attributes:
        latency_us: The estimate.
        low_us: Lower end of its error band.
        high_us: Upper end.
        band: Where the band comes from, in a sentence.
        parts: Share of multiply-accumulates, bytes moved and operator overheads, in µs by name.
        sources: Where each number of the profile comes from, by name.
    """

    latency_us: float
    low_us: float
    high_us: float
    band: str
    parts: dict[str, float]
    sources: dict[str, str]


@dataclass(frozen=True)
class InstructionCount:
    """What the emulated processor executed in one inference. It is no latency.

    Attributes:
        instructions: In one inference, the median over those counted.
        least: The least of those counted.
        most: The greatest.
        inferences: How many were counted.
        parts: Instructions by class, loads, stores and bytes, by name.
        cpu: The processor that was emulated.
    """

    instructions: int
    least: int
    most: int
    inferences: int
    parts: dict[str, int]
    cpu: str


@dataclass(frozen=True)
class Measurement:
    """Raw samples of one model on one machine, what they say, and all that a reader needs to judge them.

    Attributes:
        kind: "measured" on the machine itself, "emulated" or "estimated". Never to be mixed in one column.
        target: Name of the target.
        artifact: The model file.
        size_bytes: Its size.
        sha256: Its hash.
        runtime: Name of the runtime; "none" for an estimate.
        runtime_version: Its version.
        settings: How the model was run.
        plan: How long was measured.
        versions: Of Python and numpy in the worker.
        machine: "device", "cpu", "num_cores", "cores" (which of them the process was kept on), "governor", "system",
            "architecture", "load_average" (when the measurement began), None where unknown.
        statistics: Derived from the counted samples of all processes; None unless the kind is "measured".
        estimate: Only if the kind is "estimated".
        count: Only if the kind is "emulated".
        warnings: Sentences about what makes the numbers doubtful.
        processes: The raw samples.
        accuracy: The score of the model that its card knows, None if it knows none.
        shapes: Of the inputs that were fed, by name.
        num_rounds_kept: How many of the processes are of an earlier run that was interrupted.
    """

    kind: Kind
    target: str
    artifact: Path
    size_bytes: int
    sha256: str
    runtime: str
    runtime_version: str
    settings: Settings
    plan: BenchPlan
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    statistics: Statistics | None = None
    estimate: Estimate | None = None
    count: InstructionCount | None = None
    warnings: tuple[str, ...] = ()
    processes: tuple[ProcessSamples, ...] = ()
    accuracy: dict[str, Any] | None = None
    shapes: dict[str, list[int]] = field(default_factory=dict)
    num_rounds_kept: int = 0

    @classmethod
    def of_subject(cls, subject: Subject, **told: Any) -> Measurement:
        """Makes a measurement of a subject; `told` are the other attributes."""
        return cls(
            artifact=subject.path,
            size_bytes=subject.size_bytes,
            sha256=subject.sha256,
            settings=subject.settings,
            **told,
        )

    @property
    def p50_us(self) -> float:
        """The measured median.

        Raises:
            ValueError: If nothing was timed: emulated and estimated numbers are not latencies.
        """
        if self.statistics is None:
            raise ValueError(f"{self.artifact} on {self.target} was {self.kind}, not timed: it has no median latency.")
        return self.statistics.p50_us

    def groups_ns(self) -> list[list[int]]:
        """Returns the counted samples by process."""
        return [process.samples_ns for process in self.processes]

    def to_json(self) -> dict[str, Any]:
        """Returns everything, raw samples included, as JSON values."""
        return {
            **asdict(self),
            "artifact": str(self.artifact),
            "warnings": list(self.warnings),
            "processes": [asdict(process) for process in self.processes],
        }

    @classmethod
    def from_json(cls, document: Any) -> Measurement:
        """Reads what `to_json` wrote; values that are not known are left out.

        Raises:
            ValueError: If it is not that.
        """
        read = read_record(cls, document)
        told = {"measured": read.statistics, "emulated": read.count, "estimated": read.estimate}[read.kind]
        if told is None:
            raise ValueError(f"a model that is {read.kind} has no numbers")
        numbers: list[float] = [sample for process in read.processes for sample in process.samples_ns]
        numbers += [read.statistics.p50_us, read.statistics.p50_low_us] if read.statistics else []
        numbers += [read.count.instructions] if read.count else []
        numbers += [read.estimate.latency_us] if read.estimate else []
        if min(numbers) <= 0:
            raise ValueError("a duration or a count is not positive")
        return read
