"""Which cell activations the fused operator can run, by its `fusedActivationFunction` field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ai_edge_litert import schema_py_generated as schema

# The operator applies the field to the candidate and to the output, as Keras does. NONE (linear) is
# missing here on purpose: the stock kernel then leaves its output factor unwritten.
FUSED: dict[str, int] = {
    "tanh": schema.ActivationFunctionType.TANH,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "hard_tanh": schema.ActivationFunctionType.RELU_N1_TO_1,
}
INTEGER = ("tanh",)  # the integer kernel ignores the field and always computes tanh


def fused_name(function: Callable[..., Any]) -> str | None:
    """The name under which the fused operator knows a Keras activation, None if it does not."""
    import keras

    for name in FUSED:
        if function in (getattr(keras.activations, name), getattr(keras.ops, name, None)):
            return name
    return None


def is_sigmoid(function: Callable[..., Any]) -> bool:
    """Whether a recurrent activation is the logistic function, the only one the operator's gates have."""
    import keras

    return function in (keras.activations.sigmoid, keras.ops.sigmoid)
