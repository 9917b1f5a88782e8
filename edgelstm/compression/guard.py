"""The guard: whether a smaller model has lost too much, asked of examples that nothing else has seen."""

from __future__ import annotations

import dataclasses

import numpy as np

from edgelstm.compression.learning import Learning
from edgelstm.errors import DataError

MIN_EXAMPLES = 2
_SALT = 71


@dataclasses.dataclass(frozen=True)
class Guard:
    """Judges scores on its examples.

    Attributes:
        max_drop: What may be lost: points, hundredths of a score; percent of an error.
        reference: Score of the model as it came, in float32.
        higher_is_better: Whether scores should be high.
    """

    max_drop: float
    reference: float
    higher_is_better: bool

    def drop(self, score: float) -> float:
        """Returns what a score has lost: points, or percent of an error; negative where it is better."""
        if self.higher_is_better:
            return 100 * (self.reference - score)
        return 100 * (score / self.reference - 1) if self.reference else (0.0 if score <= 0 else np.inf)

    def allows(self, score: float) -> bool:
        """Tells whether a score may stay; rounding of floats does not count."""
        return bool(self.drop(score) <= self.max_drop + 1e-9)

    def refusal(self, score: float) -> str:
        """Returns why a score may not stay."""
        unit = "points" if self.higher_is_better else "% more error"
        lost = f"{self.drop(score):.2f} {unit}"
        return f"{'it loses ' + lost if self.higher_is_better else lost}, and {self.max_drop:g} are allowed"


def split_for_guard(learning: Learning) -> Learning:
    """Takes half the validation examples away for the guard.

    Tuning sees the other half: the choice of epochs, ranks and precisions. The test examples stay for the report.

    Raises:
        DataError: If there are too few to share.
    """
    validation = learning.data.validation
    if len(validation) < 2 * MIN_EXAMPLES:
        raise DataError(
            f"{learning.name} has {len(validation)} validation examples, too few to share with a guard: give more "
            "data, or leave max_drop out."
        )
    order = np.random.default_rng([_SALT, learning.setup.seed]).permutation(len(validation))
    half = len(validation) // 2
    tuning, guarding = (validation.take(np.sort(part)) for part in (order[:half], order[half:]))
    data = dataclasses.replace(learning.data, validation=tuning)
    return dataclasses.replace(learning, data=data, guarding=guarding)


def resolution_note(guard: Guard, examples: int) -> str | None:
    """Returns what the user should know where one example weighs more than what may be lost."""
    point = 100 / examples
    if not guard.higher_is_better or guard.max_drop >= point:
        return None
    return (
        f"The guard has {examples} examples, so one of them is {point:.2g} points: with max_drop {guard.max_drop:g} "
        "not one may be lost. More validation data lets it see smaller losses."
    )
