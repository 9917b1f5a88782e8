"""Activations by name: which the fused operator can run, which a cell written out step by step can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.lowering.operators import Operators

# The operator applies the field to the candidate and to the output, as Keras does. NONE (linear) is
# missing here on purpose: the stock kernel then leaves its output factor unwritten.
FUSED: dict[str, int] = {
    "tanh": schema.ActivationFunctionType.TANH,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "hard_tanh": schema.ActivationFunctionType.RELU_N1_TO_1,
}
FUSED_GATES = ("sigmoid",)  # the fused operator's gates are always the logistic function
HARD_SIGMOIDS = ("hard_sigmoid", "hard_sigmoid_of_keras_2")  # of Keras 3, and of Keras 1 and 2
INTEGER = ("tanh",)  # the integer kernel ignores the field and always computes tanh

_Emit = Callable[[Operators, int], int]


def _unary(code: int) -> _Emit:
    return lambda operators, x: operators.unary(code, x)


def _relu6_ramp(operators: Operators, x: int, slope: float) -> int:
    """clip(slope * x + 0.5, 0, 1), as relu6(6 * slope * x + 3) / 6."""
    if slope != 1 / 6:
        x = operators.mul(x, operators.constant([6 * slope], np.float32))
    three = operators.constant([3.0], np.float32)
    risen = operators.add(x, three, activation=schema.ActivationFunctionType.RELU6)
    return operators.mul(risen, operators.constant([1 / 6], np.float32))


def _softsign(operators: Operators, x: int) -> int:
    magnitude = operators.unary(schema.BuiltinOperator.ABS, x)
    return operators.div(x, operators.add(magnitude, operators.constant([1.0], np.float32)))


# What a cell written out in operators can compute, in float32.
STEPWISE: dict[str, _Emit] = {
    "sigmoid": _unary(schema.BuiltinOperator.LOGISTIC),
    "tanh": _unary(schema.BuiltinOperator.TANH),
    "relu": _unary(schema.BuiltinOperator.RELU),
    "relu6": _unary(schema.BuiltinOperator.RELU6),
    "hard_tanh": _unary(schema.BuiltinOperator.RELU_N1_TO_1),
    "elu": _unary(schema.BuiltinOperator.ELU),
    "linear": lambda operators, x: x,
    "softsign": _softsign,
    "hard_sigmoid": lambda operators, x: _relu6_ramp(operators, x, 1 / 6),
    "hard_sigmoid_of_keras_2": lambda operators, x: _relu6_ramp(operators, x, 0.2),
}


def name_of(function: Callable[..., Any]) -> str | None:
    """The name of a Keras activation in `STEPWISE`, None if it is another function."""
    import keras

    if getattr(function, "__name__", "") == "hard_sigmoid_of_keras_2":
        from edgelstm.converters.legacy_functions import hard_sigmoid_of_keras_2

        return "hard_sigmoid_of_keras_2" if function is hard_sigmoid_of_keras_2 else None
    for name in STEPWISE:
        known = (getattr(keras.activations, name, None), getattr(keras.ops, name, None))
        if any(function is candidate for candidate in known if candidate is not None):
            return name
    return None
