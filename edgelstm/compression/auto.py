"""Finding a recipe: stages from cheap to expensive, each as long as the guard allows it and time is left."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from edgelstm.compression.measures import Measures
from edgelstm.compression.precision import mixed
from edgelstm.compression.recipe import Export
from edgelstm.compression.session import Session
from edgelstm.compression.steps import Step
from edgelstm.converters.lowering.mixed import COARSE_TO_FINE
from edgelstm.converters.stages import make_stage
from edgelstm.converters.stages.base import Stage
from edgelstm.errors import StageError

TIME_BUDGET_S = 30 * 60.0
HEALING_STEPS, TEACHING_STEPS = 2000, 5000
"""Training steps after a cut, and of a student."""

LEAST_EPOCHS, MOST_EPOCHS = 3, 100
CUT, SMALL_CUT = 0.5, 0.25
"""Shares of units that go at once."""


@dataclasses.dataclass(frozen=True)
class Goals:
    """What is looked for.

    Attributes:
        max_size_bytes: Of the file; None for as small as possible.
        max_latency_us: Of a call on the target; None for any.
        time_budget_s: After so many seconds no further stage begins.
    """

    max_size_bytes: float | None = None
    max_latency_us: float | None = None
    time_budget_s: float = TIME_BUDGET_S

    def met_by(self, measures: Measures) -> bool:
        """Tells whether a file reaches all goals; without any, none does."""
        if self.max_size_bytes is None and self.max_latency_us is None:
            return False
        return not self.missed_by(measures)

    def missed_by(self, measures: Measures) -> list[str]:
        """Returns the goals that a file misses, with its figures."""
        missed = []
        if self.max_size_bytes is not None and measures.size_bytes > self.max_size_bytes:
            missed.append(f"{measures.size_bytes:,} bytes instead of {self.max_size_bytes:,.0f}")
        latency = measures.latency_us
        if self.max_latency_us is not None and (latency is None or latency > self.max_latency_us):
            missed.append(
                f"{'unknown' if latency is None else f'{latency:,.0f}'} us instead of {self.max_latency_us:,.0f}"
            )
        return missed


def search(session: Session, goals: Goals) -> tuple[Export, list[Export]]:
    """Tries stages until the goals are met, nothing more may go, or the time is over.

    Args:
        session: A compression with a guard that has just begun.
        goals: What is looked for.

    Returns:
        How stages were judged, and the ways to export the result, the best one first.
    """
    return _Search(session, goals).run()


class _Search:
    def __init__(self, session: Session, goals: Goals) -> None:
        self._session, self._goals = session, goals
        self._export, self._measures = Export(), session.tried[0].measures
        self._longest: dict[str, float] = {}

    def run(self) -> tuple[Export, list[Export]]:
        ways = self._ways()
        self._export, self._measures = ways[0][0], ways[0][1].measures
        for phase in (self._tables, self._units, self._factors, self._students):
            if not self._over():
                phase()
        self._integers()
        exports = [export for export, _ in self._ways()]
        return self._export, [*self._spared(exports), *exports]

    def _ways(self) -> list[tuple[Export, Step]]:
        """Precisions that the guard allows for the model as it is now, the best one first."""
        exports = [Export(precision, strip_names=True) for precision in COARSE_TO_FINE]
        steps = [(export, self._session.judge(export)) for export in exports]
        allowed = [(export, step) for export, step in steps if step.kept]
        return sorted(allowed, key=lambda way: self._worth(way[1].measures))

    def _spared(self, exports: list[Export]) -> list[Export]:
        """An int8 file in which some layers have a finer precision, where the guard refuses the plain one."""
        if any(export.quantize == "int8" for export in exports):
            return []
        spared = mixed(self._session, Export("int8", strip_names=True))
        return next(([export] for export in spared if self._session.judge(export).kept), [])

    def _worth(self, measures: Measures | None) -> tuple[float, float]:
        """What is sorted by: goals missed first, then bytes, or time where only that matters."""
        assert measures is not None
        by_time = self._goals.max_latency_us is not None and self._goals.max_size_bytes is None
        figure = measures.latency_us if by_time and measures.latency_us is not None else measures.size_bytes
        return len(self._goals.missed_by(measures)), float(figure)

    def _tables(self) -> None:
        """Words that never occur cost nothing; then narrower rows."""
        epochs = self._epochs(HEALING_STEPS)
        self._try("shrink-embedding", min_count=1, epochs=0)
        self._down("shrink-embedding", {"min_count": 3, "merge": True, "epochs": epochs})
        self._down("shrink-embedding", {"min_count": 0, "energy": 0.8, "epochs": epochs})

    def _units(self) -> None:
        self._halve("prune-units", HEALING_STEPS)

    def _factors(self) -> None:
        self._down("factorize", {"energy": 0.9, "layers": "all", "epochs": self._epochs(HEALING_STEPS)})

    def _students(self) -> None:
        self._halve("distill", TEACHING_STEPS)

    def _integers(self) -> None:
        """Trains for int8 where the file loses too much in it."""
        export = Export("int8", strip_names=True)
        if not self._over() and not self._session.judge(export).kept:
            self._try("qat", export=export, epochs=self._epochs(HEALING_STEPS))

    def _halve(self, kind: str, steps: int) -> None:
        """Cuts half of the units as long as that may be, then a quarter."""
        epochs = self._epochs(steps)
        for fraction in (CUT, SMALL_CUT):
            while self._try(kind, fraction=fraction, layers="all", epochs=epochs):
                pass

    def _down(self, kind: str, values: Mapping[str, Any]) -> None:
        """Tries a stage, then weaker ones."""
        stage: Stage | None = make_stage(kind, values)
        while stage is not None:
            if self._attempt(stage, self._export) is not False:
                return
            stage = stage.weaker()

    def _try(self, kind: str, export: Export | None = None, **values: Any) -> bool | None:
        return self._attempt(make_stage(kind, values), export or self._export)

    def _attempt(self, stage: Stage, export: Export) -> bool | None:
        """Tries a stage: whether it was kept; None if it does not fit the model, or no time is left for it."""
        session = self._session
        if self._over(self._longest.get(stage.name, max(self._longest.values(), default=0.0))):
            return None
        before = session.seconds
        try:
            kept = session.attempt(stage, export)
        except StageError as error:
            session.refuse(stage, str(error))
            return None
        finally:
            self._longest[stage.name] = max(self._longest.get(stage.name, 0.0), session.seconds - before)
        if kept:
            self._measures = session.tried[-1].measures
        return kept

    def _over(self, needed_s: float = 0.0) -> bool:
        """Tells whether nothing more is to be tried."""
        if self._measures is not None and self._goals.met_by(self._measures):
            return True
        return self._session.seconds + needed_s > self._goals.time_budget_s

    def _epochs(self, steps: int) -> int:
        learning = self._session.learning
        batches = math.ceil(len(learning.data.train) / learning.setup.int("batch_size"))
        return min(max(math.ceil(steps / batches), LEAST_EPOCHS), MOST_EPOCHS)
