"""Quantization-aware training: LSTMs learn to live with the integers that their int8 file computes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from edgelstm.converters.calibration import MAX_SAMPLES
from edgelstm.converters.stages.base import Outcome, Setting, Stage, Workshop
from edgelstm.converters.stages.cloning import independent_copy
from edgelstm.converters.stages.integer.network import Simulation
from edgelstm.converters.stages.surgery import check_graph
from edgelstm.errors import StageError


class Qat(Stage):
    """Trains a model while LSTM and Dense layers compute as in the int8 file.

    LSTMs compute the very integers of TensorFlow Lite's kernel forwards (`stages.integer.lstm`) and the gradients of
    the float formulas backwards. Ranges of activations begin as those of the data and are learned along
    (`stages.integer.ranges`). What comes out is a plain model with float weights and the ranges to export it with.
    """

    name: ClassVar[str] = "qat"
    title: ClassVar[str] = "quantization-aware training: weights and ranges that lose little in int8"
    settings: ClassVar[Mapping[str, Setting]] = {
        "epochs": Setting(5, "passes over the data; 0 only measures ranges", low=0),
        "learning_rate": Setting(0.0, "of the optimizer; 0 for that of the data", low=0.0),
        "learn_ranges": Setting(True, "whether ranges of activations are learned; else they stay as measured"),
        "samples": Setting(MAX_SAMPLES, "examples to measure ranges on", low=1, high=MAX_SAMPLES),
    }

    def apply(self, model: Any, workshop: Workshop) -> Outcome:
        """Returns a trained copy with the ranges of its int8 tensors.

        Raises:
            StageError: If the model is subclassed, or has no LSTM that can compute in integers.
            EdgeLSTMError: If the training fails.
        """
        simulation = simulated(model)
        simulation.observe(workshop.train.x, int(self.number("samples")))
        simulation.start(learn=bool(self.values["learn_ranges"]))
        notes = list(simulation.notes)
        before, untrained = workshop.loss(simulation.model), simulation.model.get_weights()
        workshop.report(f"qat: loss {before:.4f} in int8 before training")
        workshop.finetune(
            simulation.model,
            epochs=int(self.number("epochs")),
            learning_rate=self.number("learning_rate") or None,
            keep="best",
            name=self.name,
        )
        after = workshop.loss(simulation.model)
        workshop.report(f"qat: loss {after:.4f} in int8 after training")
        if after > before:
            simulation.model.set_weights(untrained)
            notes.append(
                f"Training in int8 did not lower the loss of {before:.4f} (it became {after:.4f}), so the weights stay "
                "as they were. Try a smaller learning_rate or more epochs."
            )
        result = independent_copy(model)
        for source, target in zip(simulation.weights, result.weights, strict=True):
            target.assign(source)
        figures = {"loss_before": before, "loss_after": min(before, after), "layers": sorted(simulation.lstms)}
        return Outcome(result, tuple(notes), figures, ranges=simulation.ranges())


def simulated(model: Any) -> Simulation:
    """An independent copy of a model that computes as its int8 file, ready to observe ranges.

    Raises:
        StageError: If the model is subclassed, or has no LSTM that can compute in integers.
    """
    check_graph(model)
    simulation = Simulation(independent_copy(model))
    if not simulation.lstms:
        reasons = f" ({' '.join(simulation.notes)})" if simulation.notes else ""
        raise StageError(
            f"Model {model.name!r} has no LSTM layer that can compute in integers{reasons}. Leave 'qat' out, or use "
            "LSTM layers with tanh and sigmoid."
        )
    return simulation
