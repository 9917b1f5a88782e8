from __future__ import annotations

import numpy as np
import pytest

from edgelstm.errors import SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.texts.topics import TOPICS
from edgelstm.tasks.texts.vocabulary import PADDING, UNKNOWN

TINY = {"num_train": 60, "num_validation": 20, "num_test": 30}


@pytest.fixture(scope="module")
def task():
    return load_task("topic")


def test_inputs_are_the_encoded_notes_and_y_numbers_their_topics(task):
    data = task.data(task.setup(settings=TINY))
    assert data.labels == tuple(TOPICS)
    assert [len(split) for split in data.splits.values()] == [60, 20, 30]
    for name, split in data.splits.items():
        np.testing.assert_array_equal(
            data.files["vocabulary.txt"].encode(data.extra["texts"][name], 48), split.x["ids"]
        )
        np.testing.assert_array_equal(np.bincount(split.y), [len(split) // 10] * 10)


def test_the_default_vocabulary_and_length_suffice(task):
    data = task.data()
    for split in data.splits.values():
        assert (split.x["ids"][:, -1] == PADDING).all()
        assert not (split.x["ids"] == UNKNOWN).any()


def test_a_bag_of_words_takes_one_of_the_topics_that_are_named(task):
    figures = task.baselines(task.data(task.setup(settings={"num_train": 2000})))["bag_of_words"]
    assert 0.4 < figures["accuracy"] < 0.7


def test_the_model_has_128_embedding_features_128_units_and_ten_probabilities(task):
    data = task.data(task.setup(settings=TINY))
    model = task.build(task.setup(), data)
    assert model.count_params() == 180 * 128 + 4 * 128 * (128 + 128 + 1) + 129 * 10
    answers = model.predict(data.test.x["ids"], verbose=0)
    np.testing.assert_allclose(answers.sum(axis=1), np.ones(30), rtol=1e-5)


def test_a_table_of_the_users_may_have_any_number_of_classes(task, tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"word{n % 3} and number {n};{('red', 'green', 'blue')[n % 3]}" for n in range(60)]
    path.write_text("\n".join(["body;class", *rows]), encoding="utf-8")
    setup = task.setup(source=path, settings={"text_column": "body", "label_column": "class"})
    data = task.data(setup)
    assert data.labels == ("blue", "green", "red")
    for name, split in data.splits.items():
        expected = [("word2", "word1", "word0").index(text.split()[0]) for text in data.extra["texts"][name]]
        np.testing.assert_array_equal(split.y, expected)
    assert task.build(setup, data).output_shape == (None, 3)
    assert task.build(setup, data).layers[1].input_dim == 5000


def test_a_split_that_cannot_have_all_topics_is_refused(task):
    with pytest.raises(SettingError, match="num_test=9: at least 10 texts are needed, one of each class"):
        task.data(task.setup(settings={"num_test": 9}))
