"""What the integer kernel would compute wrongly."""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm.converters.lowering import activations
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.fused import why_not_fused
from edgelstm.errors import LoweringError


def check_integer(calls: Sequence[LstmCall], instead: str = "--quantize dynamic or float16") -> None:
    """Refuses calls that the integer kernel would compute wrongly.

    Args:
        calls: The calls.
        instead: What to use instead.

    Raises:
        LoweringError: Naming the layer and the precision to use instead.
    """
    for call in calls:
        if why_not_fused(call):
            raise LoweringError(
                f"Layer {call.layer!r} cannot be int8: {why_not_fused(call)}, and integers have no other. "
                f"Use {instead}{_approximately(call)}."
            )
        if call.activation not in activations.INTEGER:
            raise LoweringError(
                f"Layer {call.layer!r}: activation {call.activation!r} cannot be int8, because the integer kernel "
                f"always computes tanh. Use {instead}, or retrain with activation='tanh'."
            )
        if call.freeze_weight is not None:
            raise LoweringError(
                f"Layer {call.layer!r} returns its final states behind a mask, and integer gates cannot hold the cell "
                f"state over masked steps. Use {instead}, or --padding none if no input is padded."
            )


def _approximately(call: LstmCall) -> str:
    hard = call.recurrent_activation in activations.HARD_SIGMOIDS
    return ", or --approximate-gates for sigmoids in their place" if hard else ""
