"""Checks what a worker on a device answered: nobody vouches for the Python there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgelstm.errors import ModelRunError
from edgelstm.runtime.child import conclude
from edgelstm.targets.measurement import ProcessSamples
from edgelstm.targets.records import read_record
from edgelstm.targets.remote.shell import Done, printable

_LONGEST_NS = 10**18
"""Thirty years."""


@dataclass(frozen=True)
class _Ready:
    runtime: str
    runtime_version: str
    python: str
    numpy: str | None


@dataclass(frozen=True)
class _Condition:
    throttled: str | None = None
    temperature_c: float | None = None
    clock_khz: float | None = None
    governor: str | None = None


@dataclass(frozen=True)
class _Machine:
    governor: str | None
    num_cores: int | None
    device: str | None = None
    cpu: str | None = None
    system: str | None = None
    architecture: str | None = None
    load_average: float | None = None


@dataclass(frozen=True)
class _Result:
    machine: _Machine
    conditions: list[_Condition]
    shapes: dict[str, list[int]] | None = None


def read_events(plan: dict[str, Any], python: str, done: Done) -> list[dict[str, Any]]:
    """Says how a worker on a device ended.

    Args:
        plan: Its plan; "model" is the model and the device, for people.
        python: The Python that was started.
        done: How that ended.

    Returns:
        The events, with what is unprintable replaced; the last one is the result.

    Raises:
        ModelRunError: If there is no result, or something else than a worker's.
    """
    try:
        events = [_printable(event) for event in conclude(plan, python, done.status, done.output, done.notes)]
        _check(plan["op"], events)
    except ModelRunError as error:
        raise ModelRunError(printable(str(error))) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise ModelRunError(
            f"{plan['model']}: the worker answered nonsense ({error}). Check {python} there, and what it prints by "
            "itself."
        ) from error
    return events


def _check(op: str, events: list[dict[str, Any]]) -> None:
    """Checks the shape of the events.

    Raises:
        ValueError: If it is wrong.
    """
    if len(events) < 2 or events[0]["event"] != "ready":
        raise ValueError("its result does not follow on 'ready'")
    read_record(_Ready, events[0])
    if op == "bench":
        read_record(_Result, events[-1])
        samples = read_record(ProcessSamples, events[-1])
        durations = [*samples.samples_ns, *samples.warmup_ns]
        if not samples.samples_ns or min(durations) < 0 or max(durations) > _LONGEST_NS:
            raise ValueError("samples_ns holds no durations")


def _printable(value: Any) -> Any:
    """Returns JSON values whose texts can be printed."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): _printable(item) for key, item in value.items()}
    return value
