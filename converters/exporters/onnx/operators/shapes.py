"""Operators that move elements, or change shapes only."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import BuiltinOperator, MirrorPadMode

from edgelstm.converters.exporters.onnx.operators.activations import activated
from edgelstm.converters.exporters.onnx.step import LAST, Step, Translation

BACKWARDS = np.iinfo(np.int64).min
"""The end of a Slice that goes backwards through everything."""


def _reshape(step: Step) -> str:
    """RESHAPE, SQUEEZE and EXPAND_DIMS alike, so that two in a row become one."""
    return step.reshape(step.input(), step.output_shape())


def _transpose(step: Step) -> str:
    return step.transpose(step.input(), step.integers(1))


def _concatenation(step: Step) -> str:
    axis = step.axis(step.options.axis)
    return activated(step, step.add("Concat", *step.inputs(), axis=axis))


def _pack(step: Step) -> str:
    axis = step.axis(step.options.axis, len(step.output_shape()))
    single = list(step.output_shape())
    single[axis] = 1
    return step.add("Concat", *(step.reshape(value, single) for value in step.inputs()), axis=axis)


def _unpack(step: Step) -> list[str]:
    axis = step.axis(step.options.axis)
    parts = _split_in(step, step.input(), axis, [1] * len(step.operator.outputs))
    return [step.reshape(part, step.output_shape(position)) for position, part in enumerate(parts)]


def _split(step: Step) -> list[str]:
    axis = step.axis(step.integers(0)[0], len(step.shape(1)))
    return _split_in(step, step.input(1), axis, [step.output_shape(k)[axis] for k in range(len(step.operator.outputs))])


def _split_v(step: Step) -> list[str]:
    axis = step.axis(step.integers(2)[0])
    return _split_in(step, step.input(), axis, [step.output_shape(k)[axis] for k in range(len(step.operator.outputs))])


def _split_in(step: Step, value: str, axis: int, sizes: list[int]) -> list[str]:
    if len(sizes) == 1:
        return [value]
    return step.program.add_node("Split", [value, step.vector(sizes)], outputs=len(sizes), axis=axis)


def _slice(step: Step) -> str:
    shape, starts, sizes = step.shape(), step.constant(1), step.integers(2)
    if starts is not None:
        begin = [int(start) for start in starts]
        end = [start + size if size >= 0 else length for start, size, length in zip(begin, sizes, shape, strict=True)]
        return _take(step, step.input(), begin, end, [1] * len(shape), shape)
    if -1 in sizes:
        raise step.refusal("it takes everything behind a place that is computed while the model runs")
    computed = step.cast(step.input(1), np.int64)
    ends = step.add("Add", computed, step.vector(sizes))
    return step.add("Slice", step.input(), computed, ends, step.vector(range(len(shape))))


def _strided_slice(step: Step) -> str:
    options = step.options
    if options.ellipsisMask:
        raise step.refusal("it has an ellipsis")
    begins, ends, strides = (step.integers(position) for position in (1, 2, 3))
    given = list(step.shape())
    bounds: list[tuple[int, int, int]] = []
    shape: list[int] = []  # with the new axes, which the numbers count as well
    for position, numbers in enumerate(zip(begins, ends, strides, strict=True)):
        bit = 1 << position
        shape.append(1 if options.newAxisMask & bit else given.pop(0))
        bounds.append((0, 1, 1) if options.newAxisMask & bit else _bounds(options, bit, *numbers, shape[-1]))
    shape += given
    bounds += [(0, size, 1) for size in given]
    value = step.reshape(step.input(), shape) if options.newAxisMask else step.input()
    starts, stops, steps = (list(numbers) for numbers in zip(*bounds, strict=True))
    value = _take(step, value, starts, stops, steps, shape)
    return step.reshape(value, step.output_shape()) if options.shrinkAxisMask else value


def _bounds(options: Any, bit: int, begin: int, end: int, stride: int, size: int) -> tuple[int, int, int]:
    """First place, place behind the last one, and stride along an axis, all absolute; -1 is in front of the first."""
    if options.shrinkAxisMask & bit:
        index = begin + size if begin < 0 else begin
        return index, index + 1, 1
    if options.offset:
        end += begin
    first = None if options.beginMask & bit else begin
    return slice(first, None if options.endMask & bit else end, stride).indices(size)


def _take(step: Step, value: str, starts: list[int], ends: list[int], strides: list[int], shape: list[int]) -> str:
    """A Slice along the axes of which not everything is taken; ends are absolute, -1 is in front of the first."""
    taken = []
    for axis, (start, end, stride, size) in enumerate(zip(starts, ends, strides, shape, strict=True)):
        if (start, stride) != (0, 1) or end < size:
            stop = LAST if stride > 0 and end >= size else BACKWARDS if end < 0 else end
            taken.append((start, stop, axis, stride))
    if not taken:
        return value
    begin, stop_, axes, steps = (list(numbers) for numbers in zip(*taken, strict=True))
    return step.slice(value, begin, stop_, axes, steps)


def _reverse(step: Step) -> str:
    axes = [step.axis(axis) for axis in step.integers(1)]
    return step.slice(step.input(), [-1] * len(axes), [BACKWARDS] * len(axes), axes, [-1] * len(axes))


def _reverse_sequence(step: Step) -> str:
    lengths = step.cast(step.input(1), np.int64)
    time, batch = int(step.options.seqDim), int(step.options.batchDim)
    if {time, batch} == {0, 1}:
        return step.add("ReverseSequence", step.input(), lengths, time_axis=time, batch_axis=batch)
    raise step.refusal(f"its batch is axis {batch} and its time axis {time}, and ONNX takes axes 0 and 1")


def _pad(step: Step) -> str:
    pads = np.asarray(step.integers(1)).reshape(-1, 2)
    value = [step.input(2)] if step.has(2) else []
    return step.add("Pad", step.input(), step.vector(pads.T.reshape(-1).tolist()), *value)


def _mirror_pad(step: Step) -> str:
    """A gather along each axis: ONNX's Pad has no mode that repeats the border."""
    value = step.input()
    mode = "symmetric" if step.options.mode == MirrorPadMode.SYMMETRIC else "reflect"
    pads = np.asarray(step.integers(1)).reshape(-1, 2)
    for axis, (size, (before, after)) in enumerate(zip(step.shape(), pads, strict=True)):
        if before or after:
            kind: Any = mode
            sources = np.pad(np.arange(size), (before, after), mode=kind)
            value = step.add("Gather", value, step.vector(sources.tolist()), axis=axis)
    return value


def _tile(step: Step) -> str:
    return step.add("Tile", step.input(), step.vector(step.integers(1)))


def _broadcast_to(step: Step) -> str:
    return step.add("Expand", step.input(), step.vector(step.output_shape()))


def _fill(step: Step) -> str:
    return step.add("Expand", step.input(1), step.vector(step.output_shape()))


def _zeros_like(step: Step) -> str:
    return step.add("Expand", step.number(0), step.vector(step.output_shape()))


def _space_to_batch(step: Step) -> str:
    """Splits every spatial axis in blocks and moves the places within a block in front of the batch."""
    blocks, pads = step.integers(1), np.asarray(step.integers(2)).reshape(-1, 2)
    rest = [0] * (len(step.shape()) - 1 - len(blocks))
    begins, ends = [0, *pads[:, 0], *rest], [0, *pads[:, 1], *rest]
    value = step.add("Pad", step.input(), step.vector([*begins, *ends]))
    batch, *sizes = [size + a + b for size, a, b in zip(step.shape(), begins, ends, strict=True)]
    spatial, features = sizes[: len(blocks)], sizes[len(blocks) :]
    split = [number for size, block in zip(spatial, blocks, strict=True) for number in (size // block, block)]
    value = step.reshape(value, [batch, *split, *features])
    places = [2 + 2 * k for k in range(len(blocks))]
    rest_axes = range(1 + 2 * len(blocks), 1 + 2 * len(blocks) + len(features))
    value = step.transpose(value, [*places, 0, *(place - 1 for place in places), *rest_axes])
    return step.reshape(value, step.output_shape())


def _batch_to_space(step: Step) -> str:
    """The reverse of `_space_to_batch`: pads become crops."""
    blocks, crops = step.integers(1), np.asarray(step.integers(2)).reshape(-1, 2)
    batch, *sizes = step.shape()
    spatial, features = sizes[: len(blocks)], sizes[len(blocks) :]
    value = step.reshape(step.input(), [*blocks, batch // int(np.prod(blocks)), *sizes])
    count = len(blocks)
    mixed = [axis for k in range(count) for axis in (count + 1 + k, k)]
    value = step.transpose(value, [count, *mixed, *range(2 * count + 1, 2 * count + 1 + len(features))])
    whole = [size * block for size, block in zip(spatial, blocks, strict=True)]
    value = step.reshape(value, [step.output_shape()[0], *whole, *features])
    starts = [0, *crops[:, 0], *[0] * len(features)]
    ends = [LAST, *(size - crop for size, crop in zip(whole, crops[:, 1], strict=True)), *[LAST] * len(features)]
    return _take(step, value, starts, ends, [1] * len(starts), [step.output_shape()[0], *whole, *features])


TRANSLATIONS: dict[int, Translation] = {
    BuiltinOperator.RESHAPE: _reshape,
    BuiltinOperator.SQUEEZE: _reshape,
    BuiltinOperator.EXPAND_DIMS: _reshape,
    BuiltinOperator.TRANSPOSE: _transpose,
    BuiltinOperator.CONCATENATION: _concatenation,
    BuiltinOperator.PACK: _pack,
    BuiltinOperator.UNPACK: _unpack,
    BuiltinOperator.SPLIT: _split,
    BuiltinOperator.SPLIT_V: _split_v,
    BuiltinOperator.SLICE: _slice,
    BuiltinOperator.STRIDED_SLICE: _strided_slice,
    BuiltinOperator.REVERSE_V2: _reverse,
    BuiltinOperator.REVERSE_SEQUENCE: _reverse_sequence,
    BuiltinOperator.PAD: _pad,
    BuiltinOperator.PADV2: _pad,
    BuiltinOperator.MIRROR_PAD: _mirror_pad,
    BuiltinOperator.TILE: _tile,
    BuiltinOperator.BROADCAST_TO: _broadcast_to,
    BuiltinOperator.FILL: _fill,
    BuiltinOperator.ZEROS_LIKE: _zeros_like,
    BuiltinOperator.SPACE_TO_BATCH_ND: _space_to_batch,
    BuiltinOperator.BATCH_TO_SPACE_ND: _batch_to_space,
}
