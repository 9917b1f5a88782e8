"""Measures models on targets: what `edgelstm.bench` and `edgelstm bench` call."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgelstm.errors import SettingError
from edgelstm.runtime.interpreters import PACKAGES
from edgelstm.targets import find_target
from edgelstm.targets.base import Report
from edgelstm.targets.harness import BenchResult, measure_all
from edgelstm.targets.journal import Journal
from edgelstm.targets.measurement import Measurement
from edgelstm.targets.plans import BenchPlan, find_plan
from edgelstm.targets.subjects import Settings, Subject


@dataclass(frozen=True)
class Matrix:
    """In which ways each model is run: every combination.

    Attributes:
        runtimes: Names of runtimes, or "auto".
        threads: Threads of the runtime.
        batches: First dimension of every input; None as in the file.
        lengths: Time steps, where the file leaves them free; None as in the file.
        delegates: Paths of external delegates, None for none.
        modes: How Keras runs a model: "jit", "graph" or "eager"; None for the target's choice.
        dtypes: What Keras computes in: "float32" or "float16"; None for the target's choice.
        seed: Of the random input.
    """

    runtimes: Sequence[str] = ("auto",)
    threads: Sequence[int] = (1,)
    batches: Sequence[int | None] = (None,)
    lengths: Sequence[int | None] = (None,)
    delegates: Sequence[str | None] = (None,)
    modes: Sequence[str | None] = (None,)
    dtypes: Sequence[str | None] = (None,)
    seed: int = 0

    def settings(self) -> list[Settings]:
        """Returns the combinations.

        Raises:
            ValueError: If a value is impossible.
        """
        ways = itertools.product(
            self.runtimes, self.threads, self.batches, self.lengths, self.delegates, self.modes, self.dtypes
        )
        return [Settings(*way, seed=self.seed) for way in ways]


def bench(
    path: str | Path,
    *,
    target: str = "cpu",
    threads: int = 1,
    runtime: str = "auto",
    plan: BenchPlan | str = "full",
    batch: int | None = None,
    length: int | None = None,
    delegate: str | None = None,
) -> Measurement:
    """Times a model on a target.

    Args:
        path: The .tflite, .onnx or .keras file.
        target: Name of the target: "cpu", "ssh://pi@raspberrypi", "emulated:arm64", "profile:raspberry-pi-4" …
        threads: Threads of the runtime.
        runtime: "ai-edge-litert", "tflite-runtime", "tensorflow-lite", "litert-compiled", "tflite-micro",
            "onnxruntime", "keras-tensorflow", "keras-jax", "keras-torch", or "auto" for the first that is installed
            and takes the file.
        plan: "quick" (about a second), "full" (about ten) or a `BenchPlan`.
        batch: First dimension of every input; None as in the file.
        length: Time steps, where the file leaves them free; None as in the file.
        delegate: Path of an external delegate.

    Returns:
        The samples and what they say.

    Raises:
        ModelRunError: If the model cannot be run.
        TargetError: If the target cannot be reached, or lacks what is needed.
        MissingExtraError: If the runtime is not installed.
        ValueError: If a value is impossible, or there is no such target or plan.
    """
    settings = Settings(runtime, threads, batch, length, delegate)
    return find_target(target).measure(path, plan, settings)


def check_runtime(name: str) -> None:
    """Refuses the name of a runtime that there is not.

    Raises:
        SettingError: If there is none of that name.
    """
    if name != "auto" and name not in PACKAGES:
        raise SettingError(f"Runtime {name!r} is not known, only {', '.join(PACKAGES)} and auto.")


def bench_all(
    paths: Sequence[str | Path],
    *,
    targets: Sequence[str] = ("cpu",),
    matrix: Matrix | None = None,
    plan: BenchPlan | str = "full",
    journal_path: Path | None = None,
    timeout_s: float | None = None,
    report: Report | None = None,
) -> BenchResult:
    """Times models on targets, each in every way of a matrix, all taking turns.

    Args:
        paths: The files. What cannot be measured is among the result's failures.
        targets: Names of targets.
        matrix: How the models are run.
        plan: "quick", "full" or a `BenchPlan`.
        journal_path: Where finished rounds are kept, so that an interrupted run goes on; the caller removes it.
        timeout_s: Seconds after which one process is stopped; None for ten minutes.
        report: Is told what is being done.

    Raises:
        ModelRunError: If a file cannot be read.
        OutputError: If the journal cannot be written.
        SettingError: If there is no such target or runtime.
        ValueError: If a value is impossible, or there is no such plan.
    """
    plan, ways = find_plan(plan), (matrix or Matrix()).settings()
    for way in ways:
        check_runtime(way.runtime)
    found = [find_target(name) for name in dict.fromkeys(targets)]
    for target in found:
        target.timeout_s = timeout_s or target.timeout_s
    subjects = [replace(subject, settings=way) for subject in map(Subject.read, paths) for way in ways]
    return measure_all(found, subjects, plan, journal=Journal(journal_path, plan), report=report)
