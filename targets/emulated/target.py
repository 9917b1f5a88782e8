"""The target: counts instructions of one inference, and checks the answers."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import EdgeLSTMError, ModelRunError, SettingError
from edgelstm.runtime.child import PROTOCOL, conclude, run_worker, worker_file
from edgelstm.targets.base import Report, Run, Session, Target
from edgelstm.targets.emulated.boards import BOARDS, DEFAULT_BOARDS, NUM_CORES
from edgelstm.targets.emulated.comparison import Comparison, compare_outputs, tolerance_of
from edgelstm.targets.emulated.counts import per_inference, summarize_counts
from edgelstm.targets.emulated.emulator import Completed, Emulator
from edgelstm.targets.emulated.pins import ARCHITECTURES, PYTHON, QEMU
from edgelstm.targets.measurement import Kind, Measurement
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.subjects import Settings, Subject

CALLS = 5
"""Inferences that are counted: they differ by some hundred instructions of Python around them."""


class EmulatedTarget(Target):
    """Counts instructions on an emulated Raspberry Pi. It measures no time.

    Attributes:
        architecture: What is emulated.
        board: Name of the board.
        timeout_s: Seconds after which a worker is stopped.

    Args:
        architecture: "arm64" or "armhf".
        board: A name of `BOARDS`; None for the architecture's usual one.
        timeout_s: See above. Emulation is up to 100 times slower than this machine.
    """

    kind: Kind = "emulated"

    def __init__(self, architecture: str = "arm64", board: str | None = None, *, timeout_s: float = 600.0) -> None:
        self.architecture = ARCHITECTURES[architecture]
        self.board = BOARDS[board or DEFAULT_BOARDS[architecture]]
        self.timeout_s = timeout_s
        self.name = f"emulated:{architecture}" + (f"/{board}" if board else "")

    @contextmanager
    def open(self, report: Report | None = None) -> Iterator[Session]:
        """Finds the userland; see `Target.open`."""
        with Emulator.open(self.architecture.name, self.board.name) as emulator:
            yield EmulatedSession(self, emulator)

    def num_rounds(self, plan: BenchPlan) -> int:
        """Returns 1: counts repeat."""
        return 1

    def check(self, settings: Settings) -> None:
        """Checks that a model can be run so here.

        Raises:
            SettingError: If not.
        """
        if settings.threads != 1:
            raise SettingError(
                f"{self.name} counts one thread only: threads wait for each other in loops, as often as chance has it, "
                f"so that counts of {settings.threads} do not repeat. Leave out --threads."
            )
        if settings.runtime not in ("auto", *self.architecture.runtimes):
            raise SettingError(
                f"{self.name} has no runtime {settings.runtime!r}, only {', '.join(self.architecture.runtimes)}."
            )

    def conclude(self, subject: Subject, plan: BenchPlan, runs: list[Run]) -> Measurement:
        """Makes a measurement of the counts; see `Target.conclude`."""
        ready, compared = runs[0]["ready"], runs[0]["comparison"]
        comparison = Comparison(**compared) if compared else None
        counts = [counters for run in runs for counters in run["inferences"]]
        return Measurement.of_subject(
            subject,
            kind="emulated",
            target=self.name,
            runtime=ready["runtime"],
            runtime_version=ready["runtime_version"],
            plan=plan,
            versions={name: ready[name] for name in ("python", "numpy")},
            machine={**self._machine(), **_outcome(comparison)},
            count=summarize_counts(counts, runs[0]["core"]),
            warnings=tuple(_warnings(comparison, runs[0]["not_compared"])),
        )

    def _machine(self) -> dict[str, Any]:
        return {
            "device": f"{self.board.model}, emulated by QEMU {QEMU}",
            "cpu": self.board.core,
            "num_cores": NUM_CORES,
            "governor": None,
            "system": "Linux",
            "architecture": self.architecture.machine,
            "load_average": None,
        }


class EmulatedSession(Session):
    """Workers in the userland, one for each subject, and one beside it on this machine.

    Args:
        target: What is emulated.
        emulator: Its userland.
    """

    def __init__(self, target: EmulatedTarget, emulator: Emulator) -> None:
        self._target = target
        self._emulator = emulator

    def run(self, subject: Subject, plan: BenchPlan) -> Run:
        """Runs a model in the userland and on this machine; see `Session.run`.

        Raises:
            SettingError: If it cannot be run so here.
        """
        self._target.check(subject.settings)
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
            there, here = Path(folder) / "there.npz", Path(folder) / "here.npz"
            worker_plan = _worker_plan(subject)
            done = self._run_worker(subject, {**worker_plan, "outputs": str(there)})
            ready, *_, _result = done.events
            comparison, problem = _compare(subject, worker_plan, there, here)
        return {
            "ready": ready,
            "core": self._emulator.core,
            "inferences": per_inference(done.marks),
            "comparison": comparison and comparison.to_json(),
            "not_compared": problem,
        }

    def _run_worker(self, subject: Subject, plan: dict[str, Any]) -> _Done:
        """Runs the worker in the userland.

        Not isolated from its environment, as elsewhere: the seed of hashes is in it. Nothing else is.
        """
        argv = [str(self._emulator.python), "-s", "-P", "-B", str(worker_file())]
        try:
            done = self._emulator.run(argv, stdin=json.dumps(plan), timeout_s=self._target.timeout_s, counted=True)
        except subprocess.TimeoutExpired as error:
            raise ModelRunError(
                f"{subject.path}: the worker in {self._target.name} was stopped after {self._target.timeout_s:g} s. "
                "The model is too large to be emulated, or never answers."
            ) from error
        python = f"Python {PYTHON} of {self._target.name}"
        return _Done(done, conclude({**plan, "model": subject.path}, python, done.status, done.stdout, done.stderr))


class _Done:
    """What a worker in the userland told, to edgelstm and to the plugin."""

    def __init__(self, completed: Completed, events: list[dict[str, Any]]) -> None:
        self.marks = completed.marks
        self.events = events


def _worker_plan(subject: Subject) -> dict[str, Any]:
    settings = subject.settings
    optional = {
        "batch": settings.batch,
        "length": settings.length,
        "delegate": settings.delegate and {"library": str(Path(settings.delegate).absolute()), "options": {}},
        "mode": settings.mode,
        "dtype": settings.dtype,
    }
    return {
        "protocol": PROTOCOL,
        "op": "count",
        "model": str(subject.path.absolute()),
        "runtime": settings.runtime,
        "seed": settings.seed,
        "calls": CALLS,
        **{key: value for key, value in optional.items() if value is not None},
    }


def _compare(subject: Subject, plan: dict[str, Any], there: Path, here: Path) -> tuple[Comparison | None, str | None]:
    """Runs the same calls on this machine, in its own usual runtime and without the delegate, which is for Arm.

    Returns:
        How the answers differ, or None and why they were not compared.
    """
    plan = {key: value for key, value in plan.items() if key != "delegate"}
    try:
        ready, *_ = run_worker({**plan, "runtime": "auto", "outputs": str(here)})
    except EdgeLSTMError as error:
        return None, str(error)
    name = f"{ready['runtime']} {ready['runtime_version']}"
    return compare_outputs(_read(there), _read(here), name, tolerance_of(subject.path)), None


def _read(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _outcome(comparison: Comparison | None) -> dict[str, Any]:
    if comparison is None:
        return {"largest_difference": None, "equal_share": None, "compared_with": None}
    return {key: value for key, value in comparison.to_json().items() if key != "problem"}


def _warnings(comparison: Comparison | None, not_compared: str | None) -> list[str]:
    if comparison is None:
        return [f"The answers were not compared with those of this machine: {not_compared}"]
    return [comparison.problem] if comparison.problem else []
