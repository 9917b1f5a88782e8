"""Files of every form, each with what becomes of it on every runtime."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests import tiny_models
from tests.one_operator import Op, Tensor, accumulator, one_operator, pack, unpack

TIME, FEATURES, UNITS, WORDS = 5, 3, 4, 7

YES, RESET, WRONG, NO, UNKNOWN = "yes", "reset", "wrong", "no", "unknown"
"""Right on every call; right after a reset; loads and is wrong; does not load; not known."""

RUNTIMES = ("ai-edge-litert", "tflite-runtime", "litert-compiled", "litertjs", "mediapipe", "tflite-micro")


@dataclass(frozen=True)
class File:
    """One file.

    Attributes:
        write: Writes it to a path.
        fate: What becomes of it on each of `RUNTIMES`.
        everywhere: Whether to run it on all engines; the browser and MediaPipe take seconds, and tell nothing new about
            the tenth file with variable tensors.
    """

    write: Callable[[Path], Any]
    fate: tuple[str, ...]
    everywhere: bool = True

    @property
    def expected(self) -> dict[str, str]:
        return dict(zip(RUNTIMES, self.fate, strict=True))


def _random(model: Any) -> Any:
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(0, 0.6, variable.shape).astype(np.float32))
    return model


@functools.cache
def _sequence_model(activation: str = "tanh") -> Any:
    import keras

    x = keras.Input((TIME, FEATURES), name="x")
    hidden = keras.layers.LSTM(UNITS, activation=activation)(x)
    return _random(keras.Model(x, keras.layers.Dense(3, activation="softmax")(hidden)))


@functools.cache
def _text_model(activation: str | None = "softmax") -> Any:
    import keras

    tokens = keras.Input((TIME,), name="tokens", dtype="int32")
    hidden = keras.layers.LSTM(UNITS)(keras.layers.Embedding(WORDS, FEATURES)(tokens))
    return _random(keras.Model(tokens, keras.layers.Dense(3, activation=activation)(hidden)))


@functools.cache
def _simple_rnn() -> Any:
    import keras

    x = keras.Input((TIME, FEATURES), name="x")
    return _random(keras.Model(x, keras.layers.SimpleRNN(UNITS, return_sequences=True)(x)))


def converted(model: Callable[[], Any], **options: Any) -> Callable[[Path], Any]:
    """Converts a model as `edgelstm convert` does."""

    def write(path: Path) -> None:
        import edgelstm

        if options.get("quantize") == "int8":
            options["calibration"] = np.random.default_rng(1).normal(size=(20, TIME, FEATURES)).astype(np.float32)
        edgelstm.convert(model(), path, verify=False, **options)

    return write


def without_card(write: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Leaves the card out, so that nothing says that a state is meant to survive."""

    def written(path: Path) -> None:
        write(path)
        path.with_suffix(".json").unlink()

    return written


def stock(content: Callable[[], bytes]) -> Callable[[Path], Any]:
    """Writes what TensorFlow's converter makes."""
    return lambda path: path.write_bytes(content())


def _newer_add() -> bytes:
    model = unpack(accumulator())
    model.operatorCodes[0].version = 6
    return pack(model)


def _far_newer_add() -> bytes:
    model = unpack(accumulator())
    model.operatorCodes[0].version = 60
    return pack(model)


def _one_tensor_for_two_outputs() -> bytes:
    model = unpack(accumulator())
    (signature,) = model.signatureDefs
    again = schema.TensorMapT()
    again.name, again.tensorIndex = "again", signature.outputs[0].tensorIndex
    signature.outputs.append(again)
    model.subgraphs[0].outputs = [signature.outputs[0].tensorIndex] * 2
    return pack(model)


def _int64() -> bytes:
    a, b, y = (Tensor(name, "int64", (2, 3)) for name in "aby")
    return one_operator(Op.ADD, [a, b], [y], schema.AddOptionsT())


def _dead_lstm(path: Path) -> None:
    """An int8 LSTM whose cell state has too small a scale."""
    converted(_sequence_model, quantize="int8")(path)
    model = unpack(path.read_bytes())
    graph = model.subgraphs[0]
    lstm = next(operator for operator in graph.operators if len(operator.inputs) == 24)
    graph.tensors[lstm.inputs[19]].quantization.scale = [2.0**-19]
    path.write_bytes(pack(model))


FUSED = (YES, YES, NO, NO, NO)
STATE_FREE = (YES, YES, YES, YES, NO)

FILES: dict[str, File] = {
    "fused float32": File(converted(_sequence_model), (*FUSED, YES)),
    "fused float16": File(converted(_sequence_model, quantize="float16"), (*FUSED, NO), everywhere=False),
    "fused dynamic": File(converted(_sequence_model, quantize="dynamic"), (*FUSED, WRONG), everywhere=False),
    "fused int8": File(converted(_sequence_model, quantize="int8"), (*FUSED, NO), everywhere=False),
    "fused relu": File(converted(functools.partial(_sequence_model, "relu")), (*FUSED, WRONG), everywhere=False),
    "fused int8 for micro": File(
        converted(_sequence_model, quantize="int8", runtime="micro"), (*FUSED, YES), everywhere=False
    ),
    "dead int8": File(_dead_lstm, (WRONG, WRONG, NO, NO, NO, NO), everywhere=False),
    "text": File(converted(_text_model), (*FUSED, NO)),
    "text for micro": File(converted(_text_model, runtime="micro"), (*FUSED, YES), everywhere=False),
    "text for mediapipe": File(converted(_text_model, runtime="mediapipe"), (YES, YES, YES, YES, YES, NO)),
    "scores for mediapipe": File(
        converted(functools.partial(_text_model, None), runtime="mediapipe"), (YES, YES, YES, YES, YES, NO)
    ),
    "streaming": File(converted(_sequence_model, streaming=True, length=1), (*FUSED, YES), everywhere=False),
    "stream without a card": File(
        without_card(converted(_sequence_model, streaming=True, length=2)), (RESET, RESET, NO, NO, NO, RESET)
    ),
    "text stream without a card": File(
        without_card(converted(_text_model, streaming=True, length=2)), (RESET, RESET, NO, NO, WRONG, NO)
    ),
    "loop float32": File(converted(_sequence_model, runtime="compiled"), (*STATE_FREE, YES)),
    "loop dynamic": File(converted(_sequence_model, runtime="compiled", quantize="dynamic"), (*STATE_FREE, NO)),
    "loop int8": File(converted(_sequence_model, runtime="compiled", quantize="int8"), (*STATE_FREE, NO)),
    "unrolled float32": File(converted(_sequence_model, runtime="mediapipe"), (*STATE_FREE, YES)),
    "Keras loop": File(converted(_simple_rnn), (*STATE_FREE, WRONG)),  # never ends on micro
    "stock fused": File(stock(tiny_models.fused_lstm), (RESET, RESET, NO, NO, NO, RESET), everywhere=False),
    "stock unrolled": File(stock(tiny_models.unrolled_lstm), (*STATE_FREE, YES)),
    "free batch": File(stock(lambda: tiny_models.affine(None)), (YES, YES, YES, NO, NO, YES)),
    "int8 interface": File(stock(tiny_models.affine_int8), (YES, YES, YES, NO, NO, YES)),
    "int64 interface": File(stock(_int64), (YES, YES, NO, NO, NO, NO)),
    "lookup": File(stock(tiny_models.two_by_two), (*STATE_FREE, YES)),
    "two outputs in one": File(stock(_one_tensor_for_two_outputs), (YES, YES, WRONG, WRONG, NO, YES)),
    "newer operator": File(stock(_newer_add), (YES, NO, YES, YES, NO, YES)),
    "operator of the future": File(stock(_far_newer_add), (NO, NO, NO, NO, NO, YES)),
}
