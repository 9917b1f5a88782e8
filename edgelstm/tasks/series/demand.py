"""Offline data for forecasts: how much power a building takes, hour by hour, written from a seed.

    demand = level + people * profile(hour) + heating + noise

The level rises slowly. People are at home or away, for days at a time (a Markov chain, drawn anew each midnight); at
home, weekends have another profile than working days. Heating follows the temperature with half a day's delay, below
16 degrees Celsius only. Noise is autoregressive: n[t] = 0.6 n[t-1] + e[t], e normal with a standard deviation of 3 kW.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgelstm.tasks.series.reading import Series

COLUMNS = ("demand", "temperature")
NOISE_MEMORY = 0.6
NOISE_KW = 3.0

# 2024-01-01, a Monday.
_START_S = 1704067200
_LEAVES, _RETURNS = 1 / 10, 1 / 4

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Demand:
    """A written series.

    Attributes:
        series: Columns "demand" (kW) and "temperature" (degrees Celsius), one row an hour.
        signal: Demand without noise, shape (n,).
    """

    series: Series
    signal: Numbers

    def expectation(self, ends: npt.NDArray[np.int64], horizon: int) -> Numbers:
        """Forecasts as one would who knows how the series is made, and its signal in advance: nobody can do better.

        Args:
            ends: Rows after which is forecast, shape (n,).
            horizon: Rows to forecast.

        Returns:
            Signal and what is left of the noise, shape (n, horizon).
        """
        steps = np.arange(1, horizon + 1)
        noise = (self.series.column("demand") - self.signal)[ends]
        known: Numbers = self.signal[ends[:, np.newaxis] + steps] + noise[:, np.newaxis] * NOISE_MEMORY**steps
        return known


def write_demand(num_rows: int, seed: int) -> Demand:
    """Writes a series.

    Args:
        num_rows: Hours.
        seed: The same seed writes the same series.
    """
    generator = np.random.default_rng((seed, 0))
    hours = np.arange(num_rows)
    hour, day = hours % 24, hours // 24
    yearly = -9 * np.cos(2 * np.pi * hours / (24 * 365))
    weather = _autoregressive(generator, num_rows, 0.99, 0.5)
    temperature = 9 + yearly + 4 * np.sin(2 * np.pi * (hour - 9) / 24) + weather
    heating = 1.5 * np.maximum(0, 16 - _delayed(temperature, 12))
    is_home = _stays(generator, int(day[-1]) + 1)[day]
    profile = np.where(day % 7 < 5, _bump(hour, 7.5, 1.5) + 1.3 * _bump(hour, 19, 2.5), 1.2 * _bump(hour, 13, 4.5))
    people = np.where(is_home, 45 * profile, 6 * _bump(hour, 12, 3))
    signal = 60 + 10 * hours / (24 * 365) + people + heating
    demand = signal + _autoregressive(generator, num_rows, NOISE_MEMORY, NOISE_KW)
    values = np.stack([demand, temperature], axis=1)
    seconds = _START_S + 3600 * hours.astype(np.float64)
    return Demand(Series(COLUMNS, values, seconds, is_calendar=True), signal)


def _bump(hour: npt.NDArray[np.int64], centre: float, width: float) -> Numbers:
    bump: Numbers = np.exp(-(((hour - centre) / width) ** 2) / 2)
    return bump


def _stays(generator: np.random.Generator, num_days: int) -> npt.NDArray[np.bool_]:
    is_home = np.empty(num_days, bool)
    now = True
    for day, chance in enumerate(generator.random(num_days)):
        now = chance >= _LEAVES if now else chance < _RETURNS
        is_home[day] = now
    return is_home


def _autoregressive(generator: np.random.Generator, count: int, memory: float, spread: float) -> Numbers:
    values = generator.normal(0, spread, count)
    values[0] /= np.sqrt(1 - memory**2)
    for index in range(1, count):
        values[index] += memory * values[index - 1]
    return values


def _delayed(values: Numbers, hours: float) -> Numbers:
    """What a body of that time constant feels."""
    delayed = values.copy()
    for index in range(1, len(values)):
        delayed[index] = delayed[index - 1] + (values[index] - delayed[index - 1]) / hours
    return delayed
