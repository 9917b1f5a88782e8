from __future__ import annotations

import numpy as np
import pytest

from edgelstm.tasks import load_task
from edgelstm.tasks.vocabulary import PADDING, START, UNKNOWN

TINY = {"num_train": 64, "num_validation": 16, "num_test": 16, "length": 20, "embedding": 4, "units": 4, "epochs": 2}


@pytest.fixture(scope="module")
def task():
    return load_task("text")


@pytest.fixture(scope="module")
def data(task):
    return task.data(seed=0, **TINY)


def test_the_splits_have_the_sizes_asked_for(data):
    assert (data.x_train.shape, data.x_validation.shape, data.x_test.shape) == ((64, 20), (16, 20), (16, 20))
    assert data.x_train.dtype == data.y_train.dtype == np.int32


def test_texts_begin_with_the_start_id_and_end_with_padding(data):
    assert (data.x_train[:, 0] == START).all()
    is_padding = data.x_train == PADDING
    assert is_padding.any()
    assert (np.diff(is_padding.astype(int), axis=1) >= 0).all()


def test_inputs_are_the_encoded_texts(data):
    vocabulary = data.extra["vocabulary"]
    for split, x in (("train", data.x_train), ("validation", data.x_validation), ("test", data.x_test)):
        np.testing.assert_array_equal(vocabulary.encode(data.extra["texts"][split], 20), x)


def test_the_same_seed_gives_the_same_data_and_another_one_other_data(task, data):
    np.testing.assert_array_equal(task.data(seed=0, **TINY).x_test, data.x_test)
    assert (task.data(seed=1, **TINY).x_test != data.x_test).any()


def test_both_classes_are_equally_frequent_in_every_split(data):
    for labels in (data.y_train, data.y_validation, data.y_test):
        assert labels.mean() == 0.5


def test_no_text_is_in_two_splits(task):
    texts = task.data(seed=3, num_train=2000, num_validation=500, num_test=1000).extra["texts"]
    assert len(set(texts["train"]) | set(texts["validation"]) | set(texts["test"])) == 3500


def test_the_default_vocabulary_covers_all_but_rare_words(task):
    data = task.data()
    assert len(data.extra["vocabulary"]) == task.defaults["vocabulary_size"]
    for x in (data.x_train, data.x_test):
        assert 0.001 < (x == UNKNOWN).mean() < 0.02


def test_default_texts_fit_into_the_default_length(task):
    assert (task.data(num_train=3000).x_train[:, -1] == PADDING).all()


def test_a_bag_of_words_stays_far_below_what_the_lstm_reaches(task):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    data = task.data(num_train=3000, num_test=1000)
    counts = CountVectorizer(token_pattern=r"[\w']+")
    x_train = counts.fit_transform(data.extra["texts"]["train"])
    classifier = LogisticRegression(max_iter=1000).fit(x_train, data.y_train)
    x_test = counts.transform(data.extra["texts"]["test"])
    score = task.evaluate(lambda _: classifier.predict_proba(x_test)[:, 1], data)
    assert 0.55 < score < 0.75


def test_the_model_is_a_masked_embedding_an_lstm_and_a_probability(task):
    import keras

    model = task.build(vocabulary_size=50, length=9, embedding=6, units=5, dropout=0.1, recurrent_dropout=0.3)
    _, embedding, lstm, dense = model.layers
    assert isinstance(lstm, keras.layers.LSTM)
    assert embedding.mask_zero
    assert (embedding.input_dim, embedding.output_dim, lstm.units) == (50, 6, 5)
    assert (lstm.dropout, lstm.recurrent_dropout) == (0.1, 0.3)
    assert dense.activation is keras.activations.sigmoid
    assert model.input_shape == (None, 9)
    assert model.output_shape == (None, 1)


def test_by_default_the_model_has_128_embedding_features_64_units_and_a_fifth_of_dropout(task):
    _, embedding, lstm, _ = task.build().layers
    assert (embedding.output_dim, lstm.units, lstm.dropout, lstm.recurrent_dropout) == (128, 64, 0.2, 0.2)


def test_training_lowers_the_loss_and_reports_every_epoch(task, data):
    lines = []
    settings = {**TINY, "epochs": 6, "learning_rate": 0.05}
    model = task.train(data, 0, lines.append, **settings)
    assert len(lines) == 6
    assert lines[0].startswith("epoch 1/6: loss 0.")
    untrained = task.build(**TINY).evaluate(data.x_train, data.y_train, verbose=0)[0]
    assert model.evaluate(data.x_train, data.y_train, verbose=0)[0] < untrained - 0.01
    assert 0 <= task.evaluate(lambda x: model.predict(x, verbose=0), data) <= 1


def test_training_stops_and_goes_back_to_the_best_epoch(task, data):
    lines = []
    # A learning rate this high makes the validation loss worse after a few epochs.
    model = task.train(data, 0, lines.append, **{**TINY, "epochs": 40, "learning_rate": 0.3, "patience": 2})
    losses = [float(line.split("validation loss ")[1].split(",")[0]) for line in lines]
    assert len(lines) == int(np.argmin(losses)) + 1 + 2 < 40
    loss = model.evaluate(data.x_validation, data.y_validation, verbose=0)[0]
    assert loss == pytest.approx(min(losses), abs=1e-4)  # the lines show four digits


def test_the_same_seed_trains_the_same_model(task, data):
    first, second = (task.train(data, 7, **{**TINY, "epochs": 1}) for _ in range(2))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("split", ["num_train", "num_validation", "num_test"])
def test_a_split_without_both_classes_is_refused(task, split):
    with pytest.raises(ValueError, match=f"{split}=1: at least 2 reviews are needed, one of each class"):
        task.data(**{**TINY, split: 1})
