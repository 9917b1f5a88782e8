"""How long to measure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class BenchPlan:
    """How long to measure.

    Attributes:
        warmup_s: Seconds of calls that are recorded apart and not counted, per process; more until the calls are
            stable.
        max_s: Seconds of counted calls, per process.
        min_runs: Counted calls per process that are made even if they take longer than max_s.
        max_runs: Counted calls per process after which it ends early.
        num_processes: How many workers measure each subject, one after the other, subjects taking turns. More than one
            shows what depends on the process.
        max_warmup_s: Seconds after which the warm-up ends even if the calls are not stable; None for five times
            warmup_s.
        operators: Whether to time by operator too, after the counted calls, where the runtime tells.
    """

    warmup_s: float
    max_s: float
    min_runs: int = 30
    max_runs: int = 20_000
    num_processes: int = 1
    max_warmup_s: float | None = None
    operators: bool = False

    def __post_init__(self) -> None:
        if self.warmup_s < 0 or self.max_s < 0 or self.min_runs < 1 or self.num_processes < 1:
            raise ValueError(f"{self} measures nothing: times must not be negative, numbers at least 1.")
        if self.max_runs < self.min_runs:
            raise ValueError(f"max_runs is {self.max_runs}, less than min_runs {self.min_runs}.")
        if self.max_warmup_s is not None and self.max_warmup_s < self.warmup_s:
            raise ValueError(f"max_warmup_s is {self.max_warmup_s:g}, less than warmup_s {self.warmup_s:g}.")

    def with_operators(self, operators: bool) -> BenchPlan:
        """Returns the plan with or without times by operator."""
        return replace(self, operators=operators)

    def limits(self) -> dict[str, Any]:
        """Returns what one worker needs of it: "plan" of op "bench"."""
        values = {key: value for key, value in asdict(self).items() if key not in ("num_processes", "operators")}
        if values["max_warmup_s"] is None:
            values["max_warmup_s"] = 5 * self.warmup_s
        return values


PLANS = {
    "quick": BenchPlan(warmup_s=0.2, max_s=0.8),
    "full": BenchPlan(warmup_s=0.5, max_s=1.5, min_runs=50, num_processes=5),
}
"""The plans that have a name: for a first look, and for numbers to publish."""


def find_plan(plan: BenchPlan | str) -> BenchPlan:
    """Returns a plan by name, or the plan itself.

    Raises:
        ValueError: If there is no plan of that name.
    """
    if isinstance(plan, BenchPlan):
        return plan
    if plan not in PLANS:
        raise ValueError(f"Plan {plan!r} is not known. Give a BenchPlan or one of {', '.join(map(repr, PLANS))}.")
    return PLANS[plan]
