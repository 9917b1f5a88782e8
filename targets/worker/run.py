"""The operations "load" and "run"."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import write_npz
from .calls import calls_of
from .plan import PlanError, read_key
from .session import Session


def load(session: Session, plan: dict[str, Any]) -> dict[str, Any]:
    """Performs op "load"."""
    return {}


def run(session: Session, plan: dict[str, Any]) -> dict[str, Any]:
    """Performs op "run"."""
    path = read_key(plan, "outputs", str)
    calls, each_call = calls_of(session, plan)
    collected: dict[str, list[Any]] = {name: [] for name in session.outputs}
    for _ in each_call:
        session.invoke()
        for name, output in session.read_outputs().items():
            collected[name].append(output)
    for name, outputs in collected.items():
        if len({output.shape for output in outputs}) > 1:
            raise PlanError(f"output {name!r} changes its shape from call to call")
    write_npz(path, {name: np.stack(outputs) for name, outputs in collected.items()})
    return {"calls": calls}
