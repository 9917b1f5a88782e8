from __future__ import annotations

import sys

import numpy as np
import pytest

from edgelstm.errors import MissingExtraError
from edgelstm.tasks import load_task


@pytest.fixture(scope="module")
def task():
    return load_task("rows")


@pytest.fixture(scope="module")
def data(task):
    return task.data(seed=0)


def test_images_are_sequences_of_8_rows_with_pixels_from_0_to_1(data):
    for x in (data.x_train, data.x_validation, data.x_test):
        assert x.shape[1:] == (8, 8)
        assert (x.dtype, x.min(), x.max()) == (np.float32, 0, 1)


def test_three_tenths_are_the_test_split_and_nothing_is_lost(data):
    sizes = [len(y) for y in (data.y_train, data.y_validation, data.y_test)]
    assert sizes == [1131, 126, 540]
    images = np.concatenate([data.x_train, data.x_validation, data.x_test])
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797


def test_every_class_has_its_share_in_every_split(data):
    for labels in (data.y_train, data.y_validation, data.y_test):
        shares = np.bincount(labels, minlength=10) / len(labels)
        np.testing.assert_allclose(shares, 0.1, atol=0.02)


def test_the_same_seed_gives_the_same_split_and_another_one_another_split(task, data):
    np.testing.assert_array_equal(task.data(seed=0).x_test, data.x_test)
    assert (task.data(seed=1).y_test != data.y_test).any()


def test_images_belong_to_their_labels(data):
    # The nearest class mean is right for nine in ten digits, and for one in ten if labels were shuffled.
    means = np.stack([data.x_train[data.y_train == digit].mean(axis=0) for digit in range(10)])
    distances = np.square(data.x_test[:, np.newaxis] - means).sum(axis=(2, 3))
    assert (distances.argmin(axis=1) == data.y_test).mean() > 0.85


def test_the_model_reads_rows_and_answers_ten_probabilities(task, data):
    model = task.build(units=6, dropout=0.2)
    _, lstm, _ = model.layers
    assert (model.input_shape, lstm.units, lstm.dropout) == ((None, 8, 8), 6, 0.2)
    probabilities = model.predict(data.x_test[:5], verbose=0)
    assert probabilities.shape == (5, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_by_default_the_lstm_has_64_units(task):
    assert task.build().layers[1].units == 64


def test_a_short_training_is_far_better_than_chance(task, data):
    model = task.train(data, 0, units=16, epochs=4, dropout=0, recurrent_dropout=0, learning_rate=0.02)
    assert task.evaluate(lambda x: model.predict(x, verbose=0), data) > 0.6


def test_without_scikit_learn_the_error_says_how_to_install_it(task, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r'The digits come with scikit-learn: pip install "edgelstm\[train\]"'):
        task.data()
