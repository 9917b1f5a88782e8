"""Where a search looks: settings with their ranges, as trials and grids take them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgelstm.errors import SettingError
from edgelstm.tasks.base import Task
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.spaces import Range

GRID_POINTS = 3
"""Values of a range without a step that a grid takes."""
MAX_COMBINATIONS = 100_000
"""Combinations of a grid, at most."""

_PATTERN = re.compile(r"(?P<low>[^:]+):(?P<high>[^:]+?)(?::(?P<last>[^:]+))?")
_SIGNIFICANT_DIGITS = 4

Space = dict[str, Range | tuple[Setting, ...]]
"""By the names of settings: a range, or the values themselves."""


def make_space(task: Task, variant: str, given: Mapping[str, str], fixed: Mapping[str, Any] | None = None) -> Space:
    """Returns where to look: the ranges that are given, or else the task's own.

    Args:
        task: The task.
        variant: Name of the variant.
        given: By the names of settings: "LOW:HIGH", "LOW:HIGH:STEP", "LOW:HIGH:log", or values "A,B,C".
        fixed: Settings that are not searched.

    Raises:
        SettingError: If a setting is unknown or fixed, a range cannot be read, or nothing is to be searched.
    """
    fixed = fixed or {}
    defaults = task.setup(variant).settings
    unknown = sorted(set(given) - set(defaults))
    if unknown:
        raise SettingError(f"Task {task.name!r} has no setting {unknown[0]!r}. Its settings are {', '.join(defaults)}.")
    both = sorted(set(given) & set(fixed))
    if both:
        raise SettingError(f"The setting {both[0]!r} is both set and searched: leave out one of the two.")
    space: Space = {name: read_range(task, variant, name, text, fixed) for name, text in given.items()}
    space = space or {name: each for name, each in task.space.items() if name in defaults and name not in fixed}
    if not space:
        raise SettingError(f"Task {task.name!r}: nothing is left to search. Give a range, e.g. units=32:256:32.")
    return space


def read_range(task: Task, variant: str, name: str, text: str, fixed: Mapping[str, Any]) -> Range | tuple[Setting, ...]:
    """Reads one range and checks that the task takes its ends, or its values, together with the fixed settings.

    Raises:
        SettingError: If it cannot be read, or a value is none of this setting.
    """

    def value(word: str) -> Setting:
        return task.setup(variant, settings={**fixed, name: word}).settings[name]

    if ":" not in text:
        words = [word.strip() for word in text.split(",") if word.strip()]
        if not words:
            raise SettingError(f"The range {name}={text} has no values.")
        return tuple(dict.fromkeys(value(word) for word in words))
    match = _PATTERN.fullmatch(text.strip())
    default = task.setup(variant).settings[name]
    if isinstance(default, bool | str):
        raise SettingError(f"The range {name}={text}: the values of this setting are no numbers, so list them: A,B,C.")
    try:
        if match is None:
            raise ValueError
        found = _range(match["low"], match["high"], match["last"])
        if isinstance(default, int) and found.step not in (None, int(found.step or 0)):
            raise ValueError
    except ValueError:
        raise SettingError(
            f"The range {name}={text} cannot be read: give {name}=LOW:HIGH, LOW:HIGH:STEP or LOW:HIGH:log with "
            "LOW < HIGH, or values A,B,C."
        ) from None
    value(str(found.low))
    value(str(found.high))
    return found


def _range(low: str, high: str, last: str | None) -> Range:
    is_log = last == "log"
    step = None if last is None or is_log else float(last)
    found = Range(float(low), float(high), step, log=is_log)
    numbers = (found.low, found.high, 1.0 if step is None else step)
    if not all(map(math.isfinite, numbers)) or not found.low < found.high:
        raise ValueError
    if (step is not None and not 0 < step <= found.high - found.low) or (is_log and found.low <= 0):
        raise ValueError
    return found


def make_distributions(space: Space, defaults: Mapping[str, Setting]) -> dict[str, Any]:
    """Returns the distributions of Optuna, by the names of settings; whole numbers where the default is one."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name, where in space.items():
        if isinstance(where, tuple):
            found[name] = CategoricalDistribution(where)
            continue
        high = where.high if where.step is None else _step(where, _num_steps(where) - 1)
        if isinstance(defaults[name], int):
            step = 1 if where.step is None else int(where.step)
            found[name] = IntDistribution(int(where.low), int(high), log=where.log, step=step)
        else:
            found[name] = FloatDistribution(where.low, high, log=where.log, step=where.step)
    return found


def suggest(trial: Any, distributions: Mapping[str, Any]) -> dict[str, Setting]:
    """Lets a trial of Optuna choose a value for each setting."""
    chosen: dict[str, Setting] = {}
    for name, where in distributions.items():
        if hasattr(where, "choices"):
            chosen[name] = trial.suggest_categorical(name, where.choices)
        else:
            draw = trial.suggest_int if isinstance(where.low, int) else trial.suggest_float
            chosen[name] = draw(name, where.low, where.high, step=where.step, log=where.log)
    return chosen


def tidy(value: Setting, distribution: Any) -> Setting:
    """Rounds a number to as many digits as a person wants to type: it stays in its range, and ranges stay dense."""
    if not isinstance(value, float) or hasattr(distribution, "choices"):
        return value
    low, high = float(distribution.low), float(distribution.high)
    if distribution.step is not None:
        return min(max(round(value, 10), low), high)
    largest = max(abs(low), abs(high))
    digits = _SIGNIFICANT_DIGITS + max(0, math.floor(-math.log10((high - low) / largest)) if high > low else 0)
    return min(max(float(f"{value:.{digits}g}"), low), high)


def values_of(distribution: Any) -> list[Setting] | None:
    """Returns all values of a distribution; None where they are not countable."""
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    if distribution.step is None:
        return None
    if isinstance(distribution.low, int):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    return list(_steps(Range(distribution.low, distribution.high, distribution.step)))


def count_combinations(distributions: Mapping[str, Any]) -> int | None:
    """Returns how many different settings there are; None if they are not countable."""
    counts: list[int] = []
    for each in distributions.values():
        if hasattr(each, "choices"):
            counts.append(len(each.choices))
        elif each.step is None:
            return None
        else:
            counts.append(_num_steps(Range(each.low, each.high, each.step)))
    return math.prod(counts)


def make_grid(space: Space, defaults: Mapping[str, Setting]) -> dict[str, list[Setting]]:
    """Returns the values of each setting that a grid tries: the steps of a range, or `GRID_POINTS` spread over it."""
    values: dict[str, list[Setting]] = {}
    for name, where in space.items():
        if isinstance(where, tuple):
            values[name] = list(where)
            continue
        if where.step is not None:
            points = _steps(where)
        elif where.log:
            points = [float(point) for point in np.geomspace(where.low, where.high, GRID_POINTS)]
        else:
            points = [float(point) for point in np.linspace(where.low, where.high, GRID_POINTS)]
        distribution = make_distributions({name: where}, defaults)[name]
        whole = isinstance(defaults[name], int)
        values[name] = list(dict.fromkeys(round(each) if whole else tidy(each, distribution) for each in points))
    return values


def check_grid(space: Space) -> None:
    """Makes sure that a grid can be gone through.

    Raises:
        SettingError: If it has more than `MAX_COMBINATIONS`.
    """
    counts = [
        len(where) if isinstance(where, tuple) else GRID_POINTS if where.step is None else _num_steps(where)
        for where in space.values()
    ]
    if math.prod(counts) > MAX_COMBINATIONS:
        raise SettingError(
            f"The grid has {math.prod(counts):,} combinations, more than {MAX_COMBINATIONS:,}: give fewer values, or "
            "another sampler."
        )


def _num_steps(where: Range) -> int:
    assert where.step is not None
    return math.floor((where.high - where.low) / where.step + 1e-9) + 1


def _step(where: Range, index: int) -> float:
    assert where.step is not None
    return min(round(where.low + index * where.step, 10), where.high)


def _steps(where: Range) -> list[float]:
    """The values of a range with a step, none of them above its end."""
    return [_step(where, index) for index in range(_num_steps(where))]
