"""The field's LSTM models, each described once and built in Keras; `torch_files.py` builds the same in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Layer = dict[str, Any]


def embedding(words: int, size: int) -> Layer:
    return {"kind": "embedding", "words": words, "size": size}


def lstm(units: int, *, sequences: bool = False, both_ways: bool = False) -> Layer:
    return {"kind": "lstm", "units": units, "sequences": sequences, "both_ways": both_ways}


def conv(filters: int) -> Layer:
    """A 3x3 convolution of every frame, stride 2, no padding, ReLU."""
    return {"kind": "conv", "filters": filters}


def pool() -> Layer:
    """The mean over every frame."""
    return {"kind": "pool"}


def dense(units: int, activation: str) -> Layer:
    return {"kind": "dense", "units": units, "activation": activation}


@dataclass(frozen=True)
class PeerModel:
    """A model.

    Attributes:
        name: Its name in tables.
        shape: Of one input, without the batch.
        layers: From input to output.
    """

    name: str
    shape: tuple[int, ...]
    layers: tuple[Layer, ...]

    @property
    def is_text(self) -> bool:
        """Whether the input is word ids."""
        return self.layers[0]["kind"] == "embedding"

    def inputs(self, count: int, seed: int = 0) -> Any:
        """Returns inputs, shape (count, *shape), that differ as a whole, so that answers differ, too.

        Texts of eight words each, or normal values around a level of their own.
        """
        rng = np.random.default_rng(seed)
        if self.is_text:
            own = rng.integers(1, self.layers[0]["words"], (count, 8))
            return np.take_along_axis(own, rng.integers(0, 8, (count, *self.shape)), axis=1).astype(np.int32)
        levels = 2 * rng.standard_normal((count, *[1] * len(self.shape)))
        return (levels + rng.standard_normal((count, *self.shape))).astype(np.float32)


MODELS = (
    PeerModel("text", (200,), (embedding(10_000, 128), lstm(64), dense(1, "sigmoid"))),
    PeerModel("long text", (500,), (embedding(10_000, 32), lstm(100), dense(1, "sigmoid"))),
    PeerModel("bidirectional", (200,), (embedding(10_000, 128), lstm(64, both_ways=True), dense(1, "sigmoid"))),
    PeerModel("stacked", (200,), (embedding(10_000, 64), lstm(64, sequences=True), lstm(64), dense(1, "sigmoid"))),
    PeerModel("rows", (28, 28), (lstm(64), dense(10, "softmax"))),
    PeerModel("video", (16, 32, 32, 3), (conv(16), conv(32), pool(), lstm(64), dense(6, "softmax"))),
    PeerModel("forecast", (50, 1), (lstm(50), dense(1, "linear"))),
    PeerModel("pixels", (1024, 1), (lstm(256, sequences=True), lstm(256), dense(10, "softmax"))),
)
"""The models of the field guide: what people train, in the sizes in which they train it."""


def build_keras(model: PeerModel, seed: int = 0) -> Any:
    """Builds a model in Keras, with random weights: larger ones would make long recurrences chaotic."""
    from edgelstm.converters.loading.keras_import import import_keras

    keras = import_keras()
    x = inputs = keras.Input(model.shape, dtype="int32" if model.is_text else "float32", name="x")
    for layer in model.layers:
        x = _keras_layer(keras.layers, layer)(x)
    built = keras.Model(inputs, x)
    rng = np.random.default_rng(seed)
    built.set_weights(
        [_random(rng, weight.shape, model.is_text and not index) for index, weight in enumerate(built.get_weights())]
    )
    return built


def _random(rng: np.random.Generator, shape: tuple[int, ...], is_table: bool) -> Any:
    fan_in = 1 if is_table or len(shape) == 1 else int(np.prod(shape[:-1]))
    return rng.normal(scale=1 / np.sqrt(fan_in), size=shape)


def _keras_layer(layers: Any, layer: Layer) -> Any:
    kind = layer["kind"]
    if kind == "embedding":
        return layers.Embedding(layer["words"], layer["size"])
    if kind == "lstm":
        made = layers.LSTM(layer["units"], return_sequences=layer["sequences"])
        return layers.Bidirectional(made) if layer["both_ways"] else made
    if kind == "conv":
        return layers.TimeDistributed(layers.Conv2D(layer["filters"], 3, strides=2, activation="relu"))
    if kind == "pool":
        return layers.TimeDistributed(layers.GlobalAveragePooling2D())
    return layers.Dense(layer["units"], activation=layer["activation"])
