"""The operation "count": calls between marks that an emulator can see."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import write_npz
from .bench import preparation, resize
from .plan import PlanError, read_key, read_size
from .session import Session

MARK = 9999
"""Number of the system call that is a mark. Linux does not use it: it answers ENOSYS and changes nothing."""

WARMUP_CALLS = 3


def count(session: Session, plan: dict[str, Any], mark: Callable[[int], object] | None = None) -> dict[str, Any]:
    """Performs op "count".

    Args:
        session: The model.
        plan: Its plan.
        mark: Makes a mark; None for the system call.

    Raises:
        PlanError: If the system is not Linux, where the number may mean something.
    """
    calls, mark = read_size(plan, "calls") or 1, mark or system_mark()
    path = plan.get("outputs")
    prepare = preparation(session, plan, resize(session, plan))
    for run in range(WARMUP_CALLS):
        prepare(run)
        session.invoke()
    mark(0)
    mark(0)
    for run in range(calls):
        prepare(run)
        session.invoke()
        mark(run + 1)
    if path is None:
        return {"calls": calls}
    answers = {name: np.asarray(output)[None] for name, output in session.read_outputs().items()}
    write_npz(read_key(plan, "outputs", str), answers)
    return {"calls": calls}


def system_mark() -> Callable[[int], object]:
    """Returns what makes the system call with a number.

    Raises:
        PlanError: If the system is not Linux.
    """
    if sys.platform not in ("linux", "android"):
        raise PlanError(f"op 'count' is for an emulated Linux, not {sys.platform}")
    call = ctypes.CDLL(None).syscall
    call.argtypes, call.restype = (ctypes.c_long, ctypes.c_long), ctypes.c_long
    return lambda number: call(MARK, number)
