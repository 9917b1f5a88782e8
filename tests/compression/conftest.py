"""A model that is always right, its data, and a stage that spoils it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from edgelstm.converters import stages
from tests.compression.spoiling import Spoil

TIME, FEATURES, COUNT = 6, 3, 400


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    x = layers.Input((TIME, FEATURES), name="x")
    y = layers.Dense(2, activation="softmax", name="answer")(layers.LSTM(5, name="lstm")(x))
    made = keras.Model(x, y, name="tiny")
    made.get_layer("answer").set_weights([8 * value for value in made.get_layer("answer").get_weights()])
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("data") / "d.npz"
    x = np.random.default_rng(0).normal(size=(COUNT, TIME, FEATURES)).astype(np.float32)
    np.savez(path, x=x, y=model.predict(x, verbose=0).argmax(axis=1))
    return str(path)


@pytest.fixture
def spoil(monkeypatch):
    monkeypatch.setitem(stages.STAGES, "spoil", f"{Spoil.__module__}:Spoil")
    Spoil.seeds.clear()
    return Spoil
