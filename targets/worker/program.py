"""The program: a plan from stdin, events to stdout."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .machine import memory_bytes
from .plan import OPERATIONS, PlanError, first_line, read_plan
from .runtimes import open_session, runtime_version


def perform(plan: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Performs a plan and emits its events."""
    base_rss_bytes = memory_bytes("VmRSS")
    runtime, session = open_session(plan)
    emit(
        {
            "event": "ready",
            "runtime": runtime,
            "runtime_version": runtime_version(runtime),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "load_us": session.load_us,
        }
    )
    module = importlib.import_module(f".{OPERATIONS[plan['op']][0]}", __package__)
    result = getattr(module, plan["op"])(session, plan)
    if plan["op"] == "bench":
        result["base_rss_bytes"] = base_rss_bytes
    emit({"event": "result", **session.describe(), **result})


def main() -> int:
    """Reads a plan from stdin, performs it, and returns the exit status."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # from here on whatever a library prints goes to stderr

    def emit(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=events, flush=True)

    try:
        perform(read_plan(sys.stdin.read()), emit)
    except PlanError as error:
        emit({"event": "error", "message": str(error)})
        return 1
    except Exception as error:
        emit({"event": "error", "message": f"{type(error).__name__}: {first_line(error)}"})
        return 1
    return 0
