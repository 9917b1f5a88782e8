"""Activations that treat each channel by itself."""

from __future__ import annotations

from typing import Any

# By Keras' names; softmax and its like mix channels.
_FUNCTIONS = frozenset(
    [
        "linear",
        "relu",
        "relu6",
        "leaky_relu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "swish",
        "mish",
        "sigmoid",
        "hard_sigmoid",
        "log_sigmoid",
        "sparse_sigmoid",
        "tanh",
        "hard_tanh",
        "tanh_shrink",
        "hard_shrink",
        "soft_shrink",
        "threshold",
        "softplus",
        "sparse_plus",
        "softsign",
        "exponential",
        "squareplus",
        "hard_silu",
        "hard_swish",
    ]
)
LAYERS = frozenset(["ReLU", "LeakyReLU", "ELU", "Identity"])


def elementwise(activation: Any) -> bool:
    """Whether an activation, a function or a layer, treats each channel by itself; what is not Keras' own does not."""
    is_function = hasattr(activation, "__name__")
    owner = activation if is_function else type(activation)
    if not str(getattr(owner, "__module__", "")).startswith("keras."):
        return False
    return owner.__name__ in (_FUNCTIONS if is_function else LAYERS)
