"""Small files without variable tensors, for the tests of runtimes that take no others. Imports TensorFlow when used."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.lstm_reference import lstm_reference
from tests.tiny_models import FEATURES, TIME, UNITS, Array, lstm_weights

LENGTH, WORDS, CLASSES = 6, 40, 3
_RNG = np.random.default_rng(7)
TABLE = _RNG.normal(size=(WORDS, FEATURES)).astype(np.float32)
HEAD = _RNG.normal(size=(UNITS, CLASSES)).astype(np.float32)


def write(path: Path, function: Callable[..., dict[str, Any]], *, dynamic: bool = False, **inputs: Any) -> Path:
    """Converts a function of tensors to a file.

    Args:
        path: The file to write.
        function: Takes the tensors by name, returns them by name.
        dynamic: Whether weights of 1,024 elements and more become int8.
        **inputs: Shape, or (shape, dtype), by name.
    """
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(function, autograph=False)
    specs = {name: given if isinstance(given[0], tuple) else (given, "float32") for name, given in inputs.items()}
    tensors = {name: tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in specs.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        concrete = module.call.get_concrete_function(**tensors)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if dynamic else []
        path.write_bytes(converter.convert())
    return path


def strip_signature(path: Path) -> None:
    """Takes the signature out of a file, as in files of old converters."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    model.signatureDefs = None
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def step(x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """One step of the LSTM with `lstm_weights`, in TensorFlow; shapes (batch, features), (batch, units) twice."""
    import tensorflow as tf

    weights = lstm_weights()
    i, f, g, o = tf.split(x @ weights.kernel + h @ weights.recurrent_kernel + weights.bias, 4, axis=1)
    c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
    return tf.sigmoid(o) * tf.tanh(c), c


def loop_lstm(x: Any) -> dict[str, Any]:
    """An LSTM over all steps in a WHILE, x of shape (batch, TIME, FEATURES); the last hidden state as y."""
    import tensorflow as tf

    zeros = tf.zeros((x.shape[0], UNITS))

    def body(t: Any, h: Any, c: Any) -> tuple[Any, Any, Any]:
        return (t + 1, *step(tf.gather(x, t, axis=1), h, c))

    return {"y": tf.while_loop(lambda t, h, c: t < TIME, body, (0, zeros, zeros))[1]}


def chunk_lstm(x: Any, h_in: Any, c_in: Any) -> dict[str, Any]:
    """One step with its states as inputs and outputs, x of shape (batch, FEATURES)."""
    h, c = step(x, h_in, c_in)
    return {"y": h * 2.0, "h_out": h, "c_out": c}


def classifier(tokens: Any) -> dict[str, Any]:
    """A classifier of tokens, shape (1, LENGTH), with the LSTM unrolled; probabilities, shape (1, CLASSES)."""
    import tensorflow as tf

    h = c = tf.zeros((1, UNITS))
    embedded = tf.gather(tf.constant(TABLE), tokens)
    for t in range(LENGTH):
        h, c = step(embedded[:, t], h, c)
    return {"scores": tf.nn.softmax(h @ HEAD)}


def classifier_reference(tokens: Array) -> Array:
    """What `classifier` answers to tokens of shape (calls, 1, LENGTH), in float64; shape (calls, 1, CLASSES)."""
    embedded = TABLE[tokens[:, 0]].astype(np.float64)
    logits = lstm_reference(embedded, lstm_weights()).last_output @ HEAD
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (weights / weights.sum(axis=1, keepdims=True))[:, None]
