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
        One name for each. Files go without their ending where that leaves them different, and with as many folders as
        tell those of one name apart.
    """
    files = _name_files([measurement.artifact for measurement in measurements])
    differing = _differing([measurement.settings for measurement in measurements])
    runtimes = {measurement.runtime for measurement in measurements}
    names = []
    for measurement in measurements:
        parts = [files[measurement.artifact]]
        if len(runtimes) > 1:
            parts.append(measurement.runtime)
        parts += [_part(name, measurement.settings) for name in differing]
        names.append(", ".join(part for part in parts if part))
    return names


def _name_files(paths: Sequence[Path]) -> dict[Path, str]:
    """Returns a name for each file."""
    is_short = len({path.stem for path in paths}) == len({path.name for path in paths})
    names = {}
    for path in paths:
        folders = _distinct_end(path, set(paths)).parent
        names[path] = (folders / (path.stem if is_short else path.name)).as_posix()
    return names


def _distinct_end(path: Path, paths: set[Path]) -> Path:
    """Returns the fewest parts at the end of a path that no other one ends with."""
    others = paths - {path}
    for num_parts in range(1, len(path.parts)):
        end = path.parts[-num_parts:]
        if all(other.parts[-num_parts:] != end for other in others):
            return Path(*end)
    return path


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
