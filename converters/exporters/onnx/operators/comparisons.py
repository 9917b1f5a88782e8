"""Comparisons, logic and selection."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator

from edgelstm.converters.exporters.onnx.step import Step, Translation


def _simple(op: str) -> Translation:
    return lambda step: step.add(op, *step.inputs())


def _not_equal(step: Step) -> str:
    return step.add("Not", step.add("Equal", step.input(0), step.input(1)))


def _select(step: Step) -> str:
    """SELECT takes a list of conditions for whole rows, too."""
    condition = step.input(0)
    ndim = len(step.shape(1))
    if len(step.shape(0)) == 1 and ndim > 1:
        condition = step.reshape(condition, [step.shape(0)[0], *[1] * (ndim - 1)])
    return _where(step, condition)


def _select_v2(step: Step) -> str:
    return _where(step, step.input(0))


def _where(step: Step, condition: str) -> str:
    if step.dtype(1) != np.bool_:
        return step.add("Where", condition, step.input(1), step.input(2))
    # ONNX Runtime selects no booleans.
    one, other = (step.cast(step.input(position), np.int32) for position in (1, 2))
    return step.cast(step.add("Where", condition, one, other), np.bool_)


TRANSLATIONS: dict[int, Translation] = {
    BuiltinOperator.EQUAL: _simple("Equal"),
    BuiltinOperator.NOT_EQUAL: _not_equal,
    BuiltinOperator.LESS: _simple("Less"),
    BuiltinOperator.LESS_EQUAL: _simple("LessOrEqual"),
    BuiltinOperator.GREATER: _simple("Greater"),
    BuiltinOperator.GREATER_EQUAL: _simple("GreaterOrEqual"),
    BuiltinOperator.LOGICAL_AND: _simple("And"),
    BuiltinOperator.LOGICAL_OR: _simple("Or"),
    BuiltinOperator.LOGICAL_NOT: _simple("Not"),
    BuiltinOperator.SELECT: _select,
    BuiltinOperator.SELECT_V2: _select_v2,
}
