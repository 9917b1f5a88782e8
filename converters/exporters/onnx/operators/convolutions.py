"""Convolution, pooling and resizing: channels last in TensorFlow Lite, first in ONNX.

Each is put between two transposes; `simplify.py` takes out those that cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ai_edge_litert.schema_py_generated import BuiltinOperator, Padding

from edgelstm.converters.exporters.onnx.operators.activations import activated
from edgelstm.converters.exporters.onnx.step import Step, Translation


def _channels_first(step: Step, value: str, ndim: int) -> str:
    return step.transpose(value, [0, ndim - 1, *range(1, ndim - 1)])


def _channels_last(step: Step, value: str, ndim: int) -> str:
    return step.transpose(value, [0, *range(2, ndim), 1])


def _strides(options: Any) -> list[int]:
    depth = [int(options.strideD)] if hasattr(options, "strideD") else []
    return [*depth, int(options.strideH), int(options.strideW)]


def _dilations(options: Any) -> list[int]:
    depth = [int(options.dilationDFactor)] if hasattr(options, "dilationDFactor") else []
    return [*depth, int(getattr(options, "dilationHFactor", 1)), int(getattr(options, "dilationWFactor", 1))]


def _pads(
    padding: int, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """Padded elements before and after each axis; of an odd number one more comes after."""
    if padding == Padding.VALID:
        return [0] * (2 * len(sizes))
    totals = []
    for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reached = (-(-size // stride) - 1) * stride + (extent - 1) * dilation + 1
        totals.append(max(reached - size, 0))
    before = [total // 2 for total in totals]
    return [*before, *(total - half for total, half in zip(totals, before, strict=True))]


def _weights(step: Step, position: int, order: Sequence[int]) -> str:
    value = step.constant(position)
    if value is not None:
        return step.program.add_constant(value.transpose(order))
    return step.transpose(step.input(position), order)


def _convolve(step: Step, weights: str, kernel: Sequence[int], group: int) -> str:
    ndim = len(step.shape())
    strides, dilations = _strides(step.options), _dilations(step.options)
    result = step.add(
        "Conv",
        _channels_first(step, step.input(), ndim),
        weights,
        *([step.input(2)] if step.has(2) else []),
        kernel_shape=list(kernel),
        strides=strides,
        dilations=dilations,
        group=group,
        pads=_pads(step.options.padding, step.shape()[1:-1], kernel, strides, dilations),
    )
    return _channels_last(step, activated(step, result), ndim)


def _conv_2d(step: Step) -> str:
    _, height, width, features = step.shape(1)
    return _convolve(step, _weights(step, 1, [0, 3, 1, 2]), [height, width], step.shape()[-1] // features)


def _depthwise_conv_2d(step: Step) -> str:
    _, height, width, _ = step.shape(1)
    return _convolve(step, _weights(step, 1, [3, 0, 1, 2]), [height, width], step.shape()[-1])


def _conv_3d(step: Step) -> str:
    *kernel, features, _ = step.shape(1)
    return _convolve(step, _weights(step, 1, [4, 3, 0, 1, 2]), kernel, step.shape()[-1] // features)


def _transpose_conv(step: Step) -> str:
    """Inputs: output shape, weights (features out, height, width, features in), x, bias."""
    _, *kernel, _ = step.shape(1)
    sizes, wanted, strides = step.shape(2)[1:-1], step.output_shape()[1:-1], _strides(step.options)
    reached = [(size - 1) * stride + extent for size, stride, extent in zip(sizes, strides, kernel, strict=True)]
    cut = [max(whole - part, 0) for whole, part in zip(reached, wanted, strict=True)]
    before = [total // 2 for total in cut]
    result = step.add(
        "ConvTranspose",
        _channels_first(step, step.input(2), 4),
        _weights(step, 1, [3, 0, 1, 2]),
        *([step.input(3)] if step.has(3) else []),
        kernel_shape=kernel,
        strides=strides,
        pads=[*before, *(total - half for total, half in zip(cut, before, strict=True))],
        output_padding=[max(part - whole, 0) for whole, part in zip(reached, wanted, strict=True)],
    )
    return _channels_last(step, activated(step, result), 4)


def _pool(op: str, **attributes: int) -> Translation:
    def translate(step: Step) -> str:
        options = step.options
        kernel, strides = [int(options.filterHeight), int(options.filterWidth)], _strides(options)
        pads = _pads(options.padding, step.shape()[1:-1], kernel, strides, [1, 1])
        x = _channels_first(step, step.input(), 4)
        result = step.add(op, x, kernel_shape=kernel, strides=strides, pads=pads, **attributes)
        return _channels_last(step, activated(step, result), 4)

    return translate


def _resize(step: Step, mode: str, rounding: dict[str, str]) -> str:
    """Resizes height and width; batch and channels are read from the value, so that the batch may be free."""
    options = step.options
    place = "align_corners" if options.alignCorners else "half_pixel" if options.halfPixelCenters else "asymmetric"
    x = _channels_first(step, step.input(), 4)
    kept = step.slice(step.add("Shape", x), [0], [2], [0], [1])
    sizes = step.add("Concat", kept, step.vector(step.output_shape()[1:-1]), axis=0)
    result = step.add("Resize", x, "", "", sizes, mode=mode, coordinate_transformation_mode=place, **rounding)
    return _channels_last(step, result, 4)


def _resize_bilinear(step: Step) -> str:
    return _resize(step, "linear", {})


def _resize_nearest(step: Step) -> str:
    rounds = step.options.alignCorners or step.options.halfPixelCenters
    return _resize(step, "nearest", {"nearest_mode": "round_prefer_ceil" if rounds else "floor"})


TRANSLATIONS: dict[int, Translation] = {
    BuiltinOperator.CONV_2D: _conv_2d,
    BuiltinOperator.DEPTHWISE_CONV_2D: _depthwise_conv_2d,
    BuiltinOperator.CONV_3D: _conv_3d,
    BuiltinOperator.TRANSPOSE_CONV: _transpose_conv,
    BuiltinOperator.AVERAGE_POOL_2D: _pool("AveragePool", count_include_pad=0),
    BuiltinOperator.MAX_POOL_2D: _pool("MaxPool"),
    BuiltinOperator.RESIZE_BILINEAR: _resize_bilinear,
    BuiltinOperator.RESIZE_NEAREST_NEIGHBOR: _resize_nearest,
}
