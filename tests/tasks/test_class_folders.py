from __future__ import annotations

import pytest

from edgelstm.errors import DataError
from edgelstm.tasks.class_folders import Example, find_examples, split_examples


def is_text(path):
    return path.suffix == ".txt"


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return folder


def examples_of(**counts):
    from pathlib import Path

    return [Example(Path(f"{label}/{n}"), label) for label, count in counts.items() for n in range(count)]


def labels_by_split(splits):
    return {name: sorted(example.label for example in part) for name, part in splits.items()}


def test_each_sub_folder_is_a_class(tmp_path):
    write(tmp_path, "dog/2.txt", "cat/1.txt", "cat/0.txt", "cat/notes.md", ".git/x.txt", "__MACOSX/y.txt", "z.txt")
    found, notes = find_examples(tmp_path, is_text, "texts")
    names = [str(example.path.relative_to(tmp_path)) for example in found]
    assert (names, [example.label for example in found]) == (
        ["cat/0.txt", "cat/1.txt", "dog/2.txt"],
        ["cat", "cat", "dog"],
    )
    assert notes == [f"{tmp_path / 'cat'}: 1 entries that are no texts were left out."]


def test_folders_of_splits_are_no_classes(tmp_path):
    write(tmp_path, "train/a/1.txt", "train/b/2.txt", "val/a/3.txt", "test/b/4.txt")
    found, _ = find_examples(tmp_path, is_text, "texts")
    assert [(e.path.stem, e.label, e.split) for e in found] == [
        ("4", "b", "test"),
        ("1", "a", "train"),
        ("2", "b", "train"),
        ("3", "a", "validation"),
    ]


def test_a_class_may_be_called_train(tmp_path):
    write(tmp_path, "train/1.txt", "car/2.txt")
    found, _ = find_examples(tmp_path, is_text, "texts")
    assert {(e.label, e.split) for e in found} == {("train", ""), ("car", "")}


@pytest.mark.parametrize(
    "names, message",
    [
        ([], "has no sub-folders with texts"),
        (["a/1.md", "b/2.md"], "has no sub-folders with texts"),
        (["a/1.txt", "a/2.txt"], "has texts of one class only, 'a'"),
    ],
)
def test_folders_that_teach_nothing_are_refused(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        find_examples(write(tmp_path, *names), is_text, "texts")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="no-such is no folder: give one with a sub-folder of texts"):
        find_examples(tmp_path / "no-such", is_text, "texts")


def test_a_fifth_is_tested_on_and_a_tenth_of_the_rest_validates_in_each_class():
    splits, labels, notes = split_examples(examples_of(a=50, b=10), 0, "texts")
    assert labels == ("a", "b")
    assert not notes
    assert labels_by_split(splits) == {
        "train": ["a"] * 36 + ["b"] * 7,
        "validation": ["a"] * 4 + ["b"],
        "test": ["a"] * 10 + ["b"] * 2,
    }
    assert len({example.path for part in splits.values() for example in part}) == 60


def test_the_seed_chooses_the_splits():
    def test_split(seed):
        return split_examples(examples_of(a=30, b=30), seed, "texts")[0]["test"]

    assert test_split(0) == test_split(0) != test_split(1)


def test_groups_stay_together():
    from pathlib import Path

    examples = [Example(Path(f"{label}/{g}-{n}"), label, f"g{g}") for label in "ab" for g in range(8) for n in range(4)]
    splits, _, _ = split_examples(examples, 0, "clips")
    groups = {name: {(e.label, e.group) for e in part} for name, part in splits.items()}
    assert {name: len(part) for name, part in groups.items()} == {"train": 10, "validation": 2, "test": 4}
    assert len(set.union(*groups.values())) == 16
    assert {name: len(part) for name, part in splits.items()} == {"train": 40, "validation": 8, "test": 16}


@pytest.mark.parametrize("given", [("train", "test"), ("train", "validation")])
def test_validation_is_taken_from_training_where_only_two_splits_are_given(given):
    from dataclasses import replace

    first, second = (
        [replace(example, split=split) for example in examples_of(a=size, b=size)]
        for split, size in zip(given, (20, 5), strict=True)
    )
    splits, _, notes = split_examples(first + second, 0, "texts")
    assert {name: len(part) for name, part in splits.items()} == {"train": 36, "validation": 4, "test": 10}
    assert {example.path for example in splits["test"]} == {example.path for example in second}
    assert bool(notes) == (given[1] == "validation")


def test_a_class_that_is_too_small_is_named():
    with pytest.raises(DataError, match=r"class 'b' has 2 texts to learn from: at least 3 are needed, because some"):
        split_examples(examples_of(a=9, b=2), 0, "texts")


def test_a_class_that_is_only_in_the_test_is_refused():
    from pathlib import Path

    examples = [Example(Path("a/1"), "a", split="train"), Example(Path("a/4"), "a", split="train")]
    with pytest.raises(DataError, match="class 'b' has 0 texts to learn from"):
        split_examples([*examples, Example(Path("b/2"), "b", split="test")], 0, "texts")
