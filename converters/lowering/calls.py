"""What tracing a model finds: calls of LSTM layers, recurrent layers that stay loops, outputs, notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CARRIER_PREFIX = "edgelstm.lstm."


@dataclass(frozen=True)
class LstmCall:
    """A call of an LSTM layer in the traced model.

    In the traced graph it stands as one opaque operator, the carrier, named `CARRIER_PREFIX + index`:

        inputs   x (batch, time, features), h0 (batch, units), c0 (batch, units),
                 kernel (features, 4 * units), recurrent_kernel (units, 4 * units), bias (4 * units,)
        outputs  h of every step (batch, time, units), c of the last step (batch, units)

    Attributes:
        index: Number of the call in tracing order.
        layer: Path of the layer, for messages.
        units: Size of the hidden state.
        activation: Name of the cell's activation: a key of `activations.STEPWISE`.
        freeze_weight: Set for a masked layer that gives out its final cell state: x carries one more
            feature, and the kernel gets one more row, -freeze_weight for the input gate and
            +freeze_weight for the forget gate, so that steps on which that feature is large keep c.
        recurrent_activation: Name of the gates' activation, another such key.
        backwards: Whether the layer reads the last step first.
        masked: Whether steps are skipped.
    """

    index: int
    layer: str
    units: int
    activation: str
    freeze_weight: float | None = None
    recurrent_activation: str = "sigmoid"
    backwards: bool = False
    masked: bool = False

    @property
    def carrier(self) -> str:
        """Name of the custom operator that stands for the call."""
        return f"{CARRIER_PREFIX}{self.index}"


@dataclass(frozen=True)
class Loop:
    """A recurrent layer that is no LSTM and stays Keras' own loop, with the reason."""

    layer: str
    reason: str


@dataclass
class Trace:
    """What tracing found out.

    Attributes:
        calls: LSTM calls that became carriers, in tracing order.
        loops: Recurrent layers that stayed Keras' own loops.
        notes: Sentences for the user.
        outputs: Names of the model's outputs.
        paths: Names of all layers with those of the layers around them, by the layer's id.
        weighted: Those of layers that can have a precision of their own.
    """

    calls: list[LstmCall] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    paths: dict[int, str] = field(default_factory=dict)
    weighted: list[str] = field(default_factory=list)

    def path(self, layer: Any) -> str:
        """The layer's name with those of the layers around it."""
        return self.paths.get(id(layer), str(layer.name))
