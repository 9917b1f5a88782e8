"""CNNs that turn a frame into features.

    small             frozen: one convolution that blurs brightness into 8 x 8 places, 64 features;
                      trained along: two convolutions and a mean over 4 x 4 places, 512 features
    efficientnetb0    of keras.applications: 1,280 features
    resnet50          of keras.applications: 2,048 features

All take red, green and blue from 0 to 255 and do what else they need themselves. The frozen small CNN keeps where
brightness is, and nothing else: enough for the moving shapes, and better there than random convolutions, whose many
features an LSTM learns by heart. Random weights of the others follow from a fixed seed, so that features are the same
in every run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import DataError, SettingError
from edgelstm.tasks.base import Array
from edgelstm.tasks.images.files import LUMA

SMALL = "small"
APPLICATIONS = {"efficientnetb0": "EfficientNetB0", "resnet50": "ResNet50"}
NAMES = (SMALL, *APPLICATIONS)
IMAGENET, RANDOM = "imagenet", "random"

_VERSION = 1  # to be raised when a CNN of ours changes otherwise than in its weights
_BGR = "bgr_without_mean"  # the layer that makes of a frame what ResNet50 was trained on
_KERNELS = ("kernel", "depthwise_kernel")
# What the authors of ResNet subtracted from blue, green and red: the mean of ImageNet.
_MEAN_BGR = (103.939, 116.779, 123.68)


def build_cnn(name: str, weights: str, size: int, *, trained: bool = False) -> tuple[Any, list[str]]:
    """Builds a CNN.

    Args:
        name: One of `NAMES`.
        weights: "imagenet", "random", or the path of a file of weights for the model of keras.applications without its
            top; the small CNN has its own.
        size: Side of a frame in pixels.
        trained: Whether it will be trained along.

    Returns:
        A Keras model: "frame", float32 from 0 to 255, shape (batch, size, size, 3) -> shape (batch, features); and
        sentences that the user should know.

    Raises:
        DataError: If the file of weights is not there or does not fit.
        SettingError: If the name is unknown or the size does not fit.
    """
    if name not in NAMES:
        raise SettingError(f"cnn={name}: must be one of {', '.join(NAMES)}.")
    if name == SMALL:
        if size < 16 or size % 16:
            raise SettingError(f"size={size}: must be a multiple of 16 for cnn={SMALL}.")
        return (_small_to_be_trained if trained else _small)(size), []
    if size < 32:
        raise SettingError(f"size={size}: must be at least 32 for cnn={name}.")
    return _application(name, weights, size)


def with_random_weights(cnn: Any) -> Any:
    """Gives the kernels of a CNN normal weights with the variance 2 / inputs (He et al., 2015), from a fixed seed."""
    generator = np.random.default_rng(0)
    for weight in cnn.weights:
        if weight.name in _KERNELS and _BGR not in weight.path:
            shape = tuple(weight.shape)
            inputs = int(np.prod(shape[:2] if weight.name == "depthwise_kernel" else shape[:-1]))
            weight.assign(generator.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32))
    return cnn


def identity(cnn: Any) -> str:
    """A hash of what a CNN is and of its weights: equal ones give equal features."""
    digest = hashlib.sha256(f"{_VERSION} {cnn.name} {cnn.input_shape} {cnn.output_shape}".encode())
    for weight in cnn.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def features_of(cnn: Any, frames: Array, batch_size: int = 64) -> Array:
    """Computes the features of frames.

    Args:
        cnn: A model of `build_cnn`.
        frames: uint8, shape (n, size, size, 3).
        batch_size: Frames at once.

    Returns:
        float32, shape (n, features).
    """
    parts = []
    for start in range(0, len(frames), batch_size):
        part = frames[start : start + batch_size].astype(np.float32)
        missing = min(batch_size, len(frames)) - len(part)  # always the same shape, so that it is compiled once
        padded = np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0)))
        parts.append(np.asarray(cnn.predict_on_batch(padded))[: len(part)])
    return np.concatenate(parts)


def _small(size: int) -> Any:
    keras = import_keras()
    frame = keras.Input((size, size, 3), name="frame")
    step = size // 8
    blur = keras.layers.Conv2D(1, 2 * step, strides=step, padding="same", name="brightness")
    x = blur(frame)
    rising = np.arange(1, 2 * step, 2)
    line = np.concatenate([rising, rising[::-1]])  # a triangle
    kernel = np.outer(line, line)[:, :, np.newaxis, np.newaxis] * np.reshape(LUMA, (1, 1, 3, 1))
    # From 0..255 to -2..6: dark frames with something bright in them vary by about 1.
    blur.set_weights([(kernel / line.sum() ** 2 / 32).astype(np.float32), np.array([-2], np.float32)])
    return keras.Model(frame, keras.layers.Flatten(name="features")(x), name=SMALL)


def _small_to_be_trained(size: int) -> Any:
    keras = import_keras()
    layers = keras.layers
    frame = keras.Input((size, size, 3), name="frame")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(frame)
    for filters, width in ((16, 5), (32, 3)):
        x = layers.Conv2D(filters, width, strides=2, padding="same", activation="relu")(x)
    x = layers.AveragePooling2D(size // 16)(x)
    return keras.Model(frame, layers.Flatten(name="features")(x), name=SMALL)


def _application(name: str, weights: str, size: int) -> tuple[Any, list[str]]:
    from_file = weights not in (IMAGENET, RANDOM)
    if from_file and not Path(weights).is_file():
        raise DataError(f"weights={weights}: there is no such file; give one, or {IMAGENET} or {RANDOM}.")
    notes = []
    if weights != RANDOM:
        try:
            return _made(name, weights, size), _notes_on_size(name, size)
        except Exception as error:
            if from_file:
                raise DataError(f"The weights {weights} do not fit {APPLICATIONS[name]}: {error}") from error
            notes.append(
                f"The weights of {APPLICATIONS[name]} trained on ImageNet are neither on disk nor can be downloaded "
                f"({error}), so they are random: features are far worse."
            )
    return with_random_weights(_made(name, None, size)), notes


def _made(name: str, weights: str | None, size: int) -> Any:
    keras = import_keras()
    frame = keras.Input((size, size, 3), name="frame")
    x = frame
    if name == "resnet50":
        order = keras.layers.Conv2D(3, 1, name=_BGR)
        x = order(frame)
        order.set_weights([np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3), -np.array(_MEAN_BGR, np.float32)])
    make = getattr(keras.applications, APPLICATIONS[name])
    base = make(include_top=False, weights=weights, input_tensor=x, pooling="avg")
    return keras.Model(frame, base.output, name=name)


def _notes_on_size(name: str, size: int) -> list[str]:
    if size >= 96:
        return []
    return [f"{APPLICATIONS[name]} was trained on 224 x 224 pixels: size=224 gives better features than size={size}."]
