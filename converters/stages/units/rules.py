"""What each kind of layer does with the channels of what it reads: one function for a kind, one table of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgelstm.converters.stages.surgery import is_model
from edgelstm.converters.stages.units.activations import LAYERS, elementwise
from edgelstm.converters.stages.units.operations import OPERATIONS
from edgelstm.converters.stages.units.recurrent import RECURRENT
from edgelstm.converters.stages.units.shaping import SHAPING, broadcast, joined
from edgelstm.converters.stages.units.ties import Axes, Ids, ids_or_zeros
from edgelstm.converters.stages.units.trace import Call, Place, Rule, Tensor, Trace

_NOTHING: frozenset[str] = frozenset()


def rule_for(layer: Any) -> tuple[Rule, frozenset[str]]:
    """Returns the rule for a layer or an operation, and the arguments, the first apart, that it knows of."""
    kind = type(layer)
    if kind.__module__.startswith("keras.src.ops."):
        return OPERATIONS.get(kind.__name__, Trace.unknown), _NOTHING
    if kind.__module__.startswith("keras."):
        return RULES.get(kind.__name__, (Trace.unknown, _NOTHING))
    return Trace.unknown, _NOTHING


def _check_activation(trace: Trace, call: Call, ids: Ids) -> None:
    """Keeps the channels that the activation of a layer mixes."""
    if not elementwise(call.layer.activation):
        name = getattr(call.layer.activation, "__name__", "its activation")
        trace.ties.keep(ids, f"{name} mixes its channels")


def _dense(trace: Trace, call: Call) -> list[Axes]:
    layer, (tensor,) = call.layer, call.inputs
    if _altered(layer):
        return trace.unknown(call)
    axes = trace.read(call, tensor, (layer.kernel, 0))
    return [{**axes, len(tensor.shape) - 1: _made(trace, call, layer.units, "dense", "units", (layer.kernel, 1))}]


def _convolution(trace: Trace, call: Call) -> list[Axes]:
    layer, (tensor,) = call.layer, call.inputs
    if _altered(layer) or layer.data_format != "channels_last" or layer.groups != 1:
        return trace.unknown(call)
    axes = trace.read(call, tensor, (layer.kernel, -2))
    trace.keep([Tensor(tensor.shape, axes)], f"{call.name} runs along it")
    return [{len(tensor.shape) - 1: _made(trace, call, layer.filters, "conv", "filters", (layer.kernel, -1))}]


def _separable(trace: Trace, call: Call) -> list[Axes]:
    layer, (tensor,) = call.layer, call.inputs
    if layer.data_format != "channels_last":
        return trace.unknown(call)
    axes = trace.read(call, tensor, (layer.depthwise_kernel, -2))
    trace.keep([Tensor(tensor.shape, axes)], f"{call.name} runs along it")
    ids = ids_or_zeros(tensor.axes, len(tensor.shape) - 1, tensor.shape[-1])
    spread = np.repeat(ids, layer.depth_multiplier)
    trace.bind(layer.pointwise_kernel, -2, spread, f"{call.name} reads something else with the same weights")
    made = _made(trace, call, layer.filters, "conv", "filters", (layer.pointwise_kernel, -1))
    return [{len(tensor.shape) - 1: made}]


def _depthwise(trace: Trace, call: Call) -> list[Axes]:
    layer, (tensor,) = call.layer, call.inputs
    if layer.data_format != "channels_last" or not elementwise(layer.activation):
        return trace.unknown(call)
    axes = trace.read(call, tensor, (layer.kernel, -2))
    trace.keep([Tensor(tensor.shape, axes)], f"{call.name} runs along it")
    last = len(tensor.shape) - 1
    spread = np.repeat(ids_or_zeros(tensor.axes, last, tensor.shape[-1]), layer.depth_multiplier)
    trace.bind(layer.bias, 0, spread, f"{call.name} reads something else with the same weights")
    return [{last: spread} if last in tensor.axes else {}]


def _made(trace: Trace, call: Call, count: int, kind: str, key: str, kernel: tuple[Any, int]) -> Ids:
    """Returns the channels that a layer makes with a kernel and a bias."""
    ids = trace.own(call, call.layer, count, kind)
    reason = "its weights are shared"
    trace.size(call.place.inside(key), ids)
    trace.bind(*kernel, ids, reason)
    trace.bind(call.layer.bias, 0, ids, reason)
    _check_activation(trace, call, ids)
    return ids


def _altered(layer: Any) -> bool:
    """Whether a layer holds its kernel in pieces or in integers."""
    return bool(getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None))


def _embedding(trace: Trace, call: Call) -> list[Axes]:
    layer = call.layer
    if _altered(layer):
        return trace.unknown(call)
    trace.keep(call.inputs, f"{call.name} reads it")
    ids = trace.own(call, layer, layer.output_dim, "other")
    trace.size(call.place.inside("output_dim"), ids)
    trace.bind(layer.embeddings, 1, ids, "its weights are shared")
    return [{len(call.shapes[0]) - 1: ids}]


def _multi_head(trace: Trace, call: Call) -> list[Axes]:
    layer, (query,) = call.layer, call.inputs
    (value,) = call.others["value"]
    (key,) = call.others.get("key") or (value,)
    if layer._output_shape is not None and len(layer._output_shape) > 1:
        trace.keep((query, value, key), f"{call.name} reads it, which cannot be cut")
        return [{} for _ in call.shapes]
    gate = getattr(layer, "_gate_dense", None)
    reads = [(query, layer.query_dense), (key, layer.key_dense), (value, layer.value_dense)]
    for tensor, dense in reads + ([(query, gate)] if gate is not None else []):
        rest = trace.read(call, tensor, (dense.kernel, 0))
        trace.keep([Tensor(tensor.shape, rest)], f"{call.name} attends along it")
    ids = trace.own(call, layer, call.shapes[0][-1] or 0, "other")
    trace.bind(layer.output_dense.kernel, -1, ids, "its weights are shared")
    trace.bind(layer.output_dense.bias, -1, ids, "its weights are shared")
    trace.size(call.place.inside("output_shape"), ids)
    return [{len(call.shapes[0]) - 1: ids}, *({} for _ in call.shapes[1:])]


def _attention(trace: Trace, call: Call) -> list[Axes]:
    """Attention and AdditiveAttention: the channels of query and key meet in pairs, those of value are answered."""
    query, value, *rest = call.inputs
    key = rest[0] if rest else value
    last = len(query.shape) - 1
    size = query.shape[-1]
    ids = ids_or_zeros(query.axes, last, size)
    trace.ties.tie(ids, ids_or_zeros(key.axes, last, size), f"{call.name} multiplies it with something else")
    trace.keep(call.inputs, f"{call.name} attends along it", range(1, last))
    scale = getattr(call.layer, "scale", None)
    if scale is not None and len(scale.shape) == 1:
        trace.bind(scale, 0, ids, f"{call.name} reads something else with the same weights")
    answer = {last: value.axes[last]} if last in value.axes else {}
    return [answer, *({} for _ in call.shapes[1:])]


def _normalization(*names: str) -> Rule:
    """Normalization along axes: each weight has the channels of one of them."""

    def rule(trace: Trace, call: Call) -> list[Axes]:
        (tensor,) = call.inputs
        axes = call.layer.axis if isinstance(call.layer.axis, Sequence) else [call.layer.axis]
        for position, axis in enumerate(each % len(tensor.shape) for each in axes):
            for name in names:
                variable = getattr(call.layer, name, None)
                if variable is not None:
                    ids = ids_or_zeros(tensor.axes, axis, tensor.shape[axis])
                    trace.bind(variable, position, ids, f"{call.name} reads something else with the same weights")
                    if name.startswith("moving_"):
                        trace.uncounted.add(id(variable))
        return [tensor.axes]

    return rule


def _pass(trace: Trace, call: Call) -> list[Axes]:
    (tensor,) = call.inputs
    return [tensor.axes]


def _activation(trace: Trace, call: Call) -> list[Axes]:
    return _pass(trace, call) if elementwise(call.layer.activation) else trace.unknown(call)


def _softmax(trace: Trace, call: Call) -> list[Axes]:
    (tensor,) = call.inputs
    axes = call.layer.axis if isinstance(call.layer.axis, Sequence) else [call.layer.axis]
    trace.keep([tensor], f"{call.name} mixes its channels", [axis % len(tensor.shape) for axis in axes])
    return [tensor.axes]


def _rescaling(trace: Trace, call: Call) -> list[Axes]:
    scalar = np.size(call.layer.scale) == 1 and np.size(call.layer.offset) == 1
    return _pass(trace, call) if scalar else trace.unknown(call)


def _slopes(trace: Trace, call: Call) -> list[Axes]:
    (tensor,) = call.inputs
    for position, size in enumerate(call.layer.alpha.shape):
        if size != 1:
            ids = ids_or_zeros(tensor.axes, position + 1, size)
            trace.bind(call.layer.alpha, position, ids, f"{call.name} reads something else with the same weights")
    return [tensor.axes]


def _merge(trace: Trace, call: Call) -> list[Axes]:
    """Add and its like."""
    if len({len(each.shape) for each in call.inputs}) > 1:
        return trace.unknown(call)
    return [broadcast(trace, call, call.inputs)]


def _concatenate(trace: Trace, call: Call) -> list[Axes]:
    return [joined(trace, call, call.inputs, call.layer.axis)]


def _dot(trace: Trace, call: Call) -> list[Axes]:
    first, second = call.inputs
    axes = call.layer.axes if isinstance(call.layer.axes, Sequence) else [call.layer.axes] * 2
    left, right = axes[0] % len(first.shape), axes[1] % len(second.shape)
    size = first.shape[left]
    if size is None:
        return trace.unknown(call)
    trace.ties.tie(
        ids_or_zeros(first.axes, left, size),
        ids_or_zeros(second.axes, right, size),
        f"{call.name} multiplies it with something else",
    )
    kept = [first.axes.get(axis) for axis in range(len(first.shape)) if axis != left]
    kept += [second.axes.get(axis) for axis in range(1, len(second.shape)) if axis != right]
    return [{axis: ids for axis, ids in enumerate(kept) if ids is not None}]


def _time_distributed(trace: Trace, call: Call) -> list[Axes]:
    inside, (tensor,) = call.layer.layer, call.inputs
    place = Place(inside) if is_model(inside) else call.place.inside("layer", "config")
    given = Tensor(_without_time(tensor.shape), {axis - 1: ids for axis, ids in tensor.axes.items() if axis > 1})
    inner = Call(inside, place, (given,), {}, {}, tuple(map(_without_time, call.shapes)))
    answers = [{axis + 1: ids for axis, ids in each.axes.items()} for each in trace.follow(inner)]
    if 1 in tensor.axes:
        answers = [{**each, 1: tensor.axes[1]} for each in answers]
    return answers


def _without_time(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return (shape[0], *shape[2:])


_PASSED = [
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "Masking",
    "ActivityRegularization",
]

RULES: dict[str, tuple[Rule, frozenset[str]]] = {
    "Dense": (_dense, _NOTHING),
    "Conv1D": (_convolution, _NOTHING),
    "Conv2D": (_convolution, _NOTHING),
    "Conv3D": (_convolution, _NOTHING),
    "SeparableConv1D": (_separable, _NOTHING),
    "SeparableConv2D": (_separable, _NOTHING),
    "DepthwiseConv1D": (_depthwise, _NOTHING),
    "DepthwiseConv2D": (_depthwise, _NOTHING),
    "Embedding": (_embedding, _NOTHING),
    "MultiHeadAttention": (_multi_head, frozenset({"value", "key"})),
    "Attention": (_attention, _NOTHING),
    "AdditiveAttention": (_attention, _NOTHING),
    "BatchNormalization": (_normalization("gamma", "beta", "moving_mean", "moving_variance"), _NOTHING),
    "LayerNormalization": (_normalization("gamma", "beta"), _NOTHING),
    "RMSNormalization": (_normalization("scale"), _NOTHING),
    "Activation": (_activation, _NOTHING),
    "Softmax": (_softmax, _NOTHING),
    "Rescaling": (_rescaling, _NOTHING),
    "PReLU": (_slopes, _NOTHING),
    "Dot": (_dot, _NOTHING),
    "Concatenate": (_concatenate, _NOTHING),
    "TimeDistributed": (_time_distributed, _NOTHING),
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), (_merge, _NOTHING)),
    **dict.fromkeys((*_PASSED, *LAYERS), (_pass, _NOTHING)),
    **{name: (rule, _NOTHING) for name, rule in SHAPING.items()},
    **{name: (rule, frozenset({"initial_state"})) for name, rule in RECURRENT.items()},
}
