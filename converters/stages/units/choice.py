"""Which units go: the least of each set of layers whose units are tied."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.converters.stages.units.trace import Source, Trace

Array = npt.NDArray[Any]
Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """Units that are ranked together: those that the same layers share.

    Attributes:
        names: Of these layers.
        roots: Of the units that can go, shape (units,).
    """

    names: Names
    roots: Array


def groups(trace: Trace, kinds: Collection[str], only: Collection[str] = ()) -> list[Group]:
    """Returns what can be cut.

    Args:
        trace: Of the model.
        kinds: A group is cut where at least one layer of these kinds, see `Source`, shares its units.
        only: Where not empty, at least one such layer must be among these paths.
    """
    roots, stay = trace.ties.roots(), trace.ties.reasons()
    sharing: dict[int, dict[str, bool]] = {}
    for source in trace.sources:
        wanted = source.kind in kinds and (not only or source.path in only)
        for root in set(roots[source.ids].tolist()) - set(stay):
            names = sharing.setdefault(root, {})
            names[source.name] = names.get(source.name, False) or wanted
    found: dict[Names, list[int]] = {}
    for root, names in sharing.items():
        if any(names.values()):
            found.setdefault(tuple(names), []).append(root)
    return [Group(names, np.array(sorted(members))) for names, members in found.items()]


def kept_units(group: Group, fraction: float, multiple: int, least: int) -> int:
    """Returns how many units of a group stay.

    Args:
        group: Of tied layers.
        fraction: Share that goes.
        multiple: What stays is rounded up to a multiple of it.
        least: At least so many stay.
    """
    count = len(group.roots)
    # A product like 0.7 * 10 lies a rounding above the whole number.
    kept = max(math.ceil((1 - fraction) * count - 1e-9), least, 1)
    return min(-(-kept // multiple) * multiple, count)


def least_units(trace: Trace, chosen: Mapping[Names, int], found: Collection[Group], worth: Array) -> Array:
    """Returns the roots of the units that go.

    Args:
        trace: Of the model.
        chosen: How many units stay, by the names of a group.
        found: The groups of the model.
        worth: Of each unit, by root.
    """
    gone: set[int] = set()
    for group in found:
        if group.names in chosen:
            order = np.argsort(worth[group.roots], kind="stable")
            gone.update(group.roots[order[: len(group.roots) - chosen[group.names]]].tolist())
    return np.array(sorted(_evened(trace, gone, worth)), np.int64)


def _evened(trace: Trace, gone: set[int], worth: Array) -> set[int]:
    """Takes units back until as many go on either side of every pair."""
    roots = trace.ties.roots()
    while True:
        for pair in trace.even:
            lost = [[root for root in roots[ids].tolist() if root in gone] for ids in pair]
            if len(lost[0]) != len(lost[1]):
                more = max(lost, key=len)
                gone = gone - {max(more, key=lambda root: (worth[root], root))}
                break
        else:
            return gone


def left_alone(trace: Trace, kinds: Collection[str]) -> dict[str, str]:
    """Returns the layers of some kinds of which no unit can go, by name, and why, a clause."""
    roots, stay = trace.ties.roots(), trace.ties.reasons()
    return {
        source.name: _reason(source, roots, stay)
        for source in trace.sources
        if source.kind in kinds and set(roots[source.ids].tolist()) <= set(stay)
    }


def _reason(source: Source, roots: Array, stay: Mapping[int, str]) -> str:
    return next(stay[root] for root in roots[source.ids].tolist() if root in stay)
