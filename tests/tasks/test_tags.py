from __future__ import annotations

import numpy as np
import pytest

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.texts.topics import TOPICS, write_tagged_notes
from edgelstm.tasks.texts.vocabulary import PADDING, UNKNOWN

TINY = {"num_train": 60, "num_validation": 20, "num_test": 30}


@pytest.fixture(scope="module")
def task():
    return load_task("tags")


def write_csv(path, cells):
    path.write_text("\n".join(["text,labels", *(f"text {n},{cell}" for n, cell in enumerate(cells))]), encoding="utf-8")
    return path


def test_y_marks_the_topics_of_each_note(task):
    data = task.data(task.setup(settings=TINY))
    assert data.labels == tuple(TOPICS)
    notes = write_tagged_notes(30, seed=0, for_test=True)
    assert data.extra["texts"]["test"] == [note.text for note in notes]
    tags = [tuple(data.labels[tag] for tag in np.flatnonzero(row)) for row in data.test.y]
    assert tags == [note.topics for note in notes]


def test_the_default_vocabulary_and_length_suffice(task):
    data = task.data()
    for split in data.splits.values():
        assert (split.x["ids"][:, -1] == PADDING).all()
        assert not (split.x["ids"] == UNKNOWN).any()


def test_a_bag_of_words_cannot_tell_what_is_denied(task):
    figures = task.baselines(task.data(task.setup(settings={"num_train": 2000})))["bag_of_words"]
    assert 0.5 < figures["micro_f1"] < 0.85
    assert figures["exact"] < 0.4


def test_the_model_answers_every_tag_for_itself(task):
    data = task.data(task.setup(settings=TINY))
    model = task.build(task.setup(), data)
    assert model.count_params() == 180 * 128 + 4 * 128 * (128 + 128 + 1) + 129 * 10
    answers = model.predict(data.test.x["ids"], verbose=0)
    assert answers.shape == (30, 10)
    assert (np.abs(answers - 0.5) < 0.2).all()  # untrained: a softmax would answer a tenth


@pytest.mark.parametrize("separator", ["|", "/"])
def test_tags_of_a_table_are_separated_within_their_cell(task, tmp_path, separator):
    cells = ["red", f"red{separator} blue", "green ", f"blue{separator}green{separator}", ""] * 8
    setup = task.setup(source=write_csv(tmp_path / "t.csv", cells), settings={"label_separator": separator})
    data = task.data(setup)
    assert data.labels == ("blue", "green", "red")
    expected = [[0, 0, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]]
    for name, split in data.splits.items():
        assert (split.y.sum(axis=0) > 0).all()
        numbers = [int(text.split()[1]) for text in data.extra["texts"][name]]
        np.testing.assert_array_equal(split.y, [expected[number % 5] for number in numbers])
    assert sum(len(split) for split in data.splits.values()) == 40
    assert data.notes[0] == "8 of the texts have no tag and are kept as examples of none."


def test_a_rare_tag_comes_into_the_training_split(task, tmp_path):
    cells = ["red|blue"] * 30 + ["red|rare"] * 3
    data = task.data(task.setup(source=write_csv(tmp_path / "t.csv", cells)))
    assert [split.y[:, data.labels.index("rare")].sum() for split in data.splits.values()] == [1, 1, 1]


def test_a_table_of_one_tag_is_refused_with_the_separator(task, tmp_path):
    with pytest.raises(DataError, match=r"holds 1 different tags, separated by '\|', and at least two are needed"):
        task.data(task.setup(source=write_csv(tmp_path / "t.csv", ["red"] * 9)))


def test_a_folder_is_refused(task, tmp_path):
    with pytest.raises(DataError, match="is a folder: tags of texts are read from a CSV file"):
        task.data(task.setup(source=tmp_path))


def test_an_empty_separator_is_refused(task, tmp_path):
    setup = task.setup(source=write_csv(tmp_path / "t.csv", ["red"] * 9), settings={"label_separator": ""})
    with pytest.raises(SettingError, match="'label_separator' must not be empty"):
        task.data(setup)
