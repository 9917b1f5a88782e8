"""The support matrix of one file: an entry for each runtime, delegate and platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgelstm.runtime.inspection import Inspection
from edgelstm.runtime.support.base import Basis, Loads, Right, Runtime, Verdict
from edgelstm.runtime.support.facts import Facts, read_facts
from edgelstm.runtime.support.table import PLATFORMS, RUNTIMES

_BEST_FIRST: tuple[Right, ...] = ("yes", "reset", "unknown", "no")


@dataclass(frozen=True)
class Support:
    """What becomes of a file on a runtime, by a delegate, or on a platform.

    Attributes:
        kind: "runtime", "delegate" or "platform".
        name: Stable name.
        title: Name for people.
        loads: "yes", "no" or "unknown"; for a platform: on any of its runtimes.
        right: Whether answers are right: "yes" on every call, "reset" only after a reset before each, "no", "unknown".
        basis: "run" if the file was run on it here, "rule" if by a rule that tests check on that runtime,
            "documented" if by what others have written about it.
        why: Why not, or on what condition; empty if there is nothing to say.
        cure: The choice of `--runtime` that makes a file for it, where this one does not do and another can.
        runtimes: Of a platform: titles of those of its runtimes that do best.
        sources: Where a rule is documented.
    """

    kind: Literal["runtime", "delegate", "platform"]
    name: str
    title: str
    loads: Loads
    right: Right
    basis: Basis
    why: str
    cure: str | None = None
    runtimes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether the file loads and answers rightly, with resets or without."""
        return self.loads == "yes" and self.right in ("yes", "reset")

    def to_json(self) -> dict[str, Any]:
        """Returns the entry as values that JSON can hold."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def find_support(facts: Facts, runs: Mapping[str, Verdict] | None = None) -> list[Support]:
    """Says what becomes of a file everywhere.

    Args:
        facts: About the file.
        runs: What was seen when the file was run, by engine; it goes before the rule.

    Returns:
        The runtimes, then the delegates, then the platforms.
    """
    runs = runs or {}
    entries = {name: _entry(runtime, facts, runs.get(runtime.engine or "")) for name, runtime in RUNTIMES.items()}
    return [*entries.values(), *(_platform(name, [entries[key] for key in keys]) for name, keys in PLATFORMS.items())]


def _entry(runtime: Runtime, facts: Facts, run: Verdict | None) -> Support:
    verdict = run or runtime.rule(facts)
    return Support(
        kind="delegate" if runtime.is_delegate else "runtime",
        name=runtime.name,
        title=runtime.title,
        loads=verdict.loads,
        right=verdict.right,
        basis="run" if run else runtime.basis,
        why=verdict.why,
        cure=verdict.cure,
        sources=runtime.sources,
    )


def _platform(name: str, entries: Sequence[Support]) -> Support:
    """Sums up the runtimes of a platform: as good as the best of them."""
    best = min(entries, key=lambda entry: _BEST_FIRST.index(entry.right))
    equals = [entry for entry in entries if (entry.loads, entry.right) == (best.loads, best.right)]
    return Support(
        kind="platform",
        name=name.lower().replace(" ", "-"),
        title=name,
        loads=best.loads,
        right=best.right,
        basis="run" if any(entry.basis == "run" for entry in equals) else best.basis,
        why=best.why,
        cure=best.cure,
        runtimes=tuple(entry.title for entry in equals if entry.right != "no"),
    )


def support_entries(inspection: Inspection, path: Path, verified_engines: Mapping[str, bool]) -> list[dict[str, Any]]:
    """The support matrix of a file that was compared with its Keras model.

    Args:
        inspection: What `inspect` says about the file.
        path: The file.
        verified_engines: Whether it passed, by engine that it was compared on.

    Returns:
        `Support` entries as JSON values.

    Raises:
        LoadError: If the file cannot be read.
    """
    facts = read_facts(inspection, path)
    runs = {
        name: _verified(RUNTIMES[name], facts, passed) for name, passed in verified_engines.items() if name in RUNTIMES
    }
    return [entry.to_json() for entry in find_support(facts, runs)]


def _verified(runtime: Runtime, facts: Facts, passed: bool) -> Verdict:
    if not passed:
        return Verdict("unknown", "no", "it failed the comparison with the Keras model")
    rule = runtime.rule(facts)
    return Verdict("yes", "yes", rule.why if rule.right == "yes" else "")
