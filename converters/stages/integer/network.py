"""A Keras model that computes as its int8 file does, made of an independent copy by exchanging what its layers do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelstm.converters.calibration import MAX_SAMPLES
from edgelstm.converters.graph import Array
from edgelstm.converters.layers import layers_inside
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.lowering.trace import layer_paths
from edgelstm.converters.stages.integer.dense import DenseSimulation, activation_name
from edgelstm.converters.stages.integer.lstm import LstmSimulation
from edgelstm.converters.stages.integer.ranges import FIXED, FixedRange, Range
from edgelstm.converters.stages.integer.wiring import Wiring

BATCH = 64  # examples at a time while ranges are observed
HIDDEN_STATE = 1  # among the outputs of an LSTM layer


class Simulation:
    """A model with simulated LSTM and Dense layers; all other layers compute in float.

    It begins by observing ranges; `start` makes it compute with them.

    Args:
        model: An independent copy of a model, Sequential or Functional. Its layers are changed for good; read its
            weights from `weights`, not from the model, which has those of ranges among them.

    Attributes:
        model: The model.
        weights: Its own weights, without those of ranges, in Keras' order.
        lstms: Simulated LSTM layers by path.
        denses: Simulated Dense layers by path; by the path of the wrapper inside a TimeDistributed.
        notes: Sentences about layers that are not simulated.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.weights = list(model.weights)
        self.lstms: dict[str, LstmSimulation] = {}
        self.denses: dict[str, DenseSimulation] = {}
        self.notes: list[str] = []
        self._ranges: dict[tuple[int, int, int], Range] = {}
        self._outputs: dict[int, Range] = {}
        self._learning: list[tuple[Any, Range]] = []
        paths = layer_paths(model)
        self._wiring = Wiring(model)
        for layer, owner in self._wiring.layers:
            self._simulate(layer, owner, paths)

    def _simulate(self, layer: Any, owner: Any, paths: Mapping[int, str]) -> None:
        keras = import_keras()
        path = paths[id(layer)]
        if type(layer) is keras.layers.LSTM:
            reason = why_not_simulated(layer)
            if reason:
                self.notes.append(f"Layer {path!r} trains in float32: {reason}.")
                return
            lstm = self.lstms[path] = LstmSimulation(layer, self._range_into(owner, _features(layer)))
            self._learning.append((layer, lstm.output))
            if self._wiring.several_calls(owner):
                self.notes.append(
                    f"Layer {path!r} is called several times: it trains with one range for the inputs of all calls, "
                    "which the file may not have."
                )
            if owner is layer:
                self._outputs[id(layer)] = lstm.output
        elif type(layer) is keras.layers.Dense and getattr(layer, "quantization_mode", None) is None:
            path = paths[id(owner)]
            into = self._range_into(owner, _features(layer))
            dense = self.denses[path] = DenseSimulation(layer, into, last=id(owner) in self._wiring.outputs)
            self._learning += [(layer, each) for each in dense.ranges()]
            if dense.activated is not None:
                self._outputs[id(owner)] = dense.activated
        elif layer.weights and type(layer) is not keras.layers.Embedding and not layers_inside(layer):
            self.notes.append(
                f"Layer {path!r} ({type(layer).__name__}) trains in float32: only LSTM, Dense and Embedding layers "
                "are simulated."
            )

    def _range_into(self, layer: Any, features: int) -> Range:
        """The range of a layer's input: that of what it reads, one range for all that read it."""
        source, node, position = self._wiring.source_of(layer)
        index = (id(source), node, position)
        if id(source) in self._outputs and position in (0, HIDDEN_STATE):
            return self._outputs[id(source)]
        if index not in self._ranges:
            self._ranges[index] = _fixed_range(source) or Range(features)
            self._learning.append((layer, self._ranges[index]))
        return self._ranges[index]

    def observe(self, x: Mapping[str, Array], samples: int) -> None:
        """Records ranges and cell states on data.

        Args:
            x: Arrays by input name, shape (n, ...).
            samples: Number of samples to use, taken from everywhere.
        """
        import numpy as np

        count = len(next(iter(x.values())))
        chosen = np.linspace(0, count - 1, min(count, samples, MAX_SAMPLES)).astype(int)
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            values = [x[tensor.name][part] for tensor in self.model.inputs]
            self.model(values[0] if len(values) == 1 else values, training=False)

    def start(self, *, learn: bool) -> None:
        """Ends observing: from now on the model computes in integers.

        Args:
            learn: Whether training moves the ranges.
        """
        for number, (layer, each) in enumerate(self._learning):
            each.start(layer, f"range_{number}", learn=learn)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The ranges as the exporter takes them: of `PATH/input`, `PATH/output` and, for LSTMs, `PATH/cell`."""
        found: dict[str, tuple[float, float]] = {}
        for path, lstm in self.lstms.items():
            bound = 2.0**lstm.cell_exponent
            found |= {
                f"{path}/input": lstm.x.limits(),
                f"{path}/output": lstm.output.limits(),
                f"{path}/cell": (-bound, bound),
            }
        for path, dense in self.denses.items():
            found |= {f"{path}/input": dense.x.limits(), f"{path}/output": dense.output.limits()}
        return found


def why_not_simulated(layer: Any) -> str | None:
    """Why an LSTM layer has no integer kernel; None if it has one."""
    keras = import_keras()
    for role, only in (("activation", "tanh"), ("recurrent_activation", "sigmoid")):
        name = keras.activations.serialize(getattr(layer, role))
        if name != only:
            return f"{role}={name!r}, and the integer kernel knows {only!r} only"
    return None


def _features(layer: Any) -> int:
    kernel = layer.cell.kernel if hasattr(layer, "cell") else layer.kernel
    return int(kernel.shape[0])


def _fixed_range(source: Any) -> Range | None:
    """The range of a layer that is an activation of fixed scale."""
    if type(source).__name__ in ("Activation", "Softmax"):
        name = "softmax" if type(source).__name__ == "Softmax" else activation_name(source)
        return FixedRange(*FIXED[name]) if name in FIXED else None
    return None
