"""Tracing replaces Keras' loops only where and as long as it must."""

from __future__ import annotations

import threading

import keras
import numpy as np
import pytest

from edgelstm.converters.lowering import trace
from edgelstm.converters.lowering.calls import Trace
from edgelstm.converters.lowering.recurrent import CARRIERS

X = np.ones((2, 4, 3), np.float32)


@pytest.fixture
def layer():
    made = keras.layers.LSTM(3, dropout=0.5, recurrent_dropout=0.5)
    made.build(X.shape)
    return made


def test_a_carrier_that_is_executed_answers_nan(layer):
    with trace.stand_ins(Trace(), "auto", CARRIERS, False):
        assert np.isnan(layer(X).numpy()).all()


def test_other_threads_train_with_keras_own_layers_meanwhile(layer):
    answers = []

    def train():
        for _ in range(2):
            answers.append(layer(X, training=True).numpy())

    with trace.stand_ins(Trace(), "auto", CARRIERS, False):
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    assert np.isfinite(answers).all()
    assert not np.array_equal(*answers), "dropout drew no masks"


def test_keras_is_as_it_was_afterwards(layer):
    owners = (keras.layers.LSTM, keras.layers.RNN, keras.layers.Bidirectional, keras.layers.TimeDistributed)
    before = [dict(vars(owner)) for owner in owners]
    with pytest.raises(ZeroDivisionError), trace.stand_ins(Trace(), "auto", CARRIERS, False):
        raise ZeroDivisionError
    for owner, attributes in zip(owners, before, strict=True):
        for name, value in attributes.items():
            assert vars(owner)[name] is value, (owner, name)
    assert np.isfinite(layer(X).numpy()).all()
