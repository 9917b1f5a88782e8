from __future__ import annotations

import re

import numpy as np
import pytest

from edgelstm.errors import LoadError, OutputError
from edgelstm.tasks.texts.vocabulary import PADDING, SPECIAL_WORDS, START, UNKNOWN, Vocabulary, split_words


@pytest.fixture
def vocabulary():
    return Vocabulary.from_texts(["the plot was good", "The ending was good, too. Good!"], max_size=100)


@pytest.mark.parametrize(
    "text, words",
    [
        ("The plot; wasn't BAD!", ["the", "plot", "wasn't", "bad"]),
        ("wasn\u2019t", ["wasn't"]),
        ("  één\tcafé\n2 ", ["één", "café", "2"]),
        ("...", []),
    ],
)
def test_a_text_splits_at_what_is_no_word(text, words):
    assert split_words(text) == words


def test_frequent_words_come_first_and_ties_in_alphabetical_order(vocabulary):
    assert vocabulary.words == (*SPECIAL_WORDS, "good", "the", "was", "ending", "plot", "too")


def test_the_vocabulary_keeps_to_its_size():
    vocabulary = Vocabulary.from_texts(["a a a b b c"], max_size=5)
    assert vocabulary.words[3:] == ("a", "b")
    assert len(vocabulary) == 5


def test_known_words_survive_the_round_trip(vocabulary):
    (ids,) = vocabulary.encode(["The ending, too, was GOOD."], length=10)
    assert vocabulary.decode(ids) == "the ending too was good"


def test_ids_begin_with_the_start_mark_unknown_words_and_end_with_padding(vocabulary):
    ids = vocabulary.encode(["the zebra was good", ""], length=7)
    the, was, good = (vocabulary.words.index(word) for word in ("the", "was", "good"))
    assert (ids.dtype, ids.shape) == (np.int32, (2, 7))
    np.testing.assert_array_equal(ids, [[START, the, UNKNOWN, was, good, PADDING, PADDING], [START] + 6 * [PADDING]])


def test_special_words_in_a_text_are_not_special(vocabulary):
    np.testing.assert_array_equal(vocabulary.encode(["<PAD> <START>"], length=3), [[START, UNKNOWN, UNKNOWN]])


def test_a_long_text_is_cut_at_its_end(vocabulary):
    (ids,) = vocabulary.encode(["the plot was good"], length=3)
    assert vocabulary.decode(ids) == "the plot"


def test_no_texts_make_no_rows(vocabulary):
    assert vocabulary.encode([], length=4).shape == (0, 4)


def test_one_text_instead_of_a_list_is_refused(vocabulary):
    with pytest.raises(TypeError, match=r"takes a list of texts, but one text came\. Put it into a list"):
        vocabulary.encode("the plot", length=4)


def test_what_is_no_text_is_refused(vocabulary):
    with pytest.raises(TypeError, match="Text 1 is of type NoneType, only str can be encoded"):
        vocabulary.encode(["the plot", None], length=4)


def test_a_length_without_room_for_a_word_is_refused(vocabulary):
    with pytest.raises(ValueError, match="length=1: the start id and at least one word need 2"):
        vocabulary.encode(["the plot"], length=1)


@pytest.mark.parametrize("outside", [-1, 9])
def test_an_id_outside_the_vocabulary_is_refused(vocabulary, outside):
    with pytest.raises(ValueError, match=f"Id {outside} is outside the vocabulary, which has the ids 0 to 8"):
        vocabulary.decode([1, outside])


def test_a_size_without_room_for_a_word_is_refused():
    with pytest.raises(ValueError, match="max_size=3: the three special words alone need 3"):
        Vocabulary.from_texts(["a"], max_size=3)


def test_words_without_the_special_ones_are_refused():
    with pytest.raises(ValueError, match=r"begins with the words <PAD>, <START>, <UNKNOWN>, not \['a', 'b'\]"):
        Vocabulary(["a", "b"])


def test_a_repeated_word_is_refused():
    with pytest.raises(ValueError, match="The word 'a' stands in the vocabulary twice"):
        Vocabulary([*SPECIAL_WORDS, "a", "b", "a"])


def test_the_file_is_plain_text_and_reads_back(vocabulary, tmp_path):
    path = tmp_path / "vocabulary.txt"
    vocabulary.save(path)
    assert path.read_text(encoding="utf-8").splitlines()[:4] == ["<PAD> 0", "<START> 1", "<UNKNOWN> 2", "good 3"]
    assert Vocabulary.load(path).words == vocabulary.words
    assert list(tmp_path.iterdir()) == [path]


def test_words_with_separators_of_lines_read_back(tmp_path):
    words = (*SPECIAL_WORDS, "\x85", "caf\u2028e", "good")
    Vocabulary(words).save(tmp_path / "vocabulary.txt")
    assert Vocabulary.load(tmp_path / "vocabulary.txt").words == words


def test_a_missing_folder_is_said_and_nothing_is_left(vocabulary, tmp_path):
    path = tmp_path / "missing" / "vocabulary.txt"
    with pytest.raises(OutputError, match=f"Cannot write the vocabulary {re.escape(str(path))}: No such file"):
        vocabulary.save(path)


def test_a_folder_in_the_way_is_said_and_no_temporary_file_is_left(vocabulary, tmp_path):
    path = tmp_path / "vocabulary.txt"
    path.mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        vocabulary.save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(LoadError, match=r"Cannot read the vocabulary .*missing\.txt"):
        Vocabulary.load(tmp_path / "missing.txt")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<PAD> 0\n<START> 1\n<UNKNOWN> 7\n", r"line 3: 'word 2' is expected, '<UNKNOWN> 7' stands there"),
        (b"good\nbad\n", r"line 1: 'word 0' is expected, 'good' stands there"),
        (b"a 0\nb 1\n", "is not a vocabulary: A vocabulary begins with"),
        (b"", "is not a vocabulary: A vocabulary begins with"),
        (b"\xff\xfe\x00", "Cannot read the vocabulary"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path, content, message):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=message):
        Vocabulary.load(path)
