"""Calls of one session, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .arrays import read_feeds
from .plan import PlanError, read_key
from .session import Arrays, Session, describe_tensors


def calls_of(session: Session, plan: dict[str, Any]) -> tuple[int, Iterator[int]]:
    """Feeds the inputs of the plan, call by call.

    Returns:
        The number of calls, and an iterator over them; when it yields, the inputs of that call are set.
    """
    carry = read_key(plan, "carry", dict, {})
    reset, sequence = read_key(plan, "reset", bool, False), read_key(plan, "sequence", int, 0)
    feeds = read_feeds(session, read_key(plan, "inputs", str), set(session.inputs) - set(carry))
    session.resize(feeds)
    zeros = carried_zeros(session, carry)
    calls = len(next(iter(feeds.values())))

    def iterate() -> Iterator[int]:
        for call in range(calls):
            begins = call == 0 or (sequence > 0 and call % sequence == 0)
            answers = {} if begins or not carry else session.read_outputs()
            if reset and (begins or not sequence):
                session.reset()
            session.feed({name: array[call] for name, array in feeds.items()})
            session.feed(zeros if begins else {name: answers[output] for name, output in carry.items()})
            yield call

    return calls, iterate()


def carried_zeros(session: Session, carry: dict[str, str]) -> Arrays:
    """Returns zeros, as real values, for the inputs that take outputs.

    Raises:
        PlanError: If a name is unknown, or an output differs from its input in shape, dtype or quantization.
    """
    zeros = {}
    for name, output in carry.items():
        if name not in session.inputs or output not in session.outputs:
            raise PlanError(f"carry names {name!r} and {output!r}, which are not an input and an output of the model")
        (one,), (other,) = (
            describe_tensors({key: tensors[key]})
            for key, tensors in ((name, session.inputs), (output, session.outputs))
        )
        if any(one[key] != other[key] for key in ("shape", "dtype", "scale", "zero_point")):
            raise PlanError(f"output {output!r} is not of the shape and type of input {name!r}, to which it is carried")
        zeros[name] = np.full(one["shape"], one["zero_point"] or 0, one["dtype"])
    return zeros
