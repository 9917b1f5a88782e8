"""Target "profile:NAME": an estimate for a device that is not here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from edgelstm.errors import LoadError, ModelRunError, SettingError
from edgelstm.targets.base import Availability, Report, Run, Session, Target, TargetKind
from edgelstm.targets.measurement import Estimate, Kind, Measurement
from edgelstm.targets.plans import BenchPlan
from edgelstm.targets.profile.calibration import Calibration, read_calibration
from edgelstm.targets.profile.cost import estimate_cost
from edgelstm.targets.profile.device import Device, device_names, find_device
from edgelstm.targets.profile.memory import check_memory
from edgelstm.targets.subjects import Subject

if TYPE_CHECKING:
    from edgelstm.targets.profile.work import Work

PREFIX = "profile:"

_RUNTIMES = frozenset({"auto", "ai-edge-litert", "tensorflow-lite", "tflite-runtime"})
_MICRO_RUNTIMES = frozenset({"auto", "tflite-micro"})


class ProfileTarget(Target):
    """Estimates what a model would take on a device.

    Attributes:
        device: Its numbers.
        calibration: The constants of the method.

    Args:
        device: A device, or the name of a profile.
        calibration: None for the constants that come with edgelstm.

    Raises:
        SettingError: If there is no profile of that name.
        TargetError: If its file is damaged.
    """

    kind: Kind = "estimated"

    def __init__(self, device: Device | str, calibration: Calibration | None = None) -> None:
        self.device = find_device(device) if isinstance(device, str) else device
        self.calibration = calibration or read_calibration()
        self.name = PREFIX + self.device.name

    @contextmanager
    def open(self, report: Report | None = None) -> Iterator[Session]:
        """Yields at once: there is nothing to connect to."""
        yield ProfileSession(self)

    def num_rounds(self, plan: BenchPlan) -> int:
        """Returns 1: an estimate is the same each time."""
        return 1

    def conclude(self, subject: Subject, plan: BenchPlan, runs: list[Run]) -> Measurement:
        """Makes a measurement that holds the estimate and no sample; see `Target.conclude`."""
        device = self.device
        return Measurement.of_subject(
            subject,
            kind="estimated",
            target=self.name,
            runtime="none",
            runtime_version="",
            plan=plan,
            machine={
                "device": device.title,
                "cpu": device.cpu,
                "num_cores": device.cores,
                "governor": None,
                "system": None,
                "architecture": device.architecture,
                "load_average": None,
            },
            estimate=Estimate(**runs[0]["estimate"]),
        )


class ProfileSession(Session):
    """Estimates."""

    def __init__(self, target: ProfileTarget) -> None:
        self._target = target

    def run(self, subject: Subject, plan: BenchPlan) -> Run:
        """Estimates a call.

        Raises:
            ModelRunError: If the file is damaged, does not run on the device's runtime or does not fit there, or does
                not say how much it computes.
            SettingError: If it is to be run in a way of which the method knows nothing.
        """
        from edgelstm.targets.profile.work import read_work  # the reader of files takes as long to import as all else

        device, settings = self._target.device, subject.settings
        _check_settings(subject, device)
        if device.is_micro:
            _check_micro(subject, device)
        work = read_work(subject.path, batch=settings.batch, length=settings.length)
        check_memory(subject.path, work, device)
        return {"estimate": asdict(make_estimate(work, device, self._target.calibration, settings.threads))}


def make_estimate(work: Work, device: Device, calibration: Calibration, threads: int = 1) -> Estimate:
    """Estimates a call, with its error band."""
    parts = estimate_cost(work, device, calibration, threads).in_us(device)
    latency_us = sum(parts.values())
    factor = calibration.micro_factor if device.is_micro else calibration.factor
    return Estimate(
        latency_us=latency_us,
        low_us=latency_us / factor,
        high_us=latency_us * factor * device.upper_factor,
        band=_band(device, calibration),
        parts=parts,
        sources=dict(device.sources),
    )


def _band(device: Device, calibration: Calibration) -> str:
    """Says where the error band comes from."""
    text = calibration.micro_band if device.is_micro else calibration.band
    if device.upper_factor == 1:
        return text
    return f"{text}; the upper end is {device.upper_factor:g} times farther: {device.sources['upper_factor']}"


def _check_settings(subject: Subject, device: Device) -> None:
    settings = subject.settings
    known = _MICRO_RUNTIMES if device.is_micro else _RUNTIMES
    if settings.runtime not in known:
        raise SettingError(
            f"{PREFIX}{device.name} estimates the stock kernels of {', '.join(sorted(known - {'auto'}))}, "
            f"not {settings.runtime}. Leave the runtime out."
        )
    if settings.delegate is not None:
        raise SettingError(f"{PREFIX}{device.name} estimates stock kernels, not those of a delegate. Leave it out.")
    for name in ("mode", "dtype"):
        if (value := getattr(settings, name)) is not None:
            raise SettingError(f"{PREFIX}{device.name} knows no {name} {value!r}: that is for Keras. Leave it out.")
    if settings.threads > device.cores:
        raise SettingError(
            f"{PREFIX}{device.name} has {device.cores} core{'s' if device.cores > 1 else ''}, "
            f"not {settings.threads}. Give at most that many threads."
        )


def _check_micro(subject: Subject, device: Device) -> None:
    """Refuses what TensorFlow Lite Micro does not run.

    Raises:
        ModelRunError: If it does not run the file, or answers wrongly.
    """
    from edgelstm.runtime.inspection import inspect
    from edgelstm.runtime.support import read_facts
    from edgelstm.runtime.support.micro import TFLITE_MICRO
    from edgelstm.targets.profile.work import has_sizes

    try:
        inspection = inspect(subject.path)
        verdict = TFLITE_MICRO.rule(read_facts(inspection, subject.path))
    except LoadError as error:
        raise ModelRunError(str(error)) from error
    if verdict.loads == "no" or verdict.right == "no":
        raise ModelRunError(
            f"{subject.path}: {PREFIX}{device.name} runs TensorFlow Lite Micro, which does not run this file: "
            f"{verdict.why}. Convert the model with runtime='micro' in float32 or int8."
        )
    shapes = [tensor.shape for signature in inspection.signatures[:1] for tensor in signature.inputs]
    if not has_sizes(shapes, subject.settings.batch, subject.settings.length):
        raise ModelRunError(
            f"{subject.path}: {PREFIX}{device.name} runs TensorFlow Lite Micro, which resizes nothing. "
            "Leave batch and length out, or give those of the file, or convert the model with them."
        )


def _make(name: str) -> ProfileTarget:
    profile = name.removeprefix(PREFIX)
    if not profile:
        raise SettingError(f"{name} needs the name of a profile: {', '.join(PREFIX + it for it in device_names())}.")
    return ProfileTarget(profile)


def _available() -> list[Availability]:
    return [
        Availability(PREFIX + device.name, True, f"an estimate for {device.title} ({device.cpu}), not a measurement.")
        for device in map(find_device, device_names())
    ]


KIND = TargetKind(form="profile:NAME", prefix=PREFIX, make=_make, available=_available)
