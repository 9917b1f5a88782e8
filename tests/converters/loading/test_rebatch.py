"""Batch sizes that a model of Keras 3 fixes, replaced by another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.converters.loading import load_model
from edgelstm.converters.loading.rebatch import rebase_batch
from edgelstm.errors import LoadError
from edgelstm.source import open_source

keras = pytest.importorskip("keras")

TIME, FEATURES, UNITS = 5, 3, 4


def randomized(model: Any) -> Any:
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(
            np.abs(rng.normal(0, 0.5, variable.shape))
            if "variance" in variable.name
            else rng.normal(0, 0.5, variable.shape)
        )
    return model


def stateful() -> Any:
    layers = [keras.layers.LSTM(UNITS, stateful=True, return_sequences=True), keras.layers.BatchNormalization()]
    last = keras.layers.Bidirectional(keras.layers.GRU(UNITS, stateful=True))
    return keras.Sequential([keras.Input(batch_shape=(32, TIME, FEATURES)), *layers, last])


def graph() -> Any:
    x, y = keras.Input(batch_shape=(32, TIME, FEATURES)), keras.Input(batch_shape=(32, TIME, FEATURES))
    inner = keras.Sequential([keras.Input(batch_shape=(32, TIME, FEATURES)), keras.layers.LSTM(UNITS)])
    merged = keras.layers.Concatenate()([keras.layers.GRU(2)(keras.layers.Masking()(x)), inner(x), inner(y)])
    return keras.Model([x, y], keras.layers.Dense(2)(merged) * 2.0)


@pytest.mark.parametrize("build", [stateful, graph])
@pytest.mark.parametrize("way", ["live", "file"])
def test_other_size_gives_the_same_answers(build: Any, way: str, tmp_path: Path) -> None:
    model = randomized(build())
    model.save(tmp_path / "model.keras")
    rng = np.random.default_rng(1)
    batch = [rng.normal(0, 1, (32, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    source = open_source(model if way == "live" else tmp_path / "model.keras", (), batch=2)
    assert [tensor.shape[0] for tensor in source.model.inputs] == [2] * len(batch)
    assert source.notes == ("The batch size is fixed at 2 in place of 32.",)
    few = [array[:2] for array in batch]
    expected = np.asarray(model(batch if len(batch) > 1 else batch[0], training=False))[:2]
    answer = np.asarray(source.model(few if len(few) > 1 else few[0], training=False))
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [None, 32])
def test_same_size_is_the_same_model(batch: int | None) -> None:
    model = stateful()
    loaded = rebase_batch(model, batch)
    assert loaded.model is model
    assert loaded.notes == ()


def test_free_size_stays_free(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((TIME, FEATURES)), keras.layers.LSTM(UNITS)])
    model.save(tmp_path / "model.keras")
    assert load_model(tmp_path / "model.keras", batch=3).model.input_shape == (None, TIME, FEATURES)


def test_own_classes_and_functions_come_along() -> None:
    class Twice(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return 2 * x

    def halve(x: Any) -> Any:
        return 0.5 * x

    x = keras.Input(batch_shape=(32, TIME, FEATURES))
    model = randomized(keras.Model(x, keras.layers.Dense(2, activation=halve)(Twice()(keras.layers.LSTM(UNITS)(x)))))
    data = np.random.default_rng(1).normal(0, 1, (32, TIME, FEATURES)).astype(np.float32)
    rebased = rebase_batch(model, 1).model
    np.testing.assert_allclose(rebased(data[:1]), np.asarray(model(data))[:1], rtol=0, atol=1e-6)


def test_size_used_in_a_layer_is_refused() -> None:
    x = keras.Input(batch_shape=(32, TIME, FEATURES))
    model = keras.Model(x, keras.ops.reshape(keras.layers.LSTM(UNITS)(x), (16, 2 * UNITS)))
    with pytest.raises(LoadError, match=r"cannot rebuild the model|uses its batch size in a layer, too"):
        rebase_batch(model, 4)


def test_subclassed_model_is_refused() -> None:
    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            x = keras.Input(batch_shape=(32, TIME, FEATURES))
            super().__init__(x, keras.layers.LSTM(UNITS)(x), name="own")

    with pytest.raises(LoadError, match=r"Model 'own' fixes its batch size at 32 and is a subclassed model"):
        rebase_batch(Own(), 2)
