from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgelstm.targets.worker import timing
from edgelstm.targets.worker.plan import PlanError
from edgelstm.targets.worker.timing import Limits, Loop

MS = 1_000_000


class FakeClock:
    """Stands still but for the calls that are timed; the last of the given durations goes on."""

    def __init__(self, *calls_ns: int) -> None:
        self.now, self.calls_ns, self.log = 0, list(calls_ns), []

    def __call__(self) -> int:
        return self.now

    def invoke(self) -> None:
        self.now += self.calls_ns.pop(0) if len(self.calls_ns) > 1 else self.calls_ns[0]

    def warm_up(self, **limits: Any) -> tuple[list[int], bool | None]:
        return Loop(self.log.append, self.invoke, self).warm_up(Limits.of(limits))

    def measure(self, **limits: Any) -> list[int]:
        return Loop(self.log.append, self.invoke, self).measure(Limits.of(limits))


def test_calls_are_timed_until_the_time_is_up():
    clock = FakeClock(250 * MS)
    assert clock.measure(min_runs=2, max_s=1.0) == [250 * MS] * 4
    assert clock.log == [0, 1, 2, 3]


def test_slow_calls_are_made_as_often_as_the_minimum_says():
    assert FakeClock(10**10).measure(min_runs=3, max_s=1.0) == [10**10] * 3


def test_fast_calls_end_at_the_maximum():
    clock = FakeClock(1)
    assert clock.warm_up(warmup_s=1.0, max_runs=5) == ([1] * 5, False)
    assert clock.measure(max_s=1.0, max_runs=5) == [1] * 5


def test_without_a_warm_up_nothing_is_said_of_it():
    assert FakeClock(1).warm_up(warmup_s=0) == ([], None)


def test_a_warm_up_takes_the_time_that_it_was_given_however_stable():
    samples, stable = FakeClock(MS).warm_up(warmup_s=0.2)
    assert (len(samples), stable) == (200, True)


def test_a_warm_up_ends_when_the_calls_have_become_stable():
    # Falling for 300 calls, 0.49 s, then steady: a quarter of 0.2 s is a window, and two of them have to be steady.
    falling = [3 * MS - k * 9_000 for k in range(300)]
    samples, stable = FakeClock(*falling, 300_000).warm_up(warmup_s=0.2)
    assert stable is True
    elapsed_s = sum(samples) / 1e9
    assert sum(falling) / 1e9 + 0.05 < elapsed_s < sum(falling) / 1e9 + 0.15
    window = samples[-166:]
    assert np.median(window) == 300_000


@pytest.mark.parametrize("step, stable", [(1.03, False), (1.015, True)])
def test_two_percent_are_what_matters(step, stable):
    durations = [MS] * 50 + [int(step * MS)] * 50
    assert timing.is_stable(durations, Limits.of({"warmup_s": 0.2})) is stable
    assert timing.is_stable(durations[::-1], Limits.of({"warmup_s": 0.2})) is stable


def test_a_warm_up_that_never_becomes_stable_ends_after_five_times_its_length():
    growing = [int(MS * 1.05**k) for k in range(400)]
    samples, stable = FakeClock(*growing).warm_up(warmup_s=0.2)
    assert stable is False
    assert 1.0 <= sum(samples) / 1e9 < 1.0 + samples[-1] / 1e9


def test_the_longest_warm_up_may_be_given():
    growing = [int(MS * 1.05**k) for k in range(400)]
    samples, stable = FakeClock(*growing).warm_up(warmup_s=0.2, max_warmup_s=0.4)
    assert stable is False
    assert 0.4 <= sum(samples) / 1e9 < 0.4 + samples[-1] / 1e9


def test_windows_have_five_calls():
    # 10 calls of 250 ms: a quarter of 0.5 s would be one call.
    samples, stable = FakeClock(250 * MS).warm_up(warmup_s=0.5)
    assert (len(samples), stable) == (10, True)


def test_fast_calls_have_windows_of_a_quarter_of_the_runs():
    # 1000 calls of 10 µs last 10 ms, less than a quarter of 0.5 s.
    samples, stable = FakeClock(10_000).warm_up(warmup_s=0.5, max_runs=1000)
    assert (len(samples), stable) == (1000, True)
    uneven = FakeClock(*[20_000] * 700, 10_000)
    assert uneven.warm_up(warmup_s=0.5, max_runs=1000) == ([20_000] * 700 + [10_000] * 300, False)


@pytest.mark.parametrize("length", [0, 1, 4, 9])
def test_too_few_calls_are_not_stable(length):
    assert not timing.is_stable([MS] * length, Limits.of({"warmup_s": 0.001}))


def test_what_is_done_between_calls_is_not_timed():
    clock = FakeClock(MS)
    seen: list[int] = []

    def between(now_ns: int) -> None:
        seen.append(now_ns)
        clock.now += 7 * MS

    samples: list[int] = []
    Loop(lambda run: None, clock.invoke, clock).time_until(samples, 10**12, 0, 3, between)
    assert samples == [MS] * 3
    assert seen == [MS, 9 * MS, 17 * MS]


class CountingClock:
    """Ticks at every look."""

    def __init__(self, ticks: Sequence[int]) -> None:
        self.now, self.ticks, self.looks = 0, ticks, 0

    def __call__(self) -> int:
        self.looks += 1
        self.now += self.ticks[self.looks % len(self.ticks)]
        return self.now


def test_the_overhead_is_that_of_a_thousand_calls_that_do_nothing():
    # Looks: one for the end, one at the start, then two per call; calls take 40, what is between them 3.
    clock = CountingClock([40, 3])
    assert timing.overhead_ns(clock) == 40
    assert clock.looks == 2 + 2 * 1000
    assert 10 < timing.overhead_ns() < 20_000


def test_what_is_done_around_a_call_is_not_what_it_takes():
    # Looks take 5, inputs 40 and every tenth time 4000, what is between calls 3 and once 7000.
    clock = CountingClock([5])
    runs: list[int] = []

    def prepare(run: int) -> None:
        runs.append(run)
        clock.now += 4000 if run % 10 == 0 else 40

    def between(now_ns: int) -> None:
        assert now_ns == clock.now
        clock.now += 7000 if len(runs) == 100 else 3

    assert timing.prepare_ns(prepare, between, clock) == 5 + 40 + 3
    assert runs == [*range(201)]
    assert clock.looks == 1 + 2 * 201


def test_slow_inputs_are_seen_around_calls_and_not_in_them():
    around_ns = timing.prepare_ns(lambda run: time.sleep(0.0005), timing.do_nothing)
    assert 500_000 < around_ns < 50_000_000
    assert 0 < timing.prepare_ns(timing.do_nothing, timing.do_nothing) < 50_000


@pytest.mark.parametrize("limits", [{"warmup_s": "1"}, {"max_runs": 2.5}, {"max_warmup_s": []}])
def test_limits_of_another_type_are_refused(limits):
    with pytest.raises(PlanError, match=f"the plan needs '{next(iter(limits))}'"):
        Limits.of(limits)
