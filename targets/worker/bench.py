"""The operation "bench"."""

from __future__ import annotations

import gc
import time
from typing import Any

import numpy as np

from .arrays import random_feeds, read_feeds
from .machine import describe_machine, memory_bytes
from .plan import check_keys, read_key
from .session import Session
from .timing import time_calls


def bench(session: Session, plan: dict[str, Any]) -> dict[str, Any]:
    """Performs op "bench"."""
    limits = read_key(plan, "plan", dict)
    check_keys("plan of bench", limits, {"warmup_s", "min_runs", "max_s", "max_runs"})
    path = plan.get("inputs")
    feeds = (
        random_feeds(session, read_key(plan, "seed", int, 0))
        if path is None
        else read_feeds(session, path, set(session.inputs))
    )
    session.resize(feeds)
    reset = read_key(plan, "reset", bool, False)
    calls = len(next(iter(feeds.values()))) if feeds else 1

    def prepare(run: int) -> None:
        if reset:
            session.reset()
        session.feed({name: array[run % calls] for name, array in feeds.items()})

    machine = describe_machine()
    gc.disable()
    prepare(0)
    started = time.perf_counter_ns()
    session.invoke()
    first_invoke_us = (time.perf_counter_ns() - started) / 1e3
    warmup, samples = time_calls(prepare, session.invoke, limits)
    floats = [output for output in session.read_outputs().values() if output.dtype.kind == "f"]
    return {
        "samples_ns": samples,
        "warmup_ns": warmup,
        "load_us": session.load_us,
        "first_invoke_us": first_invoke_us,
        "outputs_finite": all(bool(np.isfinite(output).all()) for output in floats),
        "peak_rss_bytes": memory_bytes("VmHWM"),
        "machine": machine,
    }
