from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.texts.own import class_names, divide, read_texts


def write_csv(path, rows, head="text,label", encoding="utf-8"):
    path.write_text("\n".join([head, *rows]) + "\n", encoding=encoding)
    return path


def write_folder(root, texts):
    """Writes texts by the path of their file."""
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


@pytest.fixture
def acl_imdb(tmp_path):
    """The layout of the original IMDB files, with what lies beside the texts."""
    texts = {"README": "read me", "imdb.vocab": "the", "train/urls_pos.txt": "http", "train/labeledBow.feat": "9 0:9"}
    for split, count in (("train", 20), ("test", 6)):
        for name in ("pos", "neg"):
            texts |= {
                f"{split}/{name}/{n}_{9 if name == 'pos' else 1}.txt": f"{split} {name} {n}" for n in range(count)
            }
    texts |= {f"train/unsup/{n}_0.txt": f"unsup {n}" for n in range(5)}
    return write_folder(tmp_path / "aclImdb", texts)


def test_a_given_division_is_kept_and_validation_comes_from_training(acl_imdb):
    data = load_task("text").data(load_task("text").setup(source=acl_imdb))
    texts = data.extra["texts"]
    assert {split: len(some) for split, some in texts.items()} == {"train": 36, "validation": 4, "test": 12}
    assert all(text.startswith("train") for text in texts["train"] + texts["validation"])
    assert all(text.startswith("test") for text in texts["test"])
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(data.splits[split].y, ["pos" in text for text in texts[split]])
    (note,) = data.notes
    assert note.endswith(f"unsup is left out: there is no folder of that name in {acl_imdb / 'test'}.")


def test_a_given_validation_split_is_kept(tmp_path):
    texts = {f"{split}/{name}/{n}.txt": f"{split} {name} {n}" for split in ("train", "val", "test") for name in "ab"
             for n in range(3)}  # fmt: skip
    data = load_task("text").data(load_task("text").setup(source=write_folder(tmp_path, texts)))
    assert all(text.startswith("val") for text in data.extra["texts"]["validation"])
    assert [len(split) for split in data.splits.values()] == [6, 6, 6]


def test_a_table_is_divided_by_the_seed_each_class_alike(tmp_path):
    path = write_csv(tmp_path / "t.csv", [f"text number {n},{'yes' if n % 4 else 'no'}" for n in range(200)])
    task = load_task("text")
    data, again, other = (task.data(task.setup(source=path, seed=seed)) for seed in (0, 0, 1))
    assert data.labels == ("no", "yes")
    assert [len(split) for split in data.splits.values()] == [144, 16, 40]
    assert [int(split.y.sum()) for split in data.splits.values()] == [108, 12, 30]
    assert data.extra["texts"] == again.extra["texts"]
    assert data.extra["texts"] != other.extra["texts"]
    assert sorted(itertools.chain(*data.extra["texts"].values())) == sorted(f"text number {n}" for n in range(200))
    for split in ("train", "validation", "test"):
        expected = [int(text.split()[-1]) % 4 > 0 for text in data.extra["texts"][split]]
        np.testing.assert_array_equal(data.splits[split].y, expected)


def test_the_columns_may_have_other_names(tmp_path):
    path = write_csv(tmp_path / "t.csv", [f"{n % 2};one {n}" for n in range(20)], head="stars;review")
    own = read_texts(path, "review", "stars")
    assert own.texts[:2] == ("one 0", "one 1")
    assert class_names(own, path) == ("0", "1")


def test_a_missing_column_is_named(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["a,1"], head="review,label")
    with pytest.raises(DataError, match=r"has no column 'text'\. Its columns are review, label"):
        read_texts(path, "text", "label")


@pytest.mark.parametrize(
    "labels, names",
    [
        (("1", "0"), ("0", "1")),
        (("10", "9"), ("9", "10")),
        (("-1", "1"), ("-1", "1")),
        (("0.5", "0.25"), ("0.25", "0.5")),
        (("True", "False"), ("False", "True")),
        (("pos", "neg"), ("neg", "pos")),
    ],
)
def test_labels_are_ordered_as_numbers_or_as_words(tmp_path, labels, names):
    path = write_csv(tmp_path / "t.csv", [f"text {n},{labels[n % 2]}" for n in range(8)])
    assert class_names(read_texts(path, "text", "label"), path) == names


def test_numbers_beside_an_empty_cell_stay_whole_and_its_row_is_left_out_with_a_note(tmp_path):
    path = write_csv(tmp_path / "t.csv", [*(f"text {n},{n % 2}" for n in range(8)), "no label,", ",1"])
    own = read_texts(path, "text", "label")
    assert class_names(own, path) == ("0", "1")
    assert len(own.texts) == 8
    assert own.notes == ("2 rows have no text or label and are left out.",)


def test_texts_with_commas_quotes_and_line_breaks_stay_whole(tmp_path):
    path = write_csv(tmp_path / "t.csv", ['"good, ""very"" good\nindeed",1', "bad,0"])
    assert read_texts(path, "text", "label").texts == ('good, "very" good\nindeed', "bad")


def test_another_encoding_is_read_and_noted(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["schön,1", "öde,0"], encoding="cp1252")
    own = read_texts(path, "text", "label")
    assert own.texts == ("schön", "öde")
    assert "was read as cp1252" in own.notes[0]
    folder = write_folder(tmp_path / "f", {"a/1.txt": "schön".encode("cp1252"), "b/1.txt": "öde", "b/2.TXT": "flau"})
    own = read_texts(folder, "", "")
    assert own.texts == ("schön", "öde", "flau")
    assert own.notes == ("1 file is not in UTF-8: save them so if letters look wrong.",)


def test_repeated_and_empty_texts_are_left_out_with_a_note(tmp_path):
    folder = write_folder(tmp_path, {"a/1.txt": "one", "a/2.txt": "one\n", "b/1.txt": "two", "b/2.txt": " \n"})
    own = read_texts(folder, "", "")
    assert (own.texts, own.labels) == (("one", "two"), ("a", "b"))
    assert own.notes == ("1 text is empty and left out.", "1 text is a repetition and left out.")


def test_a_text_of_the_test_split_is_not_learnt_from(tmp_path):
    texts = {f"{split}/{name}/{n}.txt": f"{split} {name} {n}" for split in ("train", "test") for name in "ab"
             for n in range(4)}  # fmt: skip
    texts["train/a/0.txt"] = texts["test/a/3.txt"]
    own = read_texts(write_folder(tmp_path, texts), "", "")
    assert [own.splits[n] for n, text in enumerate(own.texts) if text == "test a 3"] == ["test"]


@pytest.mark.parametrize(
    "texts, message",
    [
        ({"readme.txt": "no folder"}, "needs one sub-folder for each class with .txt files in it, and has none"),
        ({"a/1.md": "x"}, "needs one sub-folder for each class with .txt files in it, and has none"),
        ({"a/1.txt": "", "b/1.txt": " "}, "There are no texts in"),
        ({"a/1.txt": "one", "a/2.txt": "two"}, "are of one class, 'a': at least two are needed"),
        ({"a/1.txt": "one", "b/1.txt": "two"}, r"The class 'a' in .* has 1 text: each needs at least 3"),
        ({"a/1.txt": b"\x00\x01", "b/1.txt": "two"}, r"1\.txt: it holds binary data, not text"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path, texts, message):
    with pytest.raises(DataError, match=message):
        class_names(read_texts(write_folder(tmp_path, texts), "", ""), tmp_path)


def test_a_class_without_training_texts_is_refused(tmp_path):
    texts = {f"train/{name}/{n}.txt": f"train {name} {n}" for name in "ab" for n in range(3)}
    texts |= {f"test/{name}/{n}.txt": f"test {name} {n}" for name in "abc" for n in range(3)}
    own = read_texts(write_folder(tmp_path, texts), "", "")
    with pytest.raises(DataError, match=r"test split .* has texts of 'c', and there are none of them to learn from"):
        divide(own, own.labels, 0, tmp_path)


def test_three_texts_of_a_class_go_into_the_three_splits(tmp_path):
    path = write_csv(tmp_path / "t.csv", [f"text {n},{n % 2}" for n in range(6)])
    own = read_texts(path, "text", "label")
    splits = divide(own, own.labels, 0, path)
    assert [sorted(own.labels[index] for index in indices) for indices in splits.values()] == [["0", "1"]] * 3


def test_texts_of_unknown_words_are_noted(tmp_path):
    rows = [f"{chr(0x4E00 + n)}{chr(0x5E00 + n)},{n % 2}" for n in range(40)]
    data = load_task("text").data(load_task("text").setup(source=write_csv(tmp_path / "t.csv", rows)))
    assert data.notes[0].startswith("100% of the words in the validation texts are not among the 10000")


def test_texts_that_are_cut_are_noted(tmp_path):
    path = write_csv(tmp_path / "t.csv", [f"{'many words ' * 5}{n},{n % 2}" for n in range(40)])
    data = load_task("text").data(load_task("text").setup(source=path, settings={"length": 6}))
    assert data.notes[0].startswith("100% of the training texts have 5 words or more, of which only the first 5 are")


def test_an_impossible_size_is_refused(tmp_path):
    task = load_task("text")
    with pytest.raises(SettingError, match="length=1: the start id and at least one word need 2"):
        task.data(task.setup(settings={"length": 1}))
    with pytest.raises(SettingError, match="vocabulary_size=3: the three special words alone need 3"):
        task.data(task.setup(settings={"vocabulary_size": 3}))
