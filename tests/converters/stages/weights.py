"""What tests of pruning and clustering share: models, examples, files read back, and a training that can stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers
from numpy.typing import NDArray

from edgelstm.converters.stages.base import Stage
from tests.converters.stages.workshop import TinyWorkshop
from tests.converters.tiny import floats, functional, sequential

TIME, FEATURES, CLASSES = 6, 5, 3


def one_lstm() -> keras.Model:
    return sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.LSTM(6, name="lstm"),
        layers.Dense(CLASSES, activation="softmax", name="answer"),
    )


def many() -> keras.Model:
    """Two inputs; a layer and a model that are used twice, wrappers, GRU, convolution, embedding and normalization.

    It has 14 matrices of weights, and 10 variables that are none.
    """
    x, tokens = keras.Input((TIME, FEATURES), name="x"), keras.Input((4,), name="tokens", dtype="int32")
    reader = layers.LSTM(FEATURES, return_sequences=True, name="reader")
    inner = keras.Sequential([keras.Input((TIME, FEATURES)), reader], name="inner")
    shared = layers.LSTM(FEATURES, return_sequences=True, name="shared")
    y = layers.BatchNormalization()(layers.Conv1D(FEATURES, 3, padding="same", name="conv")(inner(shared(shared(x)))))
    y = layers.TimeDistributed(layers.Dense(4), name="steps")(layers.Dropout(0.2)(inner(y)))
    y = layers.Bidirectional(layers.LSTM(3), name="both")(y)
    z = layers.GRU(4, name="gru")(layers.Embedding(11, 4, name="table")(tokens))
    answer = layers.Dense(CLASSES, activation="softmax", name="answer")
    return functional([x, tokens], answer(layers.Concatenate()([y, z])))


def workshop(seed: int = 3, count: int = 60) -> TinyWorkshop:
    """Examples for both models: three steps an epoch."""
    rng = np.random.default_rng(seed)
    x = {"x": floats(count, TIME, FEATURES), "tokens": rng.integers(0, 11, (count, 4)).astype("int32")}
    return TinyWorkshop(x, rng.integers(0, CLASSES, count), seed=seed)


class Watching(TinyWorkshop):
    """Keeps the weights before the first and after every step, by the name of the training."""

    steps: dict[str, list[list[NDArray[Any]]]]

    def finetune(self, model: Any, *, name: str = "", after_step: Any = None, **kwargs: Any) -> None:
        self.steps = {**getattr(self, "steps", {}), name: [model.get_weights()]}

        def watch(step: int, steps: int) -> None:
            if after_step is not None:
                after_step(step, steps)
            self.steps[name].append(model.get_weights())

        super().finetune(model, name=name, after_step=watch, **kwargs)


def watching() -> Watching:
    plain, found = workshop(), Watching({}, np.zeros(0), seed=3)
    found.train, found.validation = plain.train, plain.validation
    return found


class StoppedError(Exception):
    pass


class Resumable(TinyWorkshop):
    """Can stop after a step (name of the training, number), and goes on from there when it is called again."""

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        plain = workshop()
        super().__init__({}, np.zeros(0))
        self.train, self.validation, self.stop = plain.train, plain.validation, stop
        self.saved: dict[str, tuple[int, list[Any]]] = {}

    def finetune(self, model: Any, *, epochs: int, after_step: Any = None, name: str = "", **_: Any) -> None:
        batches = len(self.train) // 16
        model.compile(keras.optimizers.Adam(0.01), loss=self.loss_name)
        model.optimizer.build(model.trainable_variables)
        state = [*model.variables, *model.optimizer.variables]
        done, values = self.saved.get(name, (0, [each.numpy() for each in state]))
        for variable, value in zip(state, values, strict=True):
            variable.assign(value)
        for step in range(done + 1, epochs * batches + 1):
            part = self.train.take(slice((step - 1) % batches * 16, (step - 1) % batches * 16 + 16))
            model.train_on_batch(self.feed(model, part), part.y)
            if after_step is not None:
                after_step(step, epochs * batches)
            self.saved[name] = (step, [each.numpy() for each in state])
            if (name, step) == self.stop:
                self.stop = None
                raise StoppedError


class Subclassed(TinyWorkshop):
    """For models that do not tell their inputs."""

    def feed(self, model: Any, examples: Any) -> Any:
        del model
        return examples.x["x"]


class Around(keras.Model):
    """Its constructor takes a layer, which would be shared by two models made with it."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def call(self, x: Any) -> Any:
        return self.inner(x)


def check_seeds(stage: Stage) -> None:
    """A stage makes the same model for the same seed, and another one for another."""
    first, second, other = (stage.apply(one_lstm(), workshop(seed)).model.get_weights() for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def check_resumed(stage: Stage, stop: tuple[str, int]) -> None:
    """A stage that was stopped after a step and goes on comes to the same weights as without the stop."""
    model = one_lstm()
    through = stage.apply(model, Resumable()).model
    shop = Resumable(stop)
    with pytest.raises(StoppedError):
        stage.apply(model, shop)
    resumed = stage.apply(model, shop).model
    for one, other in zip(through.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class Constant(NamedTuple):
    """A matrix of weights in a file.

    Attributes:
        name: Of the tensor.
        values: As they are stored, outputs first.
        num_scales: 0 where it is not quantized, 1, or one for each output.
    """

    name: str
    values: NDArray[Any]
    num_scales: int


_DTYPES = {
    schema.TensorType.FLOAT32: "float32",
    schema.TensorType.FLOAT16: "float16",
    schema.TensorType.INT8: "int8",
}


def constants(path: Path) -> list[Constant]:
    """The matrices of weights in a file, read from its buffers."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    found = []
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is None or not len(data) or len(tensor.shape) < 2 or tensor.shape[0] < 2 or tensor.type not in _DTYPES:
            continue
        values = np.frombuffer(bytes(data), _DTYPES[tensor.type]).reshape(tensor.shape)
        scales = tensor.quantization and tensor.quantization.scale
        found.append(Constant(tensor.name.decode(), values, 0 if scales is None else len(scales)))
    return found
