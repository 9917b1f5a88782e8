"""Channels under the operations of `keras.ops`, which stand in a graph beside its layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgelstm.converters.stages.units.shaping import broadcast, joined
from edgelstm.converters.stages.units.ties import Axes, ids_or_zeros
from edgelstm.converters.stages.units.trace import Call, Rule, Tensor, Trace


def _elementwise(trace: Trace, call: Call) -> list[Axes]:
    constants = [np.shape(each) for each in call.arguments.values() if not isinstance(each, Tensor)]
    return [broadcast(trace, call, call.inputs, constants)]


def _concatenate(trace: Trace, call: Call) -> list[Axes]:
    return [joined(trace, call, call.inputs, call.layer.axis)]


def _reduce(trace: Trace, call: Call) -> list[Axes]:
    """Sums and the like: what is left of the axes; a reduced axis of channels is no more."""
    (tensor,) = call.inputs
    rank = len(tensor.shape)
    given = call.layer.axis
    axes = range(rank) if given is None else [axis % rank for axis in np.atleast_1d(given).tolist()]
    if call.layer.keepdims:
        return [{axis: ids for axis, ids in tensor.axes.items() if axis not in axes}]
    left = [axis for axis in range(rank) if axis not in axes]
    return [{new: tensor.axes[old] for new, old in enumerate(left) if old in tensor.axes}]


def _mean(trace: Trace, call: Call) -> list[Axes]:
    """As `_reduce`, for what would have another value without channels that are 0."""
    (tensor,) = call.inputs
    rank = len(tensor.shape)
    given = call.layer.axis
    axes = range(rank) if given is None else [axis % rank for axis in np.atleast_1d(given).tolist()]
    trace.keep([tensor], f"the operation {call.name} runs along it", axes)
    return _reduce(trace, call)


def _softmax(trace: Trace, call: Call) -> list[Axes]:
    (tensor,) = call.inputs
    axes = np.atleast_1d(call.layer.axis) % len(tensor.shape)
    trace.keep([tensor], f"the operation {call.name} mixes its channels", axes.tolist())
    return [tensor.axes]


def _get_item(trace: Trace, call: Call) -> list[Axes]:
    """x[:, -1] and the like: an axis that is taken whole keeps its channels."""
    (tensor,) = call.inputs
    key = call.arguments.get("1", call.arguments.get("key"))
    parts: list[Any] = list(key) if isinstance(key, (list, tuple)) else [key]
    if not all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        return trace.unknown(call)
    dots = next((number for number, part in enumerate(parts) if part is Ellipsis), len(parts))
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    parts[dots : dots + 1] = [slice(None)] * (len(tensor.shape) - taken)
    old, answer = 0, {}
    new = 0
    for part in parts:
        if part is None:
            new += 1
            continue
        if part == slice(None):
            if old in tensor.axes:
                answer[new] = tensor.axes[old]
        else:
            trace.keep([tensor], f"the operation {call.name} takes a part of it", [old])
        new += not isinstance(part, int)
        old += 1
    return [answer]


def _transpose(trace: Trace, call: Call) -> list[Axes]:
    (tensor,) = call.inputs
    axes = call.layer.axes or tuple(reversed(range(len(tensor.shape))))
    return [{new: tensor.axes[old] for new, old in enumerate(axes) if old in tensor.axes}]


def _swap(trace: Trace, call: Call) -> list[Axes]:
    (tensor,) = call.inputs
    rank = len(tensor.shape)
    first, second = call.layer.axis1 % rank, call.layer.axis2 % rank
    swapped = {first: second, second: first}
    return [{swapped.get(axis, axis): ids for axis, ids in tensor.axes.items()}]


def _expand(trace: Trace, call: Call) -> list[Axes]:
    (tensor,) = call.inputs
    rank = len(call.shapes[0])
    new = {axis % rank for axis in np.atleast_1d(call.layer.axis).tolist()}
    left = [axis for axis in range(rank) if axis not in new]
    return [{axis: tensor.axes[old] for old, axis in enumerate(left) if old in tensor.axes}]


def _matmul(trace: Trace, call: Call) -> list[Axes]:
    if len(call.inputs) != 2 or min(len(each.shape) for each in call.inputs) < 2:
        return trace.unknown(call)
    left, right = call.inputs
    rank_left, rank_right = len(left.shape), len(right.shape)
    size = left.shape[-1] or right.shape[-2]
    if (rank_left - 1 in left.axes or rank_right - 2 in right.axes) and size:
        trace.ties.tie(
            ids_or_zeros(left.axes, rank_left - 1, size),
            ids_or_zeros(right.axes, rank_right - 2, size),
            f"the operation {call.name} multiplies it with something else",
        )
    rank = len(call.shapes[0])
    for tensor in call.inputs:
        trace.keep([tensor], f"the operation {call.name} runs along it", range(len(tensor.shape) - 2))
    answer: Axes = {}
    if rank_left - 2 in left.axes:
        answer[rank - 2] = left.axes[rank_left - 2]
    if rank_right - 1 in right.axes:
        answer[rank - 1] = right.axes[rank_right - 1]
    return [answer]


_ELEMENTWISE = [
    "Absolute",
    "Abs",
    "Negative",
    "Square",
    "Sqrt",
    "Rsqrt",
    "Exp",
    "Expm1",
    "Log",
    "Log1p",
    "Sign",
    "Sin",
    "Cos",
    "Tanh",
    "Sigmoid",
    "Relu",
    "Relu6",
    "Silu",
    "Softplus",
    "Softsign",
    "LogSigmoid",
    "LeakyRelu",
    "HardSigmoid",
    "HardSilu",
    "HardTanh",
    "Elu",
    "Selu",
    "Celu",
    "Gelu",
    "Clip",
    "Cast",
    "StopGradient",
    "Identity",
    "Copy",
    "OnesLike",
    "ZerosLike",
    "LogicalNot",
    "Reciprocal",
    "Add",
    "Subtract",
    "Multiply",
    "Divide",
    "TrueDivide",
    "Maximum",
    "Minimum",
    "Power",
    "Equal",
    "NotEqual",
    "Greater",
    "GreaterEqual",
    "Less",
    "LessEqual",
    "LogicalAnd",
    "LogicalOr",
    "LogicalXor",
    "Where",
]

OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(("Sum", "Any", "All"), _reduce),
    **dict.fromkeys(("Mean", "Max", "Min", "Amax", "Amin", "Prod", "Std", "Var", "Argmax", "Argmin"), _mean),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "Concatenate": _concatenate,
    "GetItem": _get_item,
    "Transpose": _transpose,
    "Swapaxes": _swap,
    "ExpandDims": _expand,
    "Matmul": _matmul,
}
