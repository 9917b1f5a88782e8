"""Offline data for early warnings: the sensors of a pump, every ten minutes, written from a seed.

The pump runs for half a day to two days between faults. Three quarters of the faults announce themselves: over the six
hours before them vibration rises slowly while pressure sinks. One quarter comes without any sign, so nobody can
announce all. What looks alike is no sign: vibration alone rises for hours when the load does, pressure alone sinks when
the filter is cleaned, and both return to normal. During a fault, half an hour to two hours, the pump stands still.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgelstm.tasks.series.reading import Series

COLUMNS = ("vibration", "pressure", "temperature", "current")
LABEL = "fault"
STEP_S = 600.0
SHARE_WITH_SIGNS = 0.75
NUM_STEPS_OF_SIGNS = 36
"""Rows before a fault over which its signs grow."""

_START_S = 1704067200
_STEPS_BETWEEN = (80, 260)
_STEPS_OF_FAULT = (3, 12)

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Machine:
    """A written series.

    Attributes:
        series: Columns "vibration" (mm/s), "pressure" (bar), "temperature" (degrees Celsius), "current" (A).
        is_fault: Whether the pump stands still, shape (n,).
        has_signs: Whether a row belongs to a fault that announces itself, shape (n,).
    """

    series: Series
    is_fault: npt.NDArray[np.bool_]
    has_signs: npt.NDArray[np.bool_]


def write_machine(num_rows: int, seed: int) -> Machine:
    """Writes a series.

    Args:
        num_rows: Steps of ten minutes.
        seed: The same seed writes the same series.
    """
    generator = np.random.default_rng((seed, 1))
    wear, is_fault, has_signs = _faults(generator, num_rows)
    # Each looks like one half of the signs of a fault.
    vibration_alone, pressure_alone = (_episodes(generator, num_rows) for _ in range(2))
    hours = np.arange(num_rows) * STEP_S / 3600
    daily = np.sin(2 * np.pi * (hours - 9) / 24)
    load = _slow(generator, num_rows, 0.95)
    vibration = 2.0 + 0.15 * load + 1.2 * (wear + vibration_alone) + generator.normal(0, 0.35, num_rows)
    pressure = 6.0 + 0.10 * daily - 0.6 * (wear + pressure_alone) + generator.normal(0, 0.20, num_rows)
    temperature = 55 + 3 * daily + 2 * load + 1.5 * vibration_alone + generator.normal(0, 0.8, num_rows)
    current = 12 + 0.8 * load + 0.4 * vibration_alone + generator.normal(0, 0.3, num_rows)
    values = np.stack([vibration, pressure, temperature, current], axis=1)
    still = generator.normal(0, 0.05, (int(is_fault.sum()), 2))
    values[is_fault, :2] = np.array([0.1, 0.2]) + np.abs(still)
    values[is_fault, 3] = 0
    seconds = _START_S + STEP_S * np.arange(num_rows, dtype=np.float64)
    return Machine(Series(COLUMNS, values, seconds, is_calendar=True), is_fault, has_signs)


def _faults(
    generator: np.random.Generator, num_rows: int
) -> tuple[Numbers, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Wear from 0 to 1 before faults, and the faults."""
    wear, is_fault, has_signs = np.zeros(num_rows), np.zeros(num_rows, bool), np.zeros(num_rows, bool)
    start = int(generator.integers(*_STEPS_BETWEEN))
    while start < num_rows:
        end = start + int(generator.integers(*_STEPS_OF_FAULT))
        is_fault[start:end] = True
        if generator.random() < SHARE_WITH_SIGNS:
            has_signs[start:end] = True
            before = np.arange(max(0, start - NUM_STEPS_OF_SIGNS), start)
            wear[before] = (before - start + NUM_STEPS_OF_SIGNS + 1) / NUM_STEPS_OF_SIGNS
        start = end + int(generator.integers(*_STEPS_BETWEEN))
    return wear, is_fault, has_signs


def _episodes(generator: np.random.Generator, num_rows: int) -> Numbers:
    """Rises from 0 to 1 over six hours and falls back within one, again and again."""
    shape = np.concatenate([np.linspace(0, 1, NUM_STEPS_OF_SIGNS), np.linspace(1, 0, 6)])
    values = np.zeros(num_rows + len(shape))
    start = 0
    while start < num_rows:
        values[start : start + len(shape)] = shape
        start += len(shape) + int(generator.integers(*_STEPS_BETWEEN))
    return values[:num_rows]


def _slow(generator: np.random.Generator, count: int, memory: float) -> Numbers:
    """Autoregressive noise with a standard deviation of 1."""
    values = generator.normal(0, np.sqrt(1 - memory**2), count)
    for index in range(1, count):
        values[index] += memory * values[index - 1]
    return values
