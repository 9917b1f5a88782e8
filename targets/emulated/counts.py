"""What the counting plugin wrote, and what it means for one inference."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path

from edgelstm.errors import TargetError
from edgelstm.targets.measurement import InstructionCount

Counters = dict[str, int]

NAMES = ("instructions", "simd", "multiply_adds", "loads", "stores", "load_bytes", "store_bytes")
"""The plugin's counters; insn.c says what they are."""


def read_marks(path: Path) -> list[tuple[int, Counters]]:
    """Reads the file that the plugin wrote.

    Returns:
        Number and counters of each mark, in order.

    Raises:
        TargetError: If it is not such a file.
    """
    marks = []
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            kind, number, *rest = line.split()
            counters = {name: int(value) for name, value in zip(rest[::2], rest[1::2], strict=True)}
            if tuple(counters) != NAMES:
                raise ValueError(f"counters {', '.join(counters)}")
            if kind == "mark":
                marks.append((int(number), counters))
    except (OSError, ValueError) as error:
        raise TargetError(
            f"The emulator's plugin left no counts that can be read ({error}). Set it up again: edgelstm targets setup "
            "emulated:arm64 --again."
        ) from error
    return marks


def per_inference(marks: Sequence[tuple[int, Counters]]) -> list[Counters]:
    """Returns the counters of every inference: the difference of two marks, less that of a pair with nothing between.

    Args:
        marks: Numbers 0, 0, 1, 2, … in this order, as op "count" of the worker sets them.

    Raises:
        TargetError: If they are others.
    """
    if len(marks) < 3 or [number for number, _ in marks] != [0, *range(len(marks) - 1)]:
        raise TargetError(
            f"The worker marked {[number for number, _ in marks]} instead of 0, 0, 1, … to the emulator's plugin."
        )
    counters = [values for _, values in marks]
    cost = {name: counters[1][name] - counters[0][name] for name in NAMES}
    return [
        {name: after[name] - before[name] - cost[name] for name in NAMES}
        for before, after in itertools.pairwise(counters[1:])
    ]


def summarize_counts(inferences: Sequence[Counters], cpu: str) -> InstructionCount:
    """Returns medians over inferences, at least one.

    Args:
        inferences: What `per_inference` returned, of any number of processes.
        cpu: The processor that was emulated.
    """
    totals = [counters["instructions"] for counters in inferences]
    return InstructionCount(
        instructions=statistics.median_low(totals),
        least=min(totals),
        most=max(totals),
        inferences=len(totals),
        parts={name: statistics.median_low([counters[name] for counters in inferences]) for name in NAMES[1:]},
        cpu=cpu,
    )
