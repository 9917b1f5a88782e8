"""Activations: operators of their own, and those that TensorFlow Lite fuses into other operators."""

from __future__ import annotations

import math

import numpy as np
from ai_edge_litert.schema_py_generated import ActivationFunctionType, BuiltinOperator

from edgelstm.converters.exporters.onnx.step import Step, Translation

SMALLEST_NORM = 1e-6  # by which L2_NORMALIZATION's kernel divides at least


def activated(step: Step, value: str) -> str:
    """The activation that is fused into an operator, behind its value."""
    kind = int(step.options.fusedActivationFunction) if step.options is not None else ActivationFunctionType.NONE
    if kind == ActivationFunctionType.NONE:
        return value
    if kind == ActivationFunctionType.RELU:
        return step.add("Relu", value)
    if kind == ActivationFunctionType.TANH:
        return step.add("Tanh", value)
    if kind == ActivationFunctionType.RELU6:
        return _clip(step, value, 0, 6)
    if kind == ActivationFunctionType.RELU_N1_TO_1:
        return _clip(step, value, -1, 1)
    raise step.refusal(f"it has the fused activation number {kind}")


def _clip(step: Step, value: str, low: float, high: float) -> str:
    return step.add("Clip", value, step.number(low, step.output_dtype()), step.number(high, step.output_dtype()))


def _simple(op: str) -> Translation:
    return lambda step: step.add(op, *step.inputs())


def _clipped(low: float, high: float) -> Translation:
    return lambda step: _clip(step, step.input(), low, high)


def _leaky_relu(step: Step) -> str:
    return step.add("LeakyRelu", step.input(), alpha=float(step.options.alpha))


def _softmax(step: Step) -> str:
    value, beta = step.input(), float(step.options.beta)
    if beta != 1:
        value = step.add("Mul", value, step.number(beta))
    return step.add("Softmax", value, axis=-1)


def _log_softmax(step: Step) -> str:
    return step.add("LogSoftmax", step.input(), axis=-1)


def _gelu(step: Step) -> str:
    """ONNX has this operator from opset 20 on only."""
    x = step.input()
    half = step.add("Mul", x, step.number(0.5))
    if not step.options.approximate:
        inner = step.add("Erf", step.add("Mul", x, step.number(math.sqrt(0.5))))
    else:
        cube = step.add("Mul", step.add("Mul", x, x), x)
        sum_ = step.add("Add", x, step.add("Mul", cube, step.number(0.044715)))
        inner = step.add("Tanh", step.add("Mul", sum_, step.number(math.sqrt(2 / math.pi))))
    return step.add("Mul", half, step.add("Add", inner, step.number(1)))


def _l2_normalization(step: Step) -> str:
    x = step.input()
    squares = step.add("ReduceSum", step.add("Mul", x, x), step.vector([-1]), keepdims=1)
    norm = step.add("Max", step.add("Sqrt", squares), step.number(SMALLEST_NORM))
    return activated(step, step.add("Div", x, norm))


def _hard_swish(step: Step) -> str:
    x = step.input()
    raised = _clip(step, step.add("Add", x, step.number(3)), 0, 6)
    return step.add("Mul", step.add("Mul", x, raised), step.number(np.float32(1 / 6)))


TRANSLATIONS: dict[int, Translation] = {
    BuiltinOperator.LOGISTIC: _simple("Sigmoid"),
    BuiltinOperator.TANH: _simple("Tanh"),
    BuiltinOperator.RELU: _simple("Relu"),
    BuiltinOperator.RELU6: _clipped(0, 6),
    BuiltinOperator.RELU_N1_TO_1: _clipped(-1, 1),
    BuiltinOperator.RELU_0_TO_1: _clipped(0, 1),
    BuiltinOperator.ELU: _simple("Elu"),
    BuiltinOperator.LEAKY_RELU: _leaky_relu,
    BuiltinOperator.PRELU: _simple("PRelu"),
    BuiltinOperator.HARD_SWISH: _hard_swish,
    BuiltinOperator.GELU: _gelu,
    BuiltinOperator.SOFTMAX: _softmax,
    BuiltinOperator.LOG_SOFTMAX: _log_softmax,
    BuiltinOperator.L2_NORMALIZATION: _l2_normalization,
}
