"""Target "cpu": the machine that edgelstm itself runs on.

Beside `edgelstm.artifact` and `edgelstm.errors` this target uses `edgelstm.runtime.child`, which starts the worker as a
child process.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgelstm.errors import ModelRunError
from edgelstm.runtime.child import run_worker
from edgelstm.targets.base import BenchPlan, Measurement, ProcessSamples, Target, find_plan
from edgelstm.targets.statistics import summarize


@dataclass(frozen=True)
class CpuTarget(Target):
    """Times models on this machine.

    Attributes:
        threads: Threads of the runtime.
        runtime: Name of a runtime, or "auto".
        seed: Of the random input. Integers are 0 or 1: valid whatever they stand for.
        timeout_s: Seconds after which a worker is stopped.
    """

    threads: int = 1
    runtime: str = "auto"
    seed: int = 0
    timeout_s: float = 600.0
    name = "cpu"

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}, but a runtime needs at least 1.")

    def measure(self, artifact: str | Path, plan: BenchPlan | str = "full") -> Measurement:
        """Times a model in as many workers, one after the other, as the plan says; see `Target.measure`.

        Raises:
            ModelRunError: If the model cannot be run.
            MissingExtraError: If the runtime is not installed.
            ValueError: If there is no plan of that name.
        """
        plan, path = find_plan(plan), Path(artifact)
        content = _read(path)
        runs = [self._run_worker(path, plan) for _ in range(plan.num_processes)]
        ready, results = runs[0][0], [events[-1] for events in runs]
        processes = tuple(ProcessSamples(**_select(result, ProcessSamples)) for result in results)
        statistics = summarize([process.samples_ns for process in processes], seed=self.seed)
        warnings = [] if statistics.stable else [statistics.stability]
        if not all(result["outputs_finite"] for result in results):
            warnings.append(
                "The model answered NaN or an infinity to random input: check it before believing its speed."
            )
        return Measurement(
            kind="measured",
            target=self.name,
            artifact=path,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            runtime=ready["runtime"],
            runtime_version=ready["runtime_version"],
            threads=self.threads,
            plan=plan,
            versions={"python": ready["python"], "numpy": ready["numpy"]},
            machine=results[0]["machine"],
            statistics=statistics,
            warnings=tuple(warnings + _machine_warnings(results[0]["machine"], self.threads)),
            processes=processes,
        )

    def _run_worker(self, path: Path, plan: BenchPlan) -> list[dict[str, Any]]:
        limits = {key: value for key, value in asdict(plan).items() if key != "num_processes"}
        worker_plan = {
            "op": "bench",
            "model": str(path),
            "runtime": self.runtime,
            "threads": self.threads,
            "plan": limits,
            "seed": self.seed,
        }
        return run_worker(worker_plan, timeout_s=self.timeout_s)


def bench(path: str | Path, *, threads: int = 1, runtime: str = "auto", plan: BenchPlan | str = "full") -> Measurement:
    """Times a model on this machine.

    Args:
        path: The .tflite file.
        threads: Threads of the runtime.
        runtime: "ai-edge-litert", "tflite-runtime", or "auto" for the first of them that is installed;
            "litert-compiled" (the CompiledModel of ai-edge-litert) or "tflite-micro".
        plan: "quick" (about a second), "full" (about ten) or a `BenchPlan`.

    Returns:
        The samples and what they say.

    Raises:
        ModelRunError: If the model cannot be run.
        MissingExtraError: If the runtime is not installed.
        ValueError: If threads is less than 1 or there is no plan of that name.
    """
    return CpuTarget(threads=threads, runtime=runtime).measure(path, plan)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelRunError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}.") from error


def _select(result: dict[str, Any], kind: type[ProcessSamples]) -> dict[str, Any]:
    return {name: result[name] for name in kind.__dataclass_fields__}


def _machine_warnings(machine: dict[str, Any], threads: int) -> list[str]:
    """Says what about the machine makes timings vary."""
    warnings = []
    governor, num_cores = machine["governor"], machine["num_cores"]
    if governor is not None and governor != "performance":
        warnings.append(
            f"The processor's governor is {governor!r}, so its clock varies. "
            "Try: sudo cpupower frequency-set -g performance."
        )
    if num_cores is not None and threads > num_cores:
        warnings.append(f"{threads} threads share {num_cores} cores. Measure with threads={num_cores} or fewer.")
    return warnings
