"""Operators that pick elements by index, and those that find indices."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator

from edgelstm.converters.exporters.onnx.step import Step, Translation


def _gather(step: Step) -> str:
    ndim = len(step.shape())
    axis, batch = step.axis(step.options.axis), step.axis(step.options.batchDims, len(step.shape(1)))
    if batch == 0:
        return step.add("Gather", step.input(0), step.input(1), axis=axis)
    return _gather_by_row(step, ndim, axis, batch)


def _gather_by_row(step: Step, ndim: int, axis: int, batch: int) -> str:
    """Indices of their own for each row: GatherND, which picks along the first axis behind the batch."""
    data = step.input(0)
    if axis != batch:
        others = [position for position in range(batch, ndim) if position != axis]
        data = step.transpose(data, [*range(batch), axis, *others])
    indices = step.reshape(step.cast(step.input(1), np.int64), [*step.shape(1), 1])
    found = step.add("GatherND", data, indices, batch_dims=batch)
    if axis == batch:
        return found
    picked = len(step.shape(1)) - batch  # axes of indices, which stand in front of the axes batch … axis - 1
    skipped = axis - batch
    moved = [*range(batch + picked, batch + picked + skipped), *range(batch, batch + picked)]
    rest = range(batch + picked + skipped, ndim - 1 + picked)
    return step.transpose(found, [*range(batch), *moved, *rest])


def _gather_nd(step: Step) -> str:
    return step.add("GatherND", step.input(0), step.cast(step.input(1), np.int64))


def _embedding_lookup(step: Step) -> str:
    return step.add("Gather", step.input(1), step.input(0), axis=0)


def _top_k(step: Step) -> list[str]:
    k = step.vector([step.integers(1)[0]])
    values, indices = step.program.add_node("TopK", [step.input(0), k], outputs=2, axis=-1, largest=1, sorted=1)
    return [values, step.cast(indices, step.output_dtype(1))]


def _one_hot(step: Step) -> str:
    """Written as a comparison, because runtimes have ONNX's OneHot for few types."""
    depth, axis = step.integers(1)[0], int(step.options.axis)
    shape = step.shape(0)
    axis = len(shape) if axis < 0 else axis
    classes = np.arange(depth, dtype=step.dtype(0)).reshape([depth, *[1] * (len(shape) - axis)])
    indices = step.reshape(step.input(0), [*shape[:axis], 1, *shape[axis:]])
    hit = step.add("Equal", indices, step.program.add_constant(classes))
    return step.add("Where", hit, step.input(2), step.input(3))


TRANSLATIONS: dict[int, Translation] = {
    BuiltinOperator.GATHER: _gather,
    BuiltinOperator.GATHER_ND: _gather_nd,
    BuiltinOperator.EMBEDDING_LOOKUP: _embedding_lookup,
    BuiltinOperator.TOPK_V2: _top_k,
    BuiltinOperator.ONE_HOT: _one_hot,
}
