"""Names of measurements in tables and plots: as short as they can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgelstm.targets.measurement import Measurement
from edgelstm.targets.subjects import Settings


def name_all(measurements: Sequence[Measurement]) -> list[str]:
    """Names measurements of one target by what tells them apart: the file, the runtime, single settings.

    Returns:
        One name for each; files go without their ending where that leaves them different.
    """
    files = [measurement.artifact for measurement in measurements]
    is_short = len({file.stem for file in files}) == len({file.name for file in files})
    differing = _differing([measurement.settings for measurement in measurements])
    runtimes = {measurement.runtime for measurement in measurements}
    names = []
    for measurement in measurements:
        parts = [measurement.artifact.stem if is_short else measurement.artifact.name]
        if len(runtimes) > 1:
            parts.append(measurement.runtime)
        parts += [_part(name, measurement.settings) for name in differing]
        names.append(", ".join(part for part in parts if part))
    return names


def _differing(settings: Sequence[Settings]) -> list[str]:
    fields = ("threads", "batch", "length", "mode", "dtype", "delegate")
    return [name for name in fields if len({getattr(each, name) for each in settings}) > 1]


def _part(name: str, settings: Settings) -> str:
    value = getattr(settings, name)
    if value is None:
        return ""
    if name == "threads":
        return replace(Settings(), threads=value).describe()
    if name == "delegate":
        return Path(value).name
    return f"{name} {value}" if isinstance(value, int) else str(value)
