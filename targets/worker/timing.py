"""The loop that times calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .plan import read_key

DEFAULT_MAX_RUNS = 20_000


def time_calls(
    prepare: Callable[[int], None],
    invoke: Callable[[], None],
    limits: dict[str, Any],
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> tuple[list[int], list[int]]:
    """Times calls one by one.

    Args:
        prepare: Called before every call with its number, untimed.
        invoke: What is timed.
        limits: "plan" of op "bench".
        clock_ns: The clock.

    Returns:
        The durations in ns of the calls of the warm-up, and of those after it.
    """
    warmup_ns = int(read_key(limits, "warmup_s", float, 0.0) * 1e9)
    max_ns = int(read_key(limits, "max_s", float, 0.0) * 1e9)
    min_runs = read_key(limits, "min_runs", int, 1)
    max_runs = read_key(limits, "max_runs", int, DEFAULT_MAX_RUNS)

    def time_until(num_ns: int, at_least: int, at_most: int) -> list[int]:
        samples: list[int] = []
        end = clock_ns() + num_ns
        while len(samples) < at_least or (len(samples) < at_most and clock_ns() < end):
            prepare(len(samples))
            started = clock_ns()
            invoke()
            samples.append(clock_ns() - started)
        return samples

    return time_until(warmup_ns, 0, max_runs), time_until(max_ns, min_runs, max_runs)
