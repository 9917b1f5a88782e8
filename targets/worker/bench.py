"""The operation "bench"."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from . import conditions, energy
from .arrays import feeds_of
from .conditions import Conditions
from .energy import find_meter
from .machine import describe_machine, memory_bytes
from .plan import check_keys, read_key
from .session import Arrays, Session
from .timing import Between, Limits, Loop, do_nothing, overhead_ns, prepare_ns

LIMITS = {"warmup_s", "max_warmup_s", "min_runs", "max_s", "max_runs"}
PROFILED_CALLS = 20


def bench(session: Session, plan: dict[str, Any]) -> dict[str, Any]:
    """Performs op "bench"."""
    given = read_key(plan, "plan", dict)
    check_keys("plan of bench", given, LIMITS)
    limits, profile = Limits.of(given), read_key(plan, "profile", bool, False)
    feeds = resize(session, plan)
    prepare = preparation(session, plan, feeds)
    machine, state = describe_machine(), Conditions((plan.get("cores") or [0])[0])
    state.read("before")
    gc.disable()
    prepare(0)
    started = time.perf_counter_ns()
    session.invoke()
    first_invoke_us = (time.perf_counter_ns() - started) / 1e3
    loop = Loop(prepare, session.bare_call())
    warmup, stable = loop.warm_up(limits)
    samples, consumed = measure(loop, limits, state)
    state.read("after")
    return {
        "samples_ns": samples,
        "warmup_ns": warmup,
        "warmup_stable": stable,
        "shapes": {name: list(array.shape[1:]) for name, array in feeds.items()},
        "load_us": session.load_us,
        "first_invoke_us": first_invoke_us,
        "outputs_finite": finite(session),
        "peak_rss_bytes": memory_bytes("VmHWM"),
        "arena_bytes": session.arena_bytes(),
        "machine": machine,
        "conditions": state.entries,
        "energy": consumed,
        "operators": session.profile(PROFILED_CALLS) if profile else None,
        "overhead_ns": overhead_ns(),
        # Last: inputs without a call may overwrite the outputs.
        "prepare_ns": prepare_ns(prepare, seldom({do_nothing: conditions.INTERVAL_NS}, time.perf_counter_ns())),
    }


def resize(session: Session, plan: dict[str, Any]) -> Arrays:
    """Returns the inputs of the plan, arrays of shape (calls, *tensor shape) by name, for which the session is ready.

    Raises:
        PlanError: As `feeds_of`.
    """
    feeds = feeds_of(session, plan)
    session.resize(feeds)
    return feeds


def preparation(session: Session, plan: dict[str, Any], feeds: Arrays) -> Callable[[int], None]:
    """Returns what sets the inputs of each call, by its number."""
    calls = len(next(iter(feeds.values()))) if feeds else 1
    arrays = [{name: array[call] for name, array in feeds.items()} for call in range(calls)]
    reset, feed = read_key(plan, "reset", bool, False), session.feed

    def prepare(run: int) -> None:
        if reset:
            session.reset()
        feed(arrays[run % calls])

    return prepare


def measure(loop: Loop, limits: Limits, state: Conditions) -> tuple[list[int], dict[str, Any] | None]:
    """Makes the calls that count, looking at the machine between them.

    Returns:
        Durations in ns, and "energy".
    """
    meter = find_meter()
    every = {lambda now_ns: state.read("during"): conditions.INTERVAL_NS}
    if meter is not None:
        every[meter.update] = energy.INTERVAL_NS
        meter.start(time.perf_counter_ns())
    samples = loop.measure(limits, seldom(every, time.perf_counter_ns()))
    if meter is None:
        return samples, None
    meter.update(time.perf_counter_ns())
    return samples, meter.result(len(samples))


def seldom(every: dict[Between, int], begun_ns: int) -> Between:
    """Returns what does things from time to time.

    Args:
        every: What to do, with the least time between two times in ns.
        begun_ns: Now; the first time comes that much later.
    """
    due = {action: begun_ns + interval for action, interval in every.items()}
    next_ns = min(due.values())

    def between(now_ns: int) -> None:
        nonlocal next_ns
        if now_ns < next_ns:
            return
        for action, interval in every.items():
            if now_ns >= due[action]:
                action(now_ns)
                due[action] = now_ns + interval
        next_ns = min(due.values())

    return between


def finite(session: Session) -> bool:
    """Says whether all float outputs of the last call are finite."""
    floats = [output for output in session.read_outputs().values() if output.dtype.kind == "f"]
    return all(bool(np.isfinite(output).all()) for output in floats)
