"""Matrix products."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator

from edgelstm.converters.exporters.onnx.operators.activations import activated
from edgelstm.converters.exporters.onnx.step import Step, Translation


def _fully_connected(step: Step) -> str:
    """Multiplies (…, inputs) by weights (units, inputs); Gemm for matrices, MatMul for more axes."""
    units, features = step.shape(1)
    x, ndim = step.input(0), len(step.shape(0))
    if ndim != 2 and (not step.options.keepNumDims or ndim < 2):
        x, ndim = step.reshape(x, [int(np.prod(step.shape(0))) // features, features]), 2
    bias = [step.input(2)] if step.has(2) else []
    if ndim == 2:
        result = step.add("Gemm", x, step.input(1), *bias, transB=1)
        rows = int(np.prod(step.output_shape())) // units
        if step.output_shape() != [rows, units]:
            result = step.reshape(result, step.output_shape())
        return activated(step, result)
    product = step.add("MatMul", x, _transposed(step, 1))
    return activated(step, step.add("Add", product, *bias) if bias else product)


def _batch_matmul(step: Step) -> str:
    left = _transposed(step, 0) if step.options.adjX else step.input(0)
    right = _transposed(step, 1) if step.options.adjY else step.input(1)
    return step.add("MatMul", left, right)


def _transposed(step: Step, position: int) -> str:
    """An input with its last two axes exchanged; a constant is exchanged here."""
    ndim = len(step.shape(position))
    order = [*range(ndim - 2), ndim - 1, ndim - 2]
    value = step.constant(position)
    if value is not None:
        return step.program.add_constant(value.transpose(order))
    return step.transpose(step.input(position), order)


TRANSLATIONS: dict[int, Translation] = {
    BuiltinOperator.FULLY_CONNECTED: _fully_connected,
    BuiltinOperator.BATCH_MATMUL: _batch_matmul,
}
