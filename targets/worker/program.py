"""The program: a plan from stdin, events to stdout."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

from .machine import count_cores, memory_bytes
from .plan import OPERATIONS, PlanError, first_line, read_key, read_plan

Emit = Callable[[dict[str, Any]], None]


def main(began_ns: int) -> int:
    """Reads a plan from stdin, performs it, and returns the exit status.

    Args:
        began_ns: `time.time_ns()` of the first line of the program.
    """
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # from here on whatever a library prints goes to stderr

    def emit(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=events, flush=True)

    try:
        plan = read_plan(sys.stdin.read())
        num_cores = count_cores()
        cores = stay_on(plan)
        perform(plan, began_ns, emit, {"num_cores": num_cores, "cores": cores})
    except PlanError as error:
        emit({"event": "error", "message": str(error)})
        return 1
    except Exception as error:
        emit({"event": "error", "message": f"{type(error).__name__}: {first_line(error)}"})
        return 1
    return 0


def stay_on(plan: dict[str, Any]) -> list[int] | None:
    """Keeps this process on the cores of a plan, before numpy and the runtime count them; not every system can.

    Returns:
        The cores that it is kept on, in order, None if it is not.

    Raises:
        PlanError: If there are no such cores.
    """
    cores = read_key(plan, "cores", list, [])
    if not all(type(core) is int and core >= 0 for core in cores):
        raise PlanError(f"cores is {cores!r}, but must be numbers of processors")
    if not cores or not hasattr(os, "sched_setaffinity"):
        return None
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, ValueError, OverflowError) as error:
        free = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
        raise PlanError(f"the process cannot stay on cores {cores}: the machine lets it use {free}") from error
    return sorted(os.sched_getaffinity(0))


def perform(plan: dict[str, Any], began_ns: int, emit: Emit, cores: dict[str, Any]) -> None:
    """Performs a plan and emits its events.

    Args:
        plan: What to do.
        began_ns: As for `main`.
        emit: Takes the events.
        cores: "num_cores" and "cores" of the machine.
    """
    process_us = process_start_us(plan, began_ns)
    started = time.perf_counter_ns()
    import numpy as np

    numpy_us = (time.perf_counter_ns() - started) / 1e3
    from .runtimes import open_session

    base_rss_bytes = memory_bytes("VmRSS")
    runtime, session = open_session(plan)
    emit(
        {
            "event": "ready",
            "runtime": runtime,
            "runtime_version": session.version,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "load_us": session.load_us,
        }
    )
    module = importlib.import_module(f".{OPERATIONS[plan['op']][0]}", __package__)
    result = getattr(module, plan["op"])(session, plan)
    if plan["op"] == "bench":
        result["base_rss_bytes"] = base_rss_bytes
        result["machine"].update(cores)
        result["cold_start"] = {
            "process_us": process_us,
            "import_us": numpy_us + session.import_us,
            "load_us": session.load_us,
            "first_invoke_us": result["first_invoke_us"],
        }
    emit({"event": "result", **session.describe(), **result})


def process_start_us(plan: dict[str, Any], began_ns: int) -> float | None:
    """Returns the time from the start of the process to the first line of the program.

    Without "started_ns" it is what the system tells, in ticks of its clock, usually of 10 ms; None where it does not.
    """
    if plan.get("started_ns") is not None:
        return (began_ns - int(read_key(plan, "started_ns", int))) / 1e3
    from .system import read_text

    try:
        # Field 22 of proc(5); field 2 is the name, which may hold blanks and brackets.
        ticks = int((read_text("/proc/self/stat") or "").rpartition(")")[2].split()[19])
        age_s = float((read_text("/proc/uptime") or "").split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (IndexError, ValueError, OSError, AttributeError):
        return None
    since_us = (time.time_ns() - began_ns) / 1e3
    return max(age_s * 1e6 - since_us, 0.0)
