"""Offline data for trends: a price, day by day, written from a seed.

Changes of the logarithm of the price are normal; their mean and spread depend on the state of the market, which is
hidden and lasts for weeks: calm and rising, or restless and falling (a hidden Markov chain of two states). Because the
chain is known, so is the best possible answer: the probability of a rise given all changes so far, which `chance`
computes exactly. Nobody can be right more often than who follows it, except by luck.

Source: Hamilton, "A new approach to the economic analysis of nonstationary time series and the business cycle",
Econometrica 57 (1989), 357-384: the filter of such chains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgelstm.tasks.series.reading import Series

COLUMN = "price"
MEANS = np.array([-0.0065, 0.005])
SPREADS = np.array([0.014, 0.008])
STAYS = np.array([0.93, 0.945])
"""Falling, rising: mean and standard deviation of a change, and how probably the state is the same one step later."""

_START_S = 1704067200
_DAY_S = 86400.0

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Market:
    """A written series.

    Attributes:
        series: Column "price", one row a day.
        changes: Changes of the logarithm of the price that led to each row, shape (n,); that of the first row is 0.
    """

    series: Series
    changes: Numbers

    def chance(self, horizon: int) -> Numbers:
        """Computes the probability that the price is higher after some steps, given all changes so far.

        Args:
            horizon: Steps.

        Returns:
            Shape (n,): for each row.
        """
        return _filtered(self.changes) @ _chance_from(horizon)


def write_market(num_rows: int, seed: int) -> Market:
    """Writes a series.

    Args:
        num_rows: Days.
        seed: The same seed writes the same series.
    """
    generator = np.random.default_rng((seed, 2))
    draws = generator.random(num_rows)
    states = np.empty(num_rows, int)
    state = 1
    for row in range(num_rows):
        if row and draws[row] >= STAYS[state]:
            state = 1 - state
        states[row] = state
    changes = generator.normal(MEANS[states], SPREADS[states])
    changes[0] = 0
    price = 100 * np.exp(np.cumsum(changes))
    seconds = _START_S + _DAY_S * np.arange(num_rows, dtype=np.float64)
    return Market(Series((COLUMN,), price[:, np.newaxis], seconds, is_calendar=True), changes)


def _transitions() -> Numbers:
    return np.array([[STAYS[0], 1 - STAYS[0]], [1 - STAYS[1], STAYS[1]]])


def _filtered(changes: Numbers) -> Numbers:
    """Probability of each state given the changes up to each row, shape (n, 2)."""
    transitions = _transitions()
    likelihoods = np.exp(-(((changes[:, np.newaxis] - MEANS) / SPREADS) ** 2) / 2) / SPREADS
    probabilities = np.empty((len(changes), 2))
    now = np.array([0.0, 1.0])
    probabilities[0] = now
    for row in range(1, len(changes)):
        now = (now @ transitions) * likelihoods[row]
        now = now / now.sum()
        probabilities[row] = now
    return probabilities


def _chance_from(horizon: int) -> Numbers:
    """Probability that the next changes add up to more than 0, by the state now, shape (2,).

    Given that `rising` of them come from the rising state, their sum is normal.
    """
    transitions = _transitions()
    chances = np.zeros(2)
    for start in (0, 1):
        # [rising steps so far, state]
        paths = np.zeros((horizon + 1, 2))
        paths[0, start] = 1
        for _ in range(horizon):
            moved = paths @ transitions
            paths = np.stack([moved[:, 0], np.concatenate([[0.0], moved[:-1, 1]])], axis=1)
        for rising, probability in enumerate(paths.sum(axis=1)):
            counts = np.array([horizon - rising, rising])
            spread = math.sqrt(counts @ SPREADS**2)
            chances[start] += probability * (1 + math.erf(counts @ MEANS / spread / math.sqrt(2))) / 2
    return chances
