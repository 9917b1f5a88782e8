"""Functions that Keras 3 defines otherwise than Keras 1 and 2, with their old meaning."""

from __future__ import annotations

from typing import Any

PACKAGE = "edgelstm"
HARD_SIGMOID_CONFIG = {
    "module": None,
    "class_name": "function",
    "config": f"{PACKAGE}>hard_sigmoid_of_keras_2",
    "registered_name": f"{PACKAGE}>hard_sigmoid_of_keras_2",
}
"""How a configuration names `hard_sigmoid_of_keras_2`, once it is registered."""


def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """Returns 0.2 x + 0.5, clipped to 0 and 1: `hard_sigmoid` of Keras 1 and 2.

    Keras 3 computes x / 6 + 0.5 under the same name.

    Args:
        x: A tensor of any shape.
    """
    import keras

    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def register_functions() -> None:
    """Makes the functions known to Keras, so that configurations can name them."""
    import keras

    keras.saving.register_keras_serializable(package=PACKAGE)(hard_sigmoid_of_keras_2)
