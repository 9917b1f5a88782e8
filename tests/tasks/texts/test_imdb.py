from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from edgelstm.errors import DataError
from edgelstm.tasks import load_task
from edgelstm.tasks.texts.imdb import imdb_vocabulary
from edgelstm.tasks.texts.vocabulary import PADDING, SPECIAL_WORDS, Vocabulary

WORD_INDEX = {"the": 1, "and": 2, "film": 3, "good": 4, "bad": 5, "\x96": 6, "isn't": 7, "rare": 8}


def lists(rows):
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    """The two files of Keras' data set, small ones of the same layout, where Keras keeps what it has downloaded."""
    from keras.src.datasets import imdb

    rows = [[1, 3, 4 + n % 2, *[2] * n] for n in range(20)]
    y = np.array([1 - n % 2 for n in range(20)])
    np.savez(tmp_path / "imdb.npz", x_train=lists(rows), y_train=y, x_test=lists([*rows[:6], [8, 7]]), y_test=y[:7])
    (tmp_path / "imdb_word_index.json").write_text(json.dumps(WORD_INDEX), encoding="utf-8")
    monkeypatch.setattr(imdb, "get_file", lambda fname, **_: str(tmp_path / fname))
    return tmp_path


def load(**settings):
    task = load_task("text")
    return task.data(task.setup(source="imdb", settings=settings))


def test_ids_are_those_of_keras_and_the_vocabulary_reproduces_them(keras_home):
    import keras

    data = load(vocabulary_size=11, length=100)
    (_, _), (x_test, y_test) = keras.datasets.imdb.load_data(num_words=11)
    for ids, expected in zip(data.test.x["ids"], x_test, strict=True):
        assert ids[ids != PADDING].tolist() == expected
    np.testing.assert_array_equal(data.test.y, y_test)
    texts = ["the film good", "The film: isn't rare!", "and so on"]
    encoded = data.files["vocabulary.txt"].encode(texts, 6)
    np.testing.assert_array_equal(encoded, [[1, 4, 6, 7, 0, 0], [1, 4, 6, 10, 2, 0], [1, 5, 2, 2, 0, 0]])
    for ids, y in zip(data.train.x["ids"], data.train.y, strict=True):
        assert ("good" in data.files["vocabulary.txt"].decode(ids)) == bool(y)


def test_a_tenth_of_the_training_reviews_is_the_validation_split(keras_home):
    data = load(length=30)
    assert [len(split) for split in data.splits.values()] == [18, 2, 7]
    both = np.concatenate([data.train.x["ids"], data.validation.x["ids"]])
    assert len(np.unique(both, axis=0)) == 20  # lengths differ, so no review is in both


def test_long_reviews_are_cut_at_their_end(keras_home):
    import keras

    (x, _), _ = keras.datasets.imdb.load_data(num_words=10_000)
    data = load(length=5)
    assert {tuple(ids[ids > 0]) for ids in data.test.x["ids"]} <= {tuple(each[:5]) for each in [*x, [1, 11, 10]]}


@pytest.mark.parametrize("length", [0, 100, 500])
def test_the_length_is_200_or_what_is_asked_for(keras_home, length):
    assert load(length=length).train.x["ids"].shape == (18, length or 200)


def test_the_vocabulary_file_has_a_line_for_every_id(keras_home, tmp_path):
    vocabulary = imdb_vocabulary(WORD_INDEX, 20)
    vocabulary.save(tmp_path / "vocabulary.txt")
    expected = (*SPECIAL_WORDS, "<3>", "the", "and", "film", "good", "bad", "<9>", "isn't", "rare")
    assert Vocabulary.load(tmp_path / "vocabulary.txt").words == expected + tuple(f"<{n}>" for n in range(12, 20))


def test_without_files_and_network_it_is_said_which_files_to_put_where(monkeypatch):
    from keras.src.datasets import imdb

    def fail(fname, **_):
        raise Exception(f"URL fetch failure on {fname}: no network\nmore")

    monkeypatch.setattr(imdb, "get_file", fail)
    message = (
        r"not on this machine and cannot be downloaded \(URL fetch failure on imdb\.npz: no network\): put imdb\.npz "
        r"and imdb_word_index\.json from https://.* into ~/\.keras/datasets\.$"
    )
    with pytest.raises(DataError, match=message):
        load()


def test_a_damaged_file_is_an_error_of_one_sentence(keras_home):
    with zipfile.ZipFile(keras_home / "imdb.npz", "w") as archive:
        archive.writestr("x_train.npy", b"rubbish")
    with pytest.raises(DataError, match=r"put imdb\.npz"):
        load()
