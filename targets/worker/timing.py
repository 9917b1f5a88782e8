"""The loop that times calls, and how long it goes on.

The warm-up takes at least warmup_s seconds, and then until it is stable: until the medians of its last two windows
differ by less than 2 %. A window has at least 5 calls, and lasts at least a quarter of warmup_s or has at least a
quarter of max_runs calls. The warm-up ends, stable or not, after max_warmup_s seconds or max_runs calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .plan import read_key

NS_PER_S = 1_000_000_000
DEFAULT_MAX_RUNS = 20_000
WINDOW_CALLS = 5
WINDOW_SHARE = 0.25
STABLE = 0.02
OVERHEAD_CALLS = 1000
PREPARED_CALLS = 201

Clock = Callable[[], int]
Between = Callable[[int], None]


class Limits(NamedTuple):
    """How long to time calls; "plan" of op "bench"."""

    warmup_ns: int
    max_warmup_ns: int
    max_ns: int
    min_runs: int
    max_runs: int

    @classmethod
    def of(cls, plan: dict[str, Any]) -> Limits:
        """Reads them.

        Raises:
            PlanError: If a value is of another type.
        """
        warmup_s = read_key(plan, "warmup_s", float, 0.0)
        return cls(
            warmup_ns=int(warmup_s * NS_PER_S),
            max_warmup_ns=int(read_key(plan, "max_warmup_s", float, 5 * warmup_s) * NS_PER_S),
            max_ns=int(read_key(plan, "max_s", float, 0.0) * NS_PER_S),
            min_runs=read_key(plan, "min_runs", int, 1),
            max_runs=read_key(plan, "max_runs", int, DEFAULT_MAX_RUNS),
        )


def do_nothing(*_: Any) -> None:
    """Does nothing."""


class Loop:
    """Times calls one by one.

    Args:
        prepare: Called before every call with its number, untimed.
        invoke: What is timed.
        clock_ns: The clock.
    """

    def __init__(
        self, prepare: Callable[[int], None], invoke: Callable[[], None], clock_ns: Clock = time.perf_counter_ns
    ) -> None:
        self._prepare, self._invoke, self._clock_ns = prepare, invoke, clock_ns

    def time_until(
        self, samples: list[int], end_ns: int, at_least: int, at_most: int, between: Between = do_nothing
    ) -> None:
        """Appends the durations of calls in ns.

        Args:
            samples: What to append to.
            end_ns: No call begins later.
            at_least: Length of samples up to which calls are made even then.
            at_most: Length of samples after which none is made.
            between: Called after every call with the time, untimed.
        """
        prepare, invoke, clock_ns, append = self._prepare, self._invoke, self._clock_ns, samples.append
        now = clock_ns()
        for run in range(len(samples), at_most):
            if now >= end_ns and run >= at_least:
                return
            prepare(run)
            started = clock_ns()
            invoke()
            now = clock_ns()
            append(now - started)
            between(now)

    def warm_up(self, limits: Limits) -> tuple[list[int], bool | None]:
        """Makes calls until they take as long as the ones before.

        Returns:
            Their durations, and whether they became stable; None if no warm-up was asked for.
        """
        samples: list[int] = []
        if limits.max_warmup_ns <= 0:
            return samples, None
        begun = self._clock_ns()
        latest = begun + max(limits.warmup_ns, limits.max_warmup_ns)
        self.time_until(samples, begun + limits.warmup_ns, 0, limits.max_runs)
        while not is_stable(samples, limits):
            now = self._clock_ns()
            if now >= latest or len(samples) >= limits.max_runs:
                return samples, False
            # Looking for windows takes time of its own, so not after every call.
            next_look = min(now + int(limits.warmup_ns * WINDOW_SHARE / 4), latest)
            self.time_until(samples, next_look, len(samples) + 1, limits.max_runs)
        return samples, True

    def measure(self, limits: Limits, between: Between = do_nothing) -> list[int]:
        """Makes the calls that count and returns their durations."""
        samples: list[int] = []
        end_ns = self._clock_ns() + limits.max_ns
        self.time_until(samples, end_ns, limits.min_runs, max(limits.min_runs, limits.max_runs), between)
        return samples


def prepare_ns(prepare: Callable[[int], None], between: Between, clock_ns: Clock = time.perf_counter_ns) -> float:
    """Returns what the loop does around a call: the median time from the end of one to the beginning of the next.

    The calls do nothing; what comes before and after them is that of the timed ones.

    Args:
        prepare: As for `Loop`.
        between: As for `Loop.time_until`.
        clock_ns: The clock.
    """
    looks: list[int] = []

    def look() -> int:
        looks.append(clock_ns())
        return looks[-1]

    # The loop looks once, then at the beginning and at the end of each call. Nothing went before the first.
    Loop(prepare, do_nothing, look).time_until([], 0, PREPARED_CALLS, PREPARED_CALLS, between)
    return float(np.median(np.array(looks[3::2]) - np.array(looks[2:-1:2])))


def is_stable(samples: list[int], limits: Limits) -> bool:
    """Says whether the medians of the last two windows differ by less than 2 %; see the module."""
    durations = np.array(samples, np.int64)
    later = window(durations, limits)
    earlier = window(durations[: len(durations) - later], limits) if later else 0
    if not earlier:
        return False
    last = float(np.median(durations[-later:]))
    before = float(np.median(durations[-later - earlier : -later]))
    return abs(last - before) < STABLE * before


def window(durations: Any, limits: Limits) -> int:
    """Returns how many of the last durations are a window, 0 if all together are none."""
    elapsed = np.cumsum(durations[::-1])
    by_time = int(np.searchsorted(elapsed, limits.warmup_ns * WINDOW_SHARE)) + 1
    calls = max(WINDOW_CALLS, min(by_time, int(limits.max_runs * WINDOW_SHARE)))
    return calls if calls <= len(durations) else 0


def overhead_ns(clock_ns: Clock = time.perf_counter_ns) -> float:
    """Returns the median duration of calls that do nothing: what looking at the clock adds to the timed part."""
    samples: list[int] = []
    Loop(do_nothing, do_nothing, clock_ns).time_until(samples, clock_ns(), OVERHEAD_CALLS, OVERHEAD_CALLS)
    return float(np.median(samples))
