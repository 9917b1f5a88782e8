"""Small .tflite files for the tests of the runtime and of the targets, each converted once per test process."""

from __future__ import annotations

import functools
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.lstm_reference import LstmWeights

BATCH, TIME, FEATURES, UNITS = 2, 5, 3, 4

Array = npt.NDArray[Any]


def lstm_weights(seed: int = 0) -> LstmWeights:
    """Returns random weights whose scale and offset differ from gate to gate."""
    rng = np.random.default_rng(seed)
    scales, offsets = (1.5, 0.8, 1.2, 0.9), (0.3, 1.0, -0.2, -0.5)

    def blocks(rows: int) -> Array:
        return np.concatenate([rng.normal(0, scale, (rows, UNITS)) for scale in scales], axis=1).astype(np.float32)

    bias = np.concatenate([rng.normal(offset, 0.3, UNITS) for offset in offsets]).astype(np.float32)
    return LstmWeights(blocks(FEATURES), blocks(UNITS), bias)


def _convert(function: Any, specs: dict[str, Any], samples: list[dict[str, Array]] | None = None) -> bytes:
    """Converts a function of tensors, that returns a dict of tensors, to a file with one signature.

    Args:
        function: Takes the tensors by name, returns them by name.
        specs: Shape and TensorFlow dtype per input name.
        samples: If given, the file is quantized to int8, inputs and outputs included, with these for calibration.
    """
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(function, autograph=False)
    tensors = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in specs.items()}
    concrete = module.call.get_concrete_function(**tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
        if samples is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: iter(samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())


@functools.cache
def affine(batch: int | None = 2) -> bytes:
    """Returns y = 2 x + 1, with x of shape (batch, 3); a free batch dimension if None."""
    import tensorflow as tf

    return _convert(lambda x: {"y": x * 2.0 + 1.0}, {"x": ((batch, 3), tf.float32)})


@functools.cache
def affine_int8() -> bytes:
    """Returns y = 2 x + 1 with int8 input and output, for x of shape (2, 3) in -1 to 1."""
    import tensorflow as tf

    samples = [{"x": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)}]
    return _convert(lambda x: {"y": x * 2.0 + 1.0}, {"x": ((2, 3), tf.float32)}, samples)


@functools.cache
def two_by_two() -> bytes:
    """Returns difference = left - right and looked_up = (5, 6, 7, 8)[tokens], all of shape (1, 2)."""
    import tensorflow as tf

    def function(left: Any, right: Any, tokens: Any) -> dict[str, Any]:
        return {"difference": left - right, "looked_up": tf.gather(tf.constant([5.0, 6.0, 7.0, 8.0]), tokens)}

    shape = (1, 2)
    return _convert(function, {"left": (shape, tf.float32), "right": (shape, tf.float32), "tokens": (shape, tf.int32)})


@functools.cache
def fused_lstm() -> bytes:
    """Returns the fused LSTM operator, x of shape (2, 5, 3), y of shape (2, 5, 4), state kept from call to call."""
    import tensorflow as tf

    weights = lstm_weights()

    def lstm(inputs: Any, init_h: Any, init_c: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tuple[Any, ...]:
        h, c, outputs = init_h, init_c, []
        for t in range(TIME):
            h, c = _tensorflow_step(inputs[:, t], h, c, kernel, recurrent_kernel, bias)
            outputs.append(h)
        return h, tf.stack(outputs, axis=1), h, c, tf.constant(1.0)

    attributes = {
        "api_implements": f"lstm_{uuid.UUID(int=1)}",
        "api_preferred_device": "CPU",
        "time_major": False,
        "go_backwards": False,
    }
    fused = tf.function(lstm, autograph=False, experimental_attributes=attributes)

    def function(x: Any) -> dict[str, Any]:
        zeros = tf.zeros((BATCH, UNITS))
        constants = [tf.constant(value) for value in (weights.kernel, weights.recurrent_kernel, weights.bias)]
        return {"y": fused(x, zeros, zeros, *constants)[1]}

    return _convert(function, {"x": ((BATCH, TIME, FEATURES), tf.float32)})


@functools.cache
def unrolled_lstm() -> bytes:
    """Returns an LSTM of plain operators with the inputs x, h, c: the hidden states y of shape (2, 5, 4)."""
    import tensorflow as tf

    weights = lstm_weights()

    def function(x: Any, h: Any, c: Any) -> dict[str, Any]:
        outputs = []
        for t in range(TIME):
            h, c = _tensorflow_step(x[:, t], h, c, weights.kernel, weights.recurrent_kernel, weights.bias)
            outputs.append(h)
        return {"y": tf.stack(outputs, axis=1)}

    state = ((BATCH, UNITS), tf.float32)
    return _convert(function, {"x": ((BATCH, TIME, FEATURES), tf.float32), "h": state, "c": state})


def _tensorflow_step(x: Any, h: Any, c: Any, kernel: Any, recurrent_kernel: Any, bias: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    gates = tf.matmul(x, kernel) + tf.matmul(h, recurrent_kernel) + bias
    i, f, g, o = tf.split(gates, 4, axis=1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


MODELS: dict[str, Callable[[], bytes]] = {
    "affine": affine,
    "affine_free": lambda: affine(None),
    "affine_int8": affine_int8,
    "two_by_two": two_by_two,
    "fused_lstm": fused_lstm,
    "unrolled_lstm": unrolled_lstm,
}


class TinyModels:
    """The files of `MODELS`, written into a folder when they are asked for.

    Args:
        folder: Where to write them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> Path:
        path = self._folder / f"{name}.tflite"
        if not path.exists():
            path.write_bytes(MODELS[name]())
        return path
