"""The same model without some of its units."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.converters.stages.surgery import copy_flags, is_model, named_layers, rebuild
from edgelstm.converters.stages.units.ties import Axes, Ids
from edgelstm.converters.stages.units.trace import Keys, Trace

Array = npt.NDArray[Any]


def cut(trace: Trace, gone: Array) -> Any:
    """Builds a model without some of its units; all others keep their weights.

    Args:
        trace: Of the model, which is not changed.
        gone: Roots of the channels that are to go, shape (n,); none of them must stay.

    Returns:
        A model of its own, not compiled.

    Raises:
        StageError: If a layer cannot be built again.
    """
    scissors = _Scissors(trace, gone)
    model, made = rebuild(trace.model, scissors.layer, scissors.shape)
    for path, layer in named_layers(trace.model).items():
        if path in made and scissors.touches(layer):
            (new,) = made[path]
            for old_variable, new_variable in zip(layer.variables, new.variables, strict=True):
                new_variable.assign(scissors.slice(old_variable))
            copy_flags(layer, new)
    return model


class _Scissors:
    """What is left of shapes, configurations and weights."""

    def __init__(self, trace: Trace, gone: Array) -> None:
        self.trace = trace
        self._stays = ~np.isin(trace.ties.roots(), gone)
        assert not set(gone.tolist()) & set(trace.ties.reasons()), "units that must stay"

    def touches(self, layer: Any) -> bool:
        """Whether a layer is another one afterwards."""
        if is_model(getattr(layer, "layer", None)):
            return False
        sizes = self.trace.sizes.get(id(layer), {}).values()
        axes = (self.trace.variables.get(id(variable), {}).values() for variable in layer.variables)
        return any(not self._stays[ids].all() for group in (sizes, *axes) for ids in group)

    def layer(self, layer: Any) -> list[Any] | None:
        """The layer without the units that go, for `rebuild`."""
        if not self.touches(layer):
            return None
        config = _without_shapes(layer.get_config())
        for keys, ids in self.trace.sizes.get(id(layer), {}).items():
            config = _with(config, keys, self._count(ids))
        return [type(layer).from_config(config)]

    def shape(self, layer: Any) -> list[int | None] | None:
        """The shape of an input, for `rebuild`."""
        axes: Axes = self.trace.inputs.get(id(layer), {})
        if all(self._stays[ids].all() for ids in axes.values()):
            return None
        return [self._count(axes[axis]) if axis in axes else size for axis, size in enumerate(layer.batch_shape)]

    def slice(self, variable: Any) -> Array:
        """What is left of a variable."""
        value: Array = np.asarray(variable.numpy())
        for axis, ids in self.trace.variables.get(id(variable), {}).items():
            value = np.compress(self._stays[ids], value, axis=axis)
        return value

    def _count(self, ids: Ids) -> int:
        return int(self._stays[ids].sum())


def _without_shapes(value: Any) -> Any:
    """Returns a configuration without what fixes shapes: those that layers were built with, and constant weights."""
    if isinstance(value, Mapping):
        kept = {name: _without_shapes(each) for name, each in value.items() if name != "build_config"}
        return {
            name: "zeros" if name.endswith("_initializer") and _is_constant(each) else each
            for name, each in kept.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_without_shapes(each) for each in value)
    return copy.copy(value)


def _is_constant(initializer: Any) -> bool:
    return isinstance(initializer, Mapping) and initializer.get("class_name") == "Constant"


def _with(config: Any, keys: Keys, value: int) -> Any:
    """Returns a configuration with another number at one place."""
    if not keys:
        return value
    first, *rest = keys
    if isinstance(config, Mapping):
        return {**config, first: _with(config[first], tuple(rest), value)}
    return [_with(each, tuple(rest), value) if number == first else each for number, each in enumerate(config)]
