"""Data of all kinds: what is learnt is told from labels, and what does not fit the model is named."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from edgelstm.compression.learning import read_learning
from edgelstm.errors import DataError
from edgelstm.tasks.objectives import BinaryClassification, Classification, MultiLabel, Regression
from edgelstm.tasks.texts.vocabulary import SPECIAL_WORDS, Vocabulary

COUNT = 40
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(COUNT, 5, 3)).astype(np.float32)
CLASSES = np.arange(COUNT) % 3
ONE_HOT = np.eye(3)[CLASSES]


def model(output=(None, 3), **inputs):
    """What reading looks at of a model."""
    shapes = inputs or {"x": (None, 5, 3)}
    return SimpleNamespace(
        inputs=[SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()], output_shape=output
    )


@pytest.fixture
def npz(tmp_path):
    def write(**arrays) -> str:
        np.savez(tmp_path / "d.npz", **arrays)
        return str(tmp_path / "d.npz")

    return write


@pytest.mark.parametrize(
    "y, output, objective, shape",
    [
        (CLASSES, (None, 3), Classification, ()),
        (CLASSES.astype(np.float32), (None, 3), Classification, ()),
        (CLASSES.reshape(-1, 1), (None, 3), Classification, ()),
        (ONE_HOT, (None, 3), Classification, ()),
        (CLASSES % 2, (None, 1), BinaryClassification, ()),
        ((CLASSES % 2).reshape(-1, 1), (None, 1), BinaryClassification, ()),
        (np.maximum(ONE_HOT, np.roll(ONE_HOT, 1, axis=1)), (None, 3), MultiLabel, (3,)),
        (X[:, 0, 0], (None, 1), Regression, (1,)),
        (X[:, 0], (None, 3), Regression, (3,)),
        (X, (None, None, 3), Regression, (5, 3)),
    ],
)
def test_the_objective_is_told_from_labels_and_output(y, output, objective, shape, npz):
    learning = read_learning(npz(x=X, y=y), model(output))
    assert type(learning.task.objective) is objective
    assert learning.data.train.y.shape == (28, *shape)
    if objective is Classification:
        assert {*learning.data.train.y} == {0, 1, 2}


def test_examples_are_split_once_and_stay_with_their_labels(npz):
    learning = read_learning(npz(x=X, y=X[:, 0]), model())
    splits = learning.data.splits
    assert {name: len(part) for name, part in splits.items()} == {"train": 28, "validation": 6, "test": 6}
    together = np.concatenate([part.x["x"] for part in splits.values()])
    assert sorted(together[:, 0, 0]) == sorted(X[:, 0, 0])
    for part in splits.values():
        np.testing.assert_array_equal(part.y, part.x["x"][:, 0])
    again, other = (read_learning(npz(x=X, y=X[:, 0]), model(), seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(again.data.test.x["x"], learning.data.test.x["x"])
    assert not np.array_equal(other.data.test.x["x"], learning.data.test.x["x"])


def test_a_function_returns_arrays_or_a_dataset(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(
        "import numpy as np\n"
        "x = np.arange(40 * 15, dtype=np.float32).reshape(40, 5, 3)\n"
        "def pair(): return x, np.arange(40) % 3\n"
        "def named(): return {'x': x}, np.arange(40) % 3\n"
        "def batched():\n"
        "    import tensorflow as tf\n"
        "    return tf.data.Dataset.from_tensor_slices(pair()).batch(16)\n"
        "def single():\n"
        "    import tensorflow as tf\n"
        "    return tf.data.Dataset.from_tensor_slices(({'x': x}, np.arange(40) % 3))\n"
        "def broken(): raise KeyError('label')\n"
    )
    monkeypatch.chdir(tmp_path)
    first = read_learning("own_data:pair", model()).data
    for name in ("named", "batched", "single"):
        data = read_learning(f"own_data:{name}", model()).data
        np.testing.assert_array_equal(data.train.x["x"], first.train.x["x"])
        np.testing.assert_array_equal(data.train.y, first.train.y)
    with pytest.raises(DataError, match=r"--data own_data:broken: KeyError: 'label'"):
        read_learning("own_data:broken", model())
    with pytest.raises(DataError, match="no_such_module"):
        read_learning("no_such_module:pair", model())


def test_two_inputs_go_by_name(npz):
    both = model(a=(None, 5, 3), b=(None, 2))
    learning = read_learning(npz(a=X, b=X[:, 0, :2], y=CLASSES), both)
    assert set(learning.data.test.x) == {"a", "b"}
    with pytest.raises(DataError, match="has inputs a, c, and the model takes a, b"):
        read_learning(npz(a=X, c=X[:, 0, :2], y=CLASSES), both)


@pytest.mark.parametrize(
    "arrays, output, message",
    [
        ({"x": X}, (None, 3), "has no labels: it needs an array 'y' beside x"),
        ({"x": X, "y": CLASSES[:-1]}, (None, 3), "different numbers of examples"),
        ({"x": X[:, :4], "y": CLASSES}, (None, 3), r"examples of shape \(4, 3\), and the model takes \(5, 3\)"),
        ({"x": X[:, 0], "y": CLASSES}, (None, 3), r"examples of shape \(3,\), and the model takes \(5, 3\)"),
        ({"x": X[:9], "y": CLASSES[:9]}, (None, 3), "has 9 examples, and at least 10 are needed"),
        ({"x": X, "y": CLASSES + 1}, (None, 3), r"labels of shape \(40,\) do not fit the model's output"),
        ({"x": X, "y": X[:, :, 0]}, (None, 3), r"labels of shape \(40, 5\) do not fit"),
        ({"x": X, "y": np.full(COUNT, np.nan)}, (None, 1), "labels hold NaN"),
    ],
)
def test_what_does_not_fit_is_named(arrays, output, message, npz):
    with pytest.raises(DataError, match=message):
        read_learning(npz(**arrays), model(output))


def test_what_is_no_data_is_told(tmp_path):
    with pytest.raises(DataError, match="is neither task:NAME, the folder of an edgelstm train"):
        read_learning("numbers.csv", model())
    (tmp_path / "d.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"Cannot read .*d\.npz"):
        read_learning(str(tmp_path / "d.npz"), model())


def test_a_task_has_its_own_splits():
    learning = read_learning("task:rows/rows", model((None, 10), rows=(None, 8, 8)))
    assert learning.task.name == "rows"
    assert len(learning.data.test) > 100
    with pytest.raises(DataError, match="has no input 'x'"):
        read_learning("task:rows", model())


def test_scores_are_the_better_the_higher(npz):
    learning = read_learning(npz(x=X, y=X[:, 0]), model())
    test = learning.data.test
    assert learning.score(test.y, test) == 0
    assert learning.score(test.y + 0.5, test) == pytest.approx(-0.5)
    with pytest.raises(DataError, match="does not fit the data"):
        learning.score(test.y[:, :2], test)


def test_other_targets_and_other_ids(npz):
    ids = np.arange(COUNT * 4).reshape(COUNT, 4) % 7
    learning = read_learning(npz(ids=ids, y=CLASSES), model(ids=(None, 4)))
    targets = np.arange(34 * 3, dtype=np.float32).reshape(34, 3)
    other = learning.with_targets(targets, None)
    np.testing.assert_array_equal(other.data.train.y, targets[:28])
    np.testing.assert_array_equal(other.data.validation.y, targets[28:])
    assert learning.with_targets(None, None) is learning
    assert learning.with_targets(None, lambda y, answers: (y, answers)).task.objective.loss(1, 2) == (1, 2)
    table = np.array([0, 1, 2, 2, 2, 3, 4], np.int32)
    renumbered = learning.with_tokens({"ids": table})
    for name, part in learning.data.splits.items():
        np.testing.assert_array_equal(renumbered.data.splits[name].x["ids"], table[part.x["ids"]])


def test_a_vocabulary_follows_its_ids(npz):
    words = Vocabulary([*SPECIAL_WORDS, "good", "rare", "bad"])
    ids = np.arange(COUNT * 4).reshape(COUNT, 4) % 6
    learning = read_learning(npz(ids=ids, y=CLASSES), model(ids=(None, 4)))
    learning = dataclasses.replace(learning, data=dataclasses.replace(learning.data, files={"vocabulary.txt": words}))
    new = learning.with_tokens({"ids": np.array([0, 1, 2, 3, 2, 4, 2, 2], np.int32)})
    follows = new.data.files["vocabulary.txt"]
    assert follows.words == (*SPECIAL_WORDS, "good", "bad")
    np.testing.assert_array_equal(follows.encode(["good rare bad"], 5), [[1, 3, 2, 4, 0]])
    np.testing.assert_array_equal(new.data.train.x["ids"] == 4, learning.data.train.x["ids"] == 5)
    assert len(learning.data.files["vocabulary.txt"]) == 6
