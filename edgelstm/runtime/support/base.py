"""The contract of a rule: what can be said about a file on a runtime, without running it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgelstm.runtime.support.facts import Facts

Loads = Literal["yes", "no", "unknown"]
Right = Literal["yes", "reset", "no", "unknown"]
Basis = Literal["run", "rule", "documented"]


@dataclass(frozen=True)
class Verdict:
    """What becomes of a file on a runtime.

    Attributes:
        loads: Whether it loads.
        right: Whether it answers rightly: "yes" on every call, "reset" if it does after a reset of its state and only
            then, "no", or "unknown". Rightly is as the Interpreter answers after a reset, not as Keras would. For a
            streaming model "yes" means that its state survives and can be reset.
        why: Why not, or on what condition, as a clause; empty if there is nothing to say.
        cure: The choice of `--runtime` that makes a file for it, where this one does not do and another can.
    """

    loads: Loads
    right: Right
    why: str = ""
    cure: str | None = None


RIGHT = Verdict("yes", "yes")


def refused(why: str, cure: str | None = None) -> Verdict:
    """Returns the verdict about a file that does not load."""
    return Verdict("no", "no", why, cure)


def not_known(why: str) -> Verdict:
    """Returns the verdict about a file of which nothing is known."""
    return Verdict("unknown", "unknown", why)


@dataclass(frozen=True)
class Runtime:
    """Something that runs files, with its rule.

    Attributes:
        name: Stable name; that of the engine where it can be run here.
        title: Name for people.
        rule: Says what becomes of a file.
        engine: Name of the engine that runs it here, None if it cannot be had here.
        sources: Where the rule is documented; for a runtime that tests run, where its limits are.
        has_reset: Whether an app can reset the variable tensors.
        is_delegate: Whether it is no runtime by itself but takes parts of a model from the Interpreter.
    """

    name: str
    title: str
    rule: Callable[[Facts], Verdict]
    engine: str | None
    sources: tuple[str, ...]
    has_reset: bool = False
    is_delegate: bool = False

    @property
    def basis(self) -> Basis:
        """How the rule is known: "rule" if tests check it by running files, "documented" if nothing runs it here."""
        return "documented" if self.engine is None else "rule"


def listed(names: list[str], most: int = 3) -> str:
    """Returns the first few names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
