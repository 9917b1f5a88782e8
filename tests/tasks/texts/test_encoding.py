from __future__ import annotations

import numpy as np
import pytest

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Split
from edgelstm.tasks.texts.encoding import Synonyms, augment_texts, bag_of_words, read_synonyms
from edgelstm.tasks.texts.reviews import ADJECTIVES, SYNONYMS, THINGS
from edgelstm.tasks.texts.vocabulary import PADDING, SPECIAL_WORDS, START, UNKNOWN, Vocabulary

SMALL = {"num_train": 400, "num_validation": 16, "num_test": 16}


def varied(seed=0, **settings):
    """Returns the ids of training texts, the same varied, the data and y as the model is taught it."""
    task = load_task("text")
    setup = task.setup(settings={**SMALL, **settings})
    data = task.data(setup)
    examples = data.train.take(np.arange(len(data.train)))
    before = examples.x["ids"].copy()
    after = task.augment(examples, np.random.default_rng(seed), setup)
    np.testing.assert_array_equal(examples.x["ids"], before)  # the training split itself stays as it is
    np.testing.assert_array_equal(after.y, data.train.y)
    assert (after.x["ids"].shape, after.x["ids"].dtype) == (before.shape, np.int32)
    return before, after.x["ids"], data


def test_by_default_nothing_is_varied():
    before, after, _ = varied()
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("settings", [{"word_dropout": 0.3}, {"synonyms": 0.5}, {"crop": True, "length": 12}])
def test_the_same_generator_varies_alike_and_another_one_otherwise(settings):
    first, again, other = (varied(seed, **settings)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_word_dropout_makes_a_share_of_the_words_unknown_and_spares_start_and_padding():
    before, after, _ = varied(word_dropout=0.3)
    words = before > UNKNOWN
    assert (after[words] == UNKNOWN).mean() == pytest.approx(0.3, abs=0.02)
    kept = ~words | (after != UNKNOWN)
    np.testing.assert_array_equal(after[kept], before[kept])


def test_synonyms_replace_a_share_of_the_words_that_have_any():
    before, after, data = varied(synonyms=0.5)
    words = data.files["vocabulary.txt"].words
    groups = {word: set(group) for group in SYNONYMS for word in group}
    has_synonyms = np.isin(before, [index for index, word in enumerate(words) if word in groups])
    changed = before != after
    assert not (changed & ~has_synonyms).any()
    assert changed[has_synonyms].mean() == pytest.approx(0.5, abs=0.05)
    for old, new in zip(before[changed], after[changed], strict=True):
        assert words[new] in groups[words[old]]


def test_every_synonym_is_chosen_equally_often():
    vocabulary = Vocabulary([*SPECIAL_WORDS, "film", "movie", "picture", "plot"])
    synonyms = Synonyms.of([("film", "movie", "picture", "cinema")], vocabulary)
    np.testing.assert_array_equal(synonyms.counts, [0, 0, 0, 2, 2, 2, 0])
    task = load_task("text")
    setup = task.setup(settings={"synonyms": 0.9})
    examples = type(varied()[2].train)({"ids": np.full((100, 60), 3, np.int32)}, np.zeros(100), None, synonyms)
    after = augment_texts(examples, np.random.default_rng(0), setup).x["ids"]
    shares = np.bincount(after.ravel(), minlength=7) / after.size
    np.testing.assert_allclose(shares, [0, 0, 0, 0.1, 0.45, 0.45, 0], atol=0.02)


def test_synonyms_of_the_reviews_make_no_opinions_that_are_kept_for_the_test():
    adjectives = {word for strengths in ADJECTIVES.values() for group in strengths.values() for word in group}
    things = {word for group in THINGS.values() for thing in group for word in thing.split()}
    assert not {word for group in SYNONYMS for word in group} & (adjectives | things)


def test_crop_shows_windows_of_long_texts_and_leaves_short_ones():
    before, after, data = varied(crop=True, length=12)
    vocabulary, texts = data.files["vocabulary.txt"], data.extra["texts"]["train"]
    starts = []
    for row, text in enumerate(texts):
        (whole,) = vocabulary.encode([text], 48)
        whole = whole[whole != PADDING]
        if len(whole) <= 12:
            np.testing.assert_array_equal(after[row], before[row])
            continue
        assert after[row, 0] == START
        windows = [whole[first + 1 : first + 12].tolist() for first in range(len(whole) - 11)]
        assert after[row, 1:].tolist() in windows
        starts.append(windows.index(after[row, 1:].tolist()) / (len(windows) - 1))
    assert len(starts) > 200
    assert np.quantile(starts, [0, 0.5, 1]) == pytest.approx([0, 0.5, 1], abs=0.1)


def test_scores_come_from_the_beginning_of_texts_with_crop_too():
    task = load_task("text")
    cropped, plain = (task.data(task.setup(settings={**SMALL, "crop": crop, "length": 12})) for crop in (True, False))
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(cropped.splits[split].x["ids"], plain.splits[split].x["ids"])


def test_a_file_of_synonyms_is_read(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text("film, Movie,picture\n\nbad,awful\n", encoding="utf-8")
    assert read_synonyms(path) == [("film", "movie", "picture"), ("bad", "awful")]
    before, after, data = varied(synonyms=0.9, synonyms_file=str(path))
    words = data.files["vocabulary.txt"].words
    changed = before != after
    assert {words[index] for index in after[changed]} == {"bad", "awful"}


@pytest.mark.parametrize(
    "content, message",
    [
        ("film, movie\nalone\n", r"Line 2 of .* must be two or more single words separated by commas, not 'alone'"),
        ("film, motion picture", "Line 1 of .* must be two or more single words"),
        ("film,,movie", "Line 1 of .* must be two or more single words"),
        ("\n", "has no synonyms: write one group a line"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, message):
    path = tmp_path / "synonyms.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_synonyms(path)


def test_texts_of_the_user_need_a_file_of_synonyms(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(9)), encoding="utf-8")
    task = load_task("text")
    with pytest.raises(DataError, match="come without synonyms: name a file of them with the setting synonyms_file"):
        task.data(task.setup(source=path, settings={"synonyms": 0.1}))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"word_dropout": 1.0}, "'word_dropout' must be a share from 0 to below 1, not 1.0"),
        ({"synonyms": -0.1}, "'synonyms' must be a share from 0 to below 1, not -0.1"),
        ({"synonyms_file": "words.txt"}, "'synonyms_file' does nothing while synonyms is 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        varied(**settings)


def test_a_bag_of_words_counts_words_without_their_order():
    generator = np.random.default_rng(0)
    ids = generator.integers(3, 30, (300, 10)).astype(np.int32)
    some, order = (ids == 7).any(axis=1).astype(np.int32), (ids[:, 1] > ids[:, 2]).astype(np.int32)
    splits = {
        name: (Split({"ids": ids[:200]}, y[:200]), Split({"ids": ids[200:]}, y[200:]))
        for name, y in (("some", some), ("order", order), ("tags", np.stack([some, order, 0 * some], axis=1)))
    }
    right = {name: (bag_of_words(*pair) > 0.5) == pair[1].y.reshape(100, -1) for name, pair in splits.items()}
    assert right["some"].mean() > 0.95
    assert right["order"].mean() < 0.7
    np.testing.assert_array_equal(right["tags"][:, :2], np.concatenate([right["some"], right["order"]], axis=1))
    assert right["tags"][:, 2].all()
