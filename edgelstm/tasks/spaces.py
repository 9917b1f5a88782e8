"""Ranges of settings that a search for good ones looks at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Values that a setting may take.

    Attributes:
        low: The smallest value.
        high: The largest value, itself included.
        step: Distance between values; None for any value in between, whole numbers where the setting is one.
        log: Whether orders of magnitude, not values, are equally likely.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False


UNITS = Range(32, 256, step=32)
DROPOUT = Range(0.1, 0.5, step=0.1)
LEARNING_RATE = Range(1e-4, 1e-2, log=True)
LENGTH = Range(100, 500, step=100)
