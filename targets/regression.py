"""Whether something became slower since an earlier run: `edgelstm bench --compare OLD.json NEW.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgelstm.targets.comparison import Ratio, compare
from edgelstm.targets.measurement import Measurement

Verdict = Literal["slower", "faster", "same", "unsure"]

TOLERANCE = 0.05
"""Share by which two runs of the same model may differ: what a quiet desktop differs by from run to run."""

COUNT_TOLERANCE = 0.005
"""The same for instruction counts, which repeat to the instruction on the same userland."""


@dataclass(frozen=True)
class Change:
    """What became of one model on one target.

    Attributes:
        artifact: Name of the file.
        target: Name of the target.
        settings: How it is run, for people.
        kind: What the numbers are.
        ratio: New over old.
        verdict: "slower" or "faster" if the whole confidence interval lies beyond the tolerance, "same" if it lies
            within, "unsure" if it holds the limit.
        tolerance: The share that was allowed.
    """

    artifact: str
    target: str
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
    """

    changes: tuple[Change, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]

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
        ValueError: If the tolerance is negative.
    """
    if tolerance < 0:
        raise ValueError(f"The tolerance is {tolerance:g}, but must not be negative.")
    before, after = ({_key(each): each for each in side} for side in (old, new))
    return RegressionReport(
        changes=tuple(_change(before[key], after[key], tolerance) for key in before if key in after),
        missing=tuple(_title(before[key]) for key in before if key not in after),
        added=tuple(_title(after[key]) for key in after if key not in before),
    )


def _change(old: Measurement, new: Measurement, tolerance: float) -> Change:
    ratio = compare(old, new, interleaved=False)
    allowed = min(tolerance, COUNT_TOLERANCE) if new.kind == "emulated" else tolerance
    return Change(
        new.artifact.name, new.target, new.settings.describe(), new.kind, ratio, _verdict(ratio, allowed), allowed
    )


def _verdict(ratio: Ratio, tolerance: float) -> Verdict:
    if ratio.low > 1 + tolerance:
        return "slower"
    if ratio.high < 1 / (1 + tolerance):
        return "faster"
    inside = ratio.low >= 1 / (1 + tolerance) and ratio.high <= 1 + tolerance
    return "same" if inside else "unsure"


def _key(measurement: Measurement) -> tuple[object, ...]:
    return measurement.artifact.name, measurement.target, measurement.kind, measurement.runtime, measurement.settings


def _title(measurement: Measurement) -> str:
    return f"{measurement.artifact.name} on {measurement.target} ({measurement.settings.describe()})"
