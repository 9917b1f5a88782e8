"""Channels under layers that move, repeat, join or drop axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgelstm.converters.stages.units.ties import Axes, ids_or_zeros
from edgelstm.converters.stages.units.trace import Call, Rule, Shape, Tensor, Trace


def broadcast(trace: Trace, call: Call, tensors: Sequence[Tensor], constants: Sequence[Shape] = ()) -> Axes:
    """Returns the channels of what is made of tensors element by element; those that meet are tied.

    Args:
        trace: Of the model.
        call: For messages.
        tensors: Of any ranks; the last axes meet.
        constants: Shapes of arrays that are met, too.
    """
    rank = max(len(each.shape) for each in tensors)
    answer: Axes = {}
    for tensor in [*tensors, *(Tensor(shape, {}) for shape in constants)]:
        shift = rank - len(tensor.shape)
        for axis, size in enumerate(tensor.shape):
            ids = ids_or_zeros(tensor.axes, axis, size or 0)
            if size == 1 != call.shapes[0][axis + shift]:
                trace.ties.keep(ids, f"{call.name} spreads it")
            elif len(ids):
                there = answer.setdefault(axis + shift, ids)
                trace.ties.tie(there, ids, f"{call.name} meets it with something that cannot be cut")
                if not there.any():
                    answer[axis + shift] = ids
    return {axis: ids for axis, ids in answer.items() if ids.any()}


def joined(trace: Trace, call: Call, tensors: Sequence[Tensor], axis: int) -> Axes:
    """Returns the channels of tensors put beside each other along an axis."""
    rank = len(tensors[0].shape)
    along = axis % rank
    answer: Axes = {}
    for each in sorted({axis for tensor in tensors for axis in tensor.axes}):
        size = next(len(tensor.axes[each]) for tensor in tensors if each in tensor.axes)
        if each == along:
            answer[each] = np.concatenate([ids_or_zeros(tensor.axes, each, tensor.shape[each]) for tensor in tensors])
            continue
        answer[each] = ids_or_zeros(tensors[0].axes, each, size)
        for tensor in tensors[1:]:
            ids = ids_or_zeros(tensor.axes, each, size)
            trace.ties.tie(answer[each], ids, f"{call.name} meets it with something that cannot be cut")
    return answer


def reshaped(tensor: Tensor, shape: Shape) -> Axes | None:
    """Returns the channels of a tensor in another shape with the same elements, or None where they are on no one axis.

    Args:
        tensor: Batch included.
        shape: Batch included.
    """
    last = len(tensor.shape) - 1
    if not tensor.axes:
        return {}
    if set(tensor.axes) == {last} and tensor.shape[-1] == shape[-1]:
        return {len(shape) - 1: tensor.axes[last]}
    sizes = [size for size in (*tensor.shape[1:], *shape[1:]) if size is not None]
    if len(tensor.axes) > 1 or len(sizes) < last + len(shape) - 1:
        return None
    ((axis, ids),) = tensor.axes.items()
    spread = [1] * last
    spread[axis - 1] = len(ids)
    inner, outer = tensor.shape[1:], shape[1:]
    all_ids = np.broadcast_to(ids.reshape(spread), [int(size or 0) for size in inner])
    all_ids = all_ids.reshape([int(size or 0) for size in outer])
    for position in range(all_ids.ndim):
        index: list[Any] = [slice(0, 1)] * all_ids.ndim
        index[position] = slice(None)
        if (all_ids == all_ids[tuple(index)]).all():
            return {position + 1: all_ids[tuple(index)].ravel()}
    return None


def _folded(trace: Trace, call: Call) -> Axes:
    """Returns the channels of a tensor in its new shape; those that are then on no axis of their own must stay."""
    (tensor,) = call.inputs
    reason = f"{call.name} mixes it with another axis"
    if len(tensor.axes) > 1:
        # One axis can be followed; an LSTM's comes before another's.
        others = [axis for axis, ids in tensor.axes.items() if not trace.of_lstms(ids)]
        trace.keep([tensor], reason, others)
        tensor = Tensor(tensor.shape, {axis: ids for axis, ids in tensor.axes.items() if axis not in others})
    axes = reshaped(tensor, call.shapes[0])
    if axes is None:
        trace.keep([tensor], reason)
    return axes or {}


def _reshape(trace: Trace, call: Call) -> list[Axes]:
    axes = _folded(trace, call)
    for axis, ids in axes.items():
        if call.layer.target_shape[axis - 1] != -1:
            trace.size(call.place.inside("target_shape", axis - 1), ids)
    return [axes]


def _flatten(trace: Trace, call: Call) -> list[Axes]:
    return [_folded(trace, call)] if call.layer.data_format == "channels_last" else trace.unknown(call)


def _repeat(trace: Trace, call: Call) -> list[Axes]:
    (tensor,) = call.inputs
    return [{axis + 1: ids for axis, ids in tensor.axes.items()}]


def _permute(trace: Trace, call: Call) -> list[Axes]:
    (tensor,) = call.inputs
    return [{new + 1: tensor.axes[old] for new, old in enumerate(call.layer.dims) if old in tensor.axes}]


def _window(trace: Trace, call: Call) -> list[Axes]:
    """Pooling, padding and cropping: the channels stay, what runs along other axes is mixed."""
    (tensor,) = call.inputs
    channels = len(tensor.shape) - 1 if getattr(call.layer, "data_format", "channels_last") == "channels_last" else 1
    mixed = [axis for axis in tensor.axes if axis != channels]
    trace.keep([tensor], f"{call.name} runs along it", mixed)
    if channels not in tensor.axes:
        return [{}]
    last = len(call.shapes[0]) - 1
    return [{last if channels > 1 else 1: tensor.axes[channels]}]


_WINDOWS = [
    f"{kind}{rank}D"
    for kind in (
        [
            "MaxPooling",
            "AveragePooling",
            "GlobalMaxPooling",
            "GlobalAveragePooling",
            "ZeroPadding",
            "Cropping",
            "UpSampling",
        ]
    )
    for rank in (1, 2, 3)
]

SHAPING: dict[str, Rule] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "RepeatVector": _repeat,
    "Permute": _permute,
    **dict.fromkeys(_WINDOWS, _window),
}
