"""The plan: what it may hold, and how it is read. It is read before anything that is not of Python is imported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

PROTOCOL = 1

COMMON_KEYS = {"protocol", "op", "model", "runtime", "threads", "delegate", "device", "mode", "dtype", "cores"}

OPERATIONS: dict[str, tuple[str, set[str]]] = {
    "load": ("run", set()),
    "run": ("run", {"inputs", "outputs", "reset", "sequence", "carry"}),
    "observe": ("observe", {"inputs", "ranges", "lstms", "reset", "sequence"}),
    "bench": ("bench", {"plan", "inputs", "seed", "reset", "batch", "length", "profile", "started_ns"}),
    "count": ("count", {"inputs", "seed", "batch", "length", "calls", "outputs"}),
}
"""The module whose function of the same name performs an operation, and the keys of its plan beyond the common ones."""

CHOICES = {"device": ("cpu", "gpu"), "mode": ("jit", "graph", "eager"), "dtype": ("float32", "float16")}
"""What keys may hold that choose, the default first."""


class PlanError(Exception):
    """The plan, the model or the data cannot be used; the message goes to whoever sent the plan."""


def read_key(plan: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """Returns plan[key], checked to be of that type; null and absent mean the default.

    Raises:
        PlanError: If the type is another, or there is neither a value nor a default.
    """
    value = plan.get(key)
    if value is None:
        value = default
    if kind is float and type(value) is int:
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise PlanError(f"the plan needs {key!r}, a {kind.__name__}, not {value!r}")
    return value


def read_choice(plan: dict[str, Any], key: str) -> str:
    """Returns plan[key], one of its `CHOICES`; null and absent mean the first.

    Raises:
        PlanError: If it is none of them.
    """
    value = plan.get(key)
    if value is None:
        return CHOICES[key][0]
    if value not in CHOICES[key]:
        raise PlanError(f"{key} is {value!r}, but must be one of {', '.join(CHOICES[key])}")
    return str(value)


def read_size(plan: dict[str, Any], key: str) -> int | None:
    """Returns plan[key], a number of at least 1, None if the plan does not say.

    Raises:
        PlanError: If it is something else.
    """
    if plan.get(key) is None:
        return None
    value: int = read_key(plan, key, int)
    if value < 1:
        raise PlanError(f"{key} is {value}, but must be at least 1")
    return value


def check_keys(what: str, given: dict[str, Any], known: set[str]) -> None:
    """Refuses keys that would be silently ignored.

    Raises:
        PlanError: If given has a key that is not known.
    """
    unknown = sorted(set(given) - known)
    if unknown:
        raise PlanError(f"{what} does not know {', '.join(map(repr, unknown))}, only {', '.join(sorted(known))}")


def read_plan(text: str) -> dict[str, Any]:
    """Parses and checks a plan.

    Raises:
        PlanError: If it is not a plan of this protocol.
    """
    try:
        plan = json.loads(text)
    except ValueError as error:
        raise PlanError(f"the plan is not JSON: {error}") from error
    if not isinstance(plan, dict) or plan.get("protocol") != PROTOCOL:
        raise PlanError(f"the plan is not of protocol {PROTOCOL}")
    if plan.get("op") not in OPERATIONS:
        raise PlanError(f"op {plan.get('op')!r} is not known, only {', '.join(OPERATIONS)}")
    check_keys(f"op {plan['op']!r}", plan, COMMON_KEYS | OPERATIONS[plan["op"]][1])
    return plan


def either(words: Sequence[str]) -> str:
    """Returns words as a choice: a, b or c."""
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def first_line(error: BaseException) -> str:
    """Returns what an exception says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
