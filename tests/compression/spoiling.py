"""A stage that spoils a model as much as it is told."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from edgelstm.converters.stages.base import Outcome, Setting, Stage
from edgelstm.converters.stages.cloning import independent_copy
from edgelstm.errors import EdgeLSTMError, StageError


class Spoil(Stage):
    """Turns answers around for the examples whose first answer is near a half: `share` of them."""

    name = "spoil"
    title = "spoils"
    settings: ClassVar = {
        "share": Setting(0.1, "share of wrong answers", low=0, high=1),
        "trouble": Setting("", "what goes wrong", choices=("", "nan", "fit")),
    }
    seeds: ClassVar[list[float]] = []

    def weaker(self):
        share = self.number("share")
        return self.but(share=share - 0.1 if share > 0.5 else share / 10) if share > 0.001 else None

    def apply(self, model, workshop):
        if self.values["trouble"] == "nan":
            raise EdgeLSTMError("The loss became nan in epoch 1.")
        if self.values["trouble"] == "fit":
            raise StageError("Model 'tiny' has nothing to spoil.")
        self.seeds.append(float(np.random.random()))
        copy = independent_copy(model)
        margins = np.diff(model.predict(workshop.train.x["x"], verbose=0), axis=1)[:, 0]
        logit = np.log((1 + margins) / (1 - margins))
        kernel, bias = copy.get_layer("answer").get_weights()
        bias[1] -= np.quantile(logit[logit > 0], min(1, 2 * self.number("share"))) if self.number("share") else 0
        copy.get_layer("answer").set_weights([kernel, bias])
        return Outcome(copy, figures={"share": self.number("share")})
