"""Models over windows: what reads the window. What answers is the task's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.tasks.base import Data, Setup
from edgelstm.tasks.series.windows import INPUT

if TYPE_CHECKING:
    import keras

_POOL = 2


def window_input(data: Data) -> Any:
    """Makes the input of a model: "window", float32, shape (batch, look_back, columns)."""
    return import_keras().Input(data.train.x[INPUT].shape[1:], name=INPUT)


def read_window(window: Any, setup: Setup) -> Any:
    """Reads windows as the variant does.

    Args:
        window: A Keras tensor, shape (batch, look_back, columns).
        setup: Used are the variant and the settings units, dropout, filters and kernel_size.

    Returns:
        A Keras tensor, shape (batch, units).
    """
    layers, units = import_keras().layers, setup.int("units")
    x = window
    if setup.variant == "stacked":
        x = layers.LSTM(units, return_sequences=True, name="lower")(x)
    if setup.variant == "cnn":
        x = layers.Conv1D(
            setup.int("filters"), setup.int("kernel_size"), padding="same", activation="relu", name="convolution"
        )(x)
        if window.shape[1] >= _POOL:
            x = layers.MaxPooling1D(_POOL, name="pooling")(x)
    x = layers.LSTM(units, name="lstm")(x)
    return layers.Dropout(setup.float("dropout"))(x) if setup.float("dropout") else x


def probability_model(setup: Setup, data: Data, task: str, output: str) -> keras.Model:
    """Builds a model: window -> probability, float32, shape (batch, 1)."""
    keras = import_keras()
    window = window_input(data)
    x = read_window(window, setup)
    probability = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name=output)(x)
    return keras.Model(window, probability, name=task)
