"""The operation "observe"."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import write_npz
from .calls import calls_of
from .cells import CellProbe
from .interpreter import InterpreterSession
from .plan import read_key


class Ranges:
    """Least and greatest finite value of every float tensor.

    Attributes:
        low: Shape (num_tensors,), NaN where nothing was seen.
        high: Same.
        not_finite: Indices of tensors that held a NaN or an infinity.
    """

    def __init__(self, session: InterpreterSession) -> None:
        self.low = np.full(session.num_tensors, np.nan)
        self.high = np.full(session.num_tensors, np.nan)
        self.not_finite: set[int] = set()
        details = session.interpreter.get_tensor_details()
        self._floats = [
            detail["index"]
            for detail in details
            if detail["index"] < session.num_tensors and np.issubdtype(detail["dtype"], np.floating)
        ]

    def update(self, interpreter: Any) -> None:
        """Takes in what the tensors hold now."""
        for index in self._floats:
            try:
                tensor = interpreter.get_tensor(index)
            except (ValueError, RuntimeError):  # never filled, for instance in a branch not taken
                continue
            if tensor.size:
                self._update(index, tensor)

    def _update(self, index: int, tensor: Any) -> None:
        low, high = tensor.min(), tensor.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            self.not_finite.add(int(index))
            finite = tensor[np.isfinite(tensor)]
            if not finite.size:
                return
            low, high = finite.min(), finite.max()
        self.low[index] = np.fmin(self.low[index], low)
        self.high[index] = np.fmax(self.high[index], high)


def observe(session: InterpreterSession, plan: dict[str, Any]) -> dict[str, Any]:
    """Performs op "observe"."""
    path = read_key(plan, "ranges", str)
    probes = [CellProbe(entry, session.num_tensors) for entry in read_key(plan, "lstms", list, [])]
    calls, each_call = calls_of(session, plan)
    ranges = Ranges(session)
    for _ in each_call:
        for probe in probes:
            probe.before_call(session.interpreter)
        session.interpreter.invoke()
        ranges.update(session.interpreter)
        for probe in probes:
            probe.after_call(session.interpreter)
    write_npz(path, {"min": ranges.low, "max": ranges.high, "cell_peak": np.array([probe.peak for probe in probes])})
    return {"calls": calls, "num_tensors": session.num_tensors, "not_finite": sorted(ranges.not_finite)}
