"""Target "adb": an Android phone, reached by the user's own adb.

There are two ways to measure: TensorFlow Lite's native `benchmark_model`, if the user names it, which tells a summary
only; or the worker, in a Python on the phone. `docs/devices.md` tells people how to use both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgelstm.errors import SettingError, TargetError
from edgelstm.targets.adb.facts import Facts, phone_warnings, read_facts
from edgelstm.targets.adb.native import NativeSession, conclude
from edgelstm.targets.adb.problems import INSTALL, find_adb, list_devices
from edgelstm.targets.adb.shell import AdbShell
from edgelstm.targets.base import Availability, Report, Run, Session, TargetKind
from edgelstm.targets.measurement import Kind, Measurement
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.remote.guard import BEAT_S, WATCH_S
from edgelstm.targets.remote.place import RemotePlace
from edgelstm.targets.subjects import Subject
from edgelstm.targets.workers import WorkerSession, WorkerTarget

PREFIX = "adb:"
FORM = "adb:SERIAL"
BENCHMARK_VARIABLE = "EDGELSTM_ANDROID_BENCHMARK"
"""Names the native benchmark_model, a file here."""

PYTHON_VARIABLE = "EDGELSTM_ANDROID_PYTHON"
"""Names the Python there."""

_SERIAL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._:-]*)?")


class AdbTarget(WorkerTarget):
    """Times models on an Android device.

    Attributes:
        serial: Which one; empty for the only one.
        benchmark: The native tool, None to use a Python there.
        python: The Python there, None to look for one.
        timeout_s: Seconds after which a run is stopped.
    """

    kind: Kind = "measured"
    is_here = False

    def __init__(
        self, name: str, *, benchmark: str | Path | None = None, python: str | None = None, timeout_s: float = 600.0
    ) -> None:
        """Reads the name.

        Raises:
            SettingError: If it is none.
        """
        self.name = name
        self.serial = name.removeprefix(PREFIX)
        if not _SERIAL.fullmatch(self.serial):
            raise SettingError(
                f"Target {name!r}: {self.serial!r} cannot be a serial number. Give {FORM} as adb devices lists it, or "
                "adb: if there is only one."
            )
        tool = benchmark or os.environ.get(BENCHMARK_VARIABLE)
        self.benchmark = Path(tool) if tool else None
        self.python = python or os.environ.get(PYTHON_VARIABLE)
        self.timeout_s = timeout_s

    @contextmanager
    def connect(self) -> Iterator[RemotePlace]:
        """Connects; leaving the context removes the folder there, also after an error.

        Raises:
            TargetError: If the device cannot be reached.
        """
        place = RemotePlace(AdbShell(self.name, self.serial, self.python), beat_s=BEAT_S, watch_s=WATCH_S)
        try:
            yield place
        finally:
            place.close()

    @contextmanager
    def open_place(self, report: Report | None) -> Iterator[RemotePlace]:
        """Connects and finds a Python; see `WorkerTarget.open_place`."""
        if report:
            report(f"{self.name}: connecting")
        with self.connect() as place:
            _ = place.python
            yield place

    @contextmanager
    def open(self, report: Report | None = None) -> Iterator[Session]:
        """Makes the phone ready for the tool, or for workers; see `Target.open`."""
        if self.benchmark is None:
            with self.open_place(report) as place:
                yield _PythonSession(self, place)
            return
        if not self.benchmark.is_file():
            raise TargetError(
                f"{self.name}: {self.benchmark} is no file. {BENCHMARK_VARIABLE} must name the native tool."
            )
        if report:
            report(f"{self.name}: connecting")
        with self.connect() as place:
            yield NativeSession(place, self.benchmark, self.timeout_s)

    def conclude(self, subject: Subject, plan: BenchPlan, runs: list[Run]) -> Measurement:
        """Makes a measurement; see `Target.conclude`."""
        if "summary" in runs[0]:
            return conclude(self.name, subject, plan, runs)
        measurement = super().conclude(subject, plan, runs)
        phone = runs[0]["phone"]
        told = {key: value for key, value in phone["machine"].items() if value is not None and key != "num_cores"}
        statuses = [status for run in runs for status in run["phone"]["statuses"]]
        warnings = phone_warnings(list(measurement.warnings), told.get("governor"), statuses)
        return replace(measurement, machine={**measurement.machine, **told}, warnings=tuple(warnings))


class _PythonSession(WorkerSession):
    """Workers in a Python on the phone, and what the phone tells before and after each."""

    def __init__(self, target: AdbTarget, place: RemotePlace) -> None:
        super().__init__(target, place)
        self._shell = place.shell

    def run(self, subject: Subject, plan: BenchPlan) -> Run:
        """Runs one worker; see `Session.run`."""
        before = read_facts(self._shell)
        run = super().run(subject, plan)
        after: Facts = read_facts(self._shell)
        return {**run, "phone": {"machine": before.machine, "statuses": [before.thermal_status, after.thermal_status]}}


def _available() -> list[Availability]:
    program = find_adb()
    if program is None:
        return [Availability(FORM, False, f"there is no adb program here; {INSTALL}.")]
    try:
        devices = list_devices(program)
    except TargetError as error:
        return [Availability(FORM, False, str(error))]
    if not devices:
        return [Availability(FORM, False, "adb sees no device. Plug one in with USB debugging switched on.")]
    return [
        Availability(
            f"{PREFIX}{each.serial}", each.problem is None, f"{each.problem or each.model or 'an Android device'}."
        )
        for each in devices
    ]


KIND = TargetKind(form=FORM, prefix=PREFIX, make=AdbTarget, available=_available)
