"""Mixed-precision models compute in float32 on devices: TensorFlow Lite has no float16 arithmetic on CPUs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from edgelstm.converters.layers import layers_inside


@contextlib.contextmanager
def float32_computation(model: Any) -> Iterator[list[str]]:
    """Lets every layer of a model compute in float32 for a while.

    Yields:
        Paths of the layers that otherwise compute in another type.
    """
    changed: list[tuple[Any, Any]] = []
    try:
        for layer in (model, *layers_inside(model)):
            if layer.compute_dtype not in ("float32", None) and str(layer.compute_dtype).startswith(
                ("float", "bfloat")
            ):
                changed.append((layer, layer.dtype_policy))
                layer.dtype_policy = _computing_in_float32(layer.dtype_policy)
        yield [str(layer.path) for layer, _ in changed]
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy


def _computing_in_float32(policy: Any) -> Any:
    """float32 for computing; weights keep their type, and Keras casts them when they are read."""
    import keras

    result = keras.DTypePolicy("float32")
    result._variable_dtype = policy.variable_dtype
    return result
