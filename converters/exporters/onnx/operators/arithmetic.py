"""Arithmetic, element by element."""

from __future__ import annotations

from ai_edge_litert.schema_py_generated import BuiltinOperator

from edgelstm.converters.exporters.onnx.operators.activations import activated
from edgelstm.converters.exporters.onnx.step import Step, Translation


def _simple(op: str) -> Translation:
    return lambda step: step.add(op, *step.inputs())


def _with_activation(op: str) -> Translation:
    return lambda step: activated(step, step.add(op, *step.inputs()))


def _square(step: Step) -> str:
    return step.add("Mul", step.input(), step.input())


def _squared_difference(step: Step) -> str:
    difference = step.add("Sub", step.input(0), step.input(1))
    return step.add("Mul", difference, difference)


def _reciprocal_root(step: Step) -> str:
    return step.add("Reciprocal", step.add("Sqrt", step.input()))


def _floor_div(step: Step) -> str:
    """Rounds down, where ONNX's division of integers rounds towards zero."""
    a, b = step.input(0), step.input(1)
    if step.dtype().kind == "f":
        return step.add("Floor", step.add("Div", a, b))
    rest = step.add("Mod", a, b)  # of integers: has the sign of the divisor
    return step.add("Div", step.add("Sub", a, rest), b)


def _floor_mod(step: Step) -> str:
    a, b = step.input(0), step.input(1)
    if step.dtype().kind != "f":
        return step.add("Mod", a, b)
    rest = step.add("Mod", a, b, fmod=1)  # of floats only C's fmod, which has the sign of the dividend
    zero = step.number(0)
    differ = step.add("Xor", step.add("Less", rest, zero), step.add("Less", b, zero))
    uneven = step.add("And", differ, step.add("Not", step.add("Equal", rest, zero)))
    return step.add("Where", uneven, step.add("Add", rest, b), rest)


def _cast(step: Step) -> str:
    return step.cast(step.input(), step.output_dtype())


TRANSLATIONS: dict[int, Translation] = {
    BuiltinOperator.ADD: _with_activation("Add"),
    BuiltinOperator.SUB: _with_activation("Sub"),
    BuiltinOperator.MUL: _with_activation("Mul"),
    BuiltinOperator.DIV: _with_activation("Div"),
    BuiltinOperator.ADD_N: _simple("Sum"),
    BuiltinOperator.MAXIMUM: _simple("Max"),
    BuiltinOperator.MINIMUM: _simple("Min"),
    BuiltinOperator.POW: _simple("Pow"),
    BuiltinOperator.FLOOR_DIV: _floor_div,
    BuiltinOperator.FLOOR_MOD: _floor_mod,
    BuiltinOperator.SQUARED_DIFFERENCE: _squared_difference,
    BuiltinOperator.SQUARE: _square,
    BuiltinOperator.RSQRT: _reciprocal_root,
    BuiltinOperator.ABS: _simple("Abs"),
    BuiltinOperator.NEG: _simple("Neg"),
    BuiltinOperator.SQRT: _simple("Sqrt"),
    BuiltinOperator.EXP: _simple("Exp"),
    BuiltinOperator.LOG: _simple("Log"),
    BuiltinOperator.SIN: _simple("Sin"),
    BuiltinOperator.COS: _simple("Cos"),
    BuiltinOperator.CEIL: _simple("Ceil"),
    BuiltinOperator.FLOOR: _simple("Floor"),
    BuiltinOperator.ROUND: _simple("Round"),  # both round halves to even
    BuiltinOperator.SIGN: _simple("Sign"),
    BuiltinOperator.CAST: _cast,
}
