"""The guard: whether a smaller model has lost too much, asked of examples that nothing else has seen."""

from __future__ import annotations

import dataclasses

import numpy as np

from edgelstm.compression.learning import Learning
from edgelstm.errors import DataError
from edgelstm.tasks.base import Array

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

    Tuning sees the other half: the choice of epochs, ranks and precisions. The test examples stay for the report. Of
    windows over one series, which share most of their rows with their neighbours, the guard has the later ones, and
    none that shares a row with those for tuning.

    Raises:
        DataError: If there are too few to share.
    """
    validation = learning.data.validation
    if len(validation) < 2 * MIN_EXAMPLES:
        raise DataError(
            f"{learning.name} has {len(validation)} validation examples, too few to share with a guard: give more "
            "data, or a recipe without [guard]."
        )
    tuning, guarding = (validation.take(part) for part in _halves(learning))
    data = dataclasses.replace(learning.data, validation=tuning)
    return dataclasses.replace(learning, data=data, guarding=guarding)


def _halves(learning: Learning) -> tuple[Array, Array]:
    """Numbers of the validation examples for tuning, and of those for the guard."""
    data, count = learning.data, len(learning.data.validation)
    half = count // 2
    if "ends" in data.extra:
        ends = np.asarray(data.extra["ends"]["validation"])
        length = max(array.shape[1] for array in data.validation.x.values() if array.ndim > 1)
        later = np.flatnonzero(ends >= ends[:half].max() + length)
        if len(later) >= MIN_EXAMPLES:
            return np.arange(half), later
    order = np.random.default_rng([_SALT, learning.setup.seed]).permutation(count)
    return np.sort(order[:half]), np.sort(order[half:])


def uncertainty_note(guard: Guard, examples: int) -> str | None:
    """Returns what the user should know where the guard has too few examples to see what may be lost.

    Half the width of the 95 % interval of a share p of n examples is 1.96 sqrt(p (1 - p) / n), p being that of the
    reference with one more right and one more wrong answer (Laplace's rule of succession).
    """
    if not guard.higher_is_better:
        return None
    share = (guard.reference * examples + 1) / (examples + 2)
    width = 100 * 1.96 * float(np.sqrt(max(share * (1 - share), 0) / examples))
    if width <= guard.max_drop:
        return None
    return (
        f"The guard has {examples} examples, which leaves what it sees uncertain by {width:.2g} points, and max_drop "
        f"is {guard.max_drop:g}: compare the score on the test examples. More validation data lets it see less."
    )
