"""What happened in a training so far: what its checkpoint keeps beside weights."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

PLATEAU_FACTOR = 0.5
"""What the learning rate is multiplied with when the validation loss stands still."""


@dataclasses.dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch: Number of complete epochs.
        batch: Batches done in the epoch that has begun.
        history: Figures of each complete epoch.
        best_epoch: The complete epoch, from 0 on, with the lowest validation loss.
        best_loss: That loss.
        since_reduction: Epochs without a lower loss since the learning rate was last reduced.
        gradient_norms: Of the steps of the epoch that has begun.
        seconds: Time spent.
    """

    epoch: int = 0
    batch: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_epoch: int = -1
    best_loss: float = math.inf
    since_reduction: int = 0
    gradient_norms: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return dataclasses.asdict(self)

    def close_epoch(self, figures: dict[str, float]) -> bool:
        """Enters the figures of an epoch; returns whether it is the best one so far.

        Args:
            figures: With "val_loss"; a loss that is no number is never the best.
        """
        self.history.append(figures)
        better = figures["val_loss"] < self.best_loss
        if better:
            self.best_loss, self.best_epoch = figures["val_loss"], self.epoch
        self.since_reduction = 0 if better else self.since_reduction + 1
        self.epoch, self.batch, self.gradient_norms = self.epoch + 1, 0, []
        return better

    def is_over(self, epochs: int, patience: int) -> bool:
        """Whether the training has ended: all epochs done, or too many without a lower validation loss."""
        waited = self.epoch - 1 - self.best_epoch if self.best_epoch >= 0 else self.epoch
        return self.epoch >= epochs or bool(patience and waited >= patience)

    def wants_reduction(self, patience: int) -> bool:
        """Whether the loss has stood still so long that the learning rate is to be reduced; begins to count anew."""
        if self.since_reduction < max(1, patience // 2):
            return False
        self.since_reduction = 0
        return True
