"""Reductions over axes, and running sums."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator

from edgelstm.converters.exporters.onnx.step import Step, Translation


def _axes(step: Step) -> list[int]:
    return sorted({step.axis(axis) for axis in step.integers(1)})


def _sum(step: Step) -> str:
    axes = _axes(step)
    if not axes:
        return step.add("Identity", step.input())
    return step.add("ReduceSum", step.input(), step.vector(axes), keepdims=int(step.options.keepDims))


def _reduction(op: str) -> Translation:
    """These take their axes as an attribute up to opset 17, ReduceSum as an input from 13 on."""

    def translate(step: Step) -> str:
        axes = _axes(step)
        if not axes:
            return step.add("Identity", step.input())
        return step.add(op, step.input(), axes=axes, keepdims=int(step.options.keepDims))

    return translate


def _of_booleans(op: str) -> Translation:
    def translate(step: Step) -> str:
        numbers = step.cast(step.input(), np.int32)
        axes = _axes(step)
        if axes:
            numbers = step.add(op, numbers, axes=axes, keepdims=int(step.options.keepDims))
        return step.cast(numbers, np.bool_)

    return translate


def _index_of(op: str) -> Translation:
    def translate(step: Step) -> str:
        found = step.add(op, step.input(), axis=step.axis(step.integers(1)[0]), keepdims=0)
        return step.cast(found, step.output_dtype())

    return translate


def _cumulative_sum(step: Step) -> str:
    axis = step.number(step.integers(1)[0], np.int32)
    flags = {"exclusive": int(step.options.exclusive), "reverse": int(step.options.reverse)}
    return step.add("CumSum", step.input(), axis, **flags)


TRANSLATIONS: dict[int, Translation] = {
    BuiltinOperator.SUM: _sum,
    BuiltinOperator.MEAN: _reduction("ReduceMean"),
    BuiltinOperator.REDUCE_MAX: _reduction("ReduceMax"),
    BuiltinOperator.REDUCE_MIN: _reduction("ReduceMin"),
    BuiltinOperator.REDUCE_PROD: _reduction("ReduceProd"),
    BuiltinOperator.REDUCE_ANY: _of_booleans("ReduceMax"),
    BuiltinOperator.REDUCE_ALL: _of_booleans("ReduceMin"),
    BuiltinOperator.ARG_MAX: _index_of("ArgMax"),
    BuiltinOperator.ARG_MIN: _index_of("ArgMin"),
    BuiltinOperator.CUMSUM: _cumulative_sum,
}
