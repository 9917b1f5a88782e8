"""Whether something became slower since an earlier run: `edgelstm bench --compare OLD.json NEW.json`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgelstm.errors import LoadError
from edgelstm.targets.comparison import Ratio, compare
from edgelstm.targets.measurement import Measurement

Verdict = Literal["slower", "faster", "same", "unsure"]
Key = tuple[object, ...]

TOLERANCE = 0.05
"""Share by which two runs of the same model may differ: what a quiet desktop differs by from run to run."""

COUNT_TOLERANCE = 0.005
"""The same for instruction counts, which repeat to the instruction on the same userland."""

UNKNOWN_NOISE = 0.15
"""Share by which processes may differ where one process on a side does not tell: what a busy shared machine shows."""


@dataclass(frozen=True)
class Change:
    """What became of one model on one target.

    Attributes:
        artifact: Name of the file.
        target: Name of the target.
        runtime: Name of the runtime.
        settings: How it is run, for people.
        kind: What the numbers are.
        ratio: New over old.
        verdict: "slower" or "faster" if the whole confidence interval lies beyond the tolerance, "same" if it lies
            within, "unsure" if it holds the limit.
        tolerance: The share that was allowed.
    """

    artifact: str
    target: str
    runtime: str
    settings: str
    kind: str
    ratio: Ratio
    verdict: Verdict
    tolerance: float

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class RegressionReport:
    """What became of all models.

    Attributes:
        changes: What both runs measured.
        missing: What only the old run measured.
        added: What only the new run measured.
        notes: What else differs between the runs, in sentences.
    """

    changes: tuple[Change, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_regression(self) -> bool:
        """Whether something became slower beyond the noise, or was not measured any more."""
        return bool(self.missing) or any(change.verdict == "slower" for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {
            "format": "edgelstm-bench-comparison-1",
            "regression": self.has_regression,
            "changes": [change.to_json() for change in self.changes],
            "missing": list(self.missing),
            "added": list(self.added),
            "notes": list(self.notes),
        }


def find_regressions(
    old: Sequence[Measurement], new: Sequence[Measurement], tolerance: float = TOLERANCE
) -> RegressionReport:
    """Compares two runs, model by model: same file name, target, runtime and settings.

    Args:
        old: The measurements of the earlier run.
        new: Those of the later run.
        tolerance: Share by which a latency may differ.

    Raises:
        LoadError: If the runs have nothing in common, or one holds a model twice.
        ValueError: If the tolerance is negative or no number.
    """
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise ValueError(f"The tolerance is {tolerance:g}, but must not be negative.")
    twice = {
        name for side in (old, new) for name, count in Counter(_loose_key(each) for each in side).items() if count > 1
    }
    before, after = (_by_key(side, twice) for side in (old, new))
    common = [key for key in before if key in after]
    if not common:
        raise LoadError(
            "The two outputs have no model in common: same file name, target, runtime and settings. Give outputs of "
            "the same command."
        )
    return RegressionReport(
        changes=tuple(_change(before[key], after[key], tolerance) for key in common),
        missing=tuple(_title(before[key]) for key in before if key not in after),
        added=tuple(_title(after[key]) for key in after if key not in before),
        notes=tuple(dict.fromkeys(note for key in common for note in _differences(before[key], after[key]))),
    )


def _change(old: Measurement, new: Measurement, tolerance: float) -> Change:
    ratio = compare(old, new, interleaved=False)
    allowed = min(tolerance, COUNT_TOLERANCE) if new.kind == "emulated" else tolerance
    return Change(
        artifact=new.artifact.name,
        target=new.target,
        runtime=new.runtime,
        settings=new.settings.describe(),
        kind=new.kind,
        ratio=ratio,
        verdict=_verdict(ratio, allowed),
        tolerance=allowed,
    )


def _verdict(ratio: Ratio, tolerance: float) -> Verdict:
    noise = 1.0 if ratio.is_known else 1 + UNKNOWN_NOISE
    low, high = ratio.low / noise, ratio.high * noise
    if low > 1 + tolerance:
        return "slower"
    if high < 1 / (1 + tolerance):
        return "faster"
    inside = low >= 1 / (1 + tolerance) and high <= 1 + tolerance
    return "same" if inside else "unsure"


def _loose_key(measurement: Measurement) -> Key:
    """What tells models apart, wherever file and delegate lie."""
    settings = measurement.settings
    delegate = Path(settings.delegate).name if settings.delegate else None
    ways = (settings.threads, settings.batch, settings.length, settings.mode, settings.dtype, delegate)
    return measurement.artifact.name, measurement.target, measurement.kind, measurement.runtime, ways


def _by_key(measurements: Sequence[Measurement], twice: set[Key]) -> dict[Key, Measurement]:
    """Returns measurements by what tells them apart: by the whole path where one name is there twice.

    Raises:
        LoadError: If two are the same even so.
    """
    found: dict[Key, Measurement] = {}
    for measurement in measurements:
        key = _loose_key(measurement)
        if key in twice:
            key = (*key, str(measurement.artifact), measurement.settings.delegate)
        if key in found:
            raise LoadError(f"{_title(measurement)} is in one output twice. Measure every model once.")
        found[key] = measurement
    return found


def _differences(old: Measurement, new: Measurement) -> list[str]:
    """Says what else differs, so that nobody takes another machine for a regression."""
    facts = [
        (f"The {name} of {new.target}", old.machine.get(key), new.machine.get(key))
        for name, key in (("device", "device"), ("processor", "cpu"), ("governor", "governor"))
    ]
    facts.append((f"The version of {new.runtime}", old.runtime_version, new.runtime_version))
    return [
        f"{name} differs: {before or 'unknown'}, then {after or 'unknown'}."
        for name, before, after in facts
        if before != after
    ]


def _title(measurement: Measurement) -> str:
    return (
        f"{measurement.artifact.name} on {measurement.target} ({measurement.runtime}, "
        f"{measurement.settings.describe()})"
    )
