from __future__ import annotations

import itertools
import re

import pytest

from edgelstm.tasks.texts.reviews import (
    ADJECTIVES,
    NEGATED,
    NEGATIVE,
    PLAIN,
    POSITIVE,
    STRENGTH,
    THINGS,
    TURNS,
    UNSEEN_NEGATED,
    UNSEEN_PLAIN,
    UNSEEN_TURNS,
    is_kept_back,
    write_reviews,
)
from edgelstm.tasks.texts.vocabulary import split_words


@pytest.fixture(scope="module")
def train():
    return write_reviews(1000, seed=0)


@pytest.fixture(scope="module")
def test():
    return write_reviews(1000, seed=0, for_test=True)


@pytest.fixture(scope="module")
def many():
    return write_reviews(30_000, seed=5)


def all_adjectives():
    return [word for strengths in ADJECTIVES.values() for group in strengths.values() for word in group]


def opinions_in(review):
    """Returns the pairs of thing and adjective in a review that stand in the pattern "the THING was ADJECTIVE"."""
    things, words = itertools.chain(*THINGS.values()), all_adjectives()
    return re.findall(rf"the ({'|'.join(things)}) (?:was|is) (?:\w+ )?({'|'.join(words)})\b", review.text)


def test_the_same_seed_writes_the_same_reviews(train):
    assert write_reviews(1000, seed=0) == train


def test_another_seed_writes_other_reviews(train):
    texts = {review.text for review in write_reviews(1000, seed=1)}
    assert len(texts & {review.text for review in train}) < 20


def test_both_classes_are_equally_frequent_in_every_part(train, test):
    for reviews in (train, test, train[:200], train[500:700]):
        assert sum(review.label for review in reviews) * 2 == len(reviews)


def test_no_review_occurs_twice_or_in_both_splits(train, test):
    assert len({review.text for review in train + test}) == 2000


def test_lengths_vary_from_5_to_60_words(train):
    lengths = [len(split_words(review.text)) for review in train]
    assert min(lengths) in range(5, 8)
    assert max(lengths) in range(50, 61)


def test_training_never_pairs_what_is_kept_back_and_the_test_split_only_that(train, test):
    train_pairs = {pair for review in train for pair in opinions_in(review)}
    test_pairs = {pair for review in test for pair in opinions_in(review)}
    assert len(train_pairs) > 200
    assert len(test_pairs) > 80
    assert not any(is_kept_back(*pair) for pair in train_pairs)
    assert all(is_kept_back(*pair) for pair in test_pairs)


def test_every_adjective_is_seen_in_training(train):
    words = set(itertools.chain(*(split_words(review.text) for review in train)))
    assert words.issuperset(all_adjectives())


def test_one_pair_in_five_is_kept_back_for_every_adjective():
    for adjective in all_adjectives():
        for things in THINGS.values():
            assert sum(is_kept_back(thing, adjective) for thing in things) == len(things) / 5


def test_the_unseen_patterns_are_not_among_the_seen_ones():
    assert not set(UNSEEN_PLAIN + UNSEEN_NEGATED) & set(PLAIN + NEGATED)
    assert not set(UNSEEN_TURNS) & set(TURNS + STRENGTH)


def test_unseen_patterns_and_turns_are_marked(train, test):
    assert not any(review.has_unseen_pattern for review in train)
    assert 0.3 < sum(review.has_unseen_pattern for review in test) / 1000 < 0.5
    assert 0.5 < sum(review.has_turn for review in train) / 1000 < 0.8
    although = [review for review in train if review.text.startswith(("although", "even though"))]
    assert although
    assert all(review.has_turn for review in although)


@pytest.mark.parametrize(
    "sentence, label",
    [
        ("the THING was not MILD_BAD", 1),
        ("the THING was not MILD_GOOD", 0),
        ("the THING is STRONG_GOOD", 1),
        ("the THING is STRONG_BAD", 0),
        ("i cannot say that the THING was not MILD_GOOD", 1),
        ("although [^.]*, the THING is hardly MILD_BAD", 1),
        ("the THING was not MILD_GOOD, although [^.]*", 0),
        ("the THING is MILD_GOOD, even though [^.]*", 1),
        ("[^.]*, but the THING was not MILD_GOOD", 0),
        ("however, the THING is MILD_BAD", 0),
        ("people say that the THING is STRONG_GOOD, but they are wrong", 0),
        ("people say that the THING is STRONG_BAD, and they are right", 0),
        ("i had heard that the THING was STRONG_BAD, which is not true", 1),
        ("the THING was fairly MILD_BAD and the THING was absolutely STRONG_GOOD", 1),
        ("the THING was absolutely STRONG_BAD and the THING was somewhat MILD_GOOD", 0),
    ],
)
def test_the_label_is_what_a_reader_would_say(many, sentence, label):
    words = {"THING": itertools.chain(*THINGS.values())}
    for name, polarity in (("GOOD", POSITIVE), ("BAD", NEGATIVE)):
        words |= {f"{strength.upper()}_{name}": group for strength, group in ADJECTIVES[polarity].items()}
    for name, group in words.items():
        sentence = sentence.replace(name, f"(?:{'|'.join(group)})")
    # A sentence that the next one takes back says nothing by itself.
    pattern = re.compile(rf"(?:^|\. ){sentence}\.(?! however)")
    labels = [review.label for review in many if pattern.search(review.text)]
    assert len(labels) >= 3
    assert set(labels) == {label}


def test_fewer_than_two_reviews_are_refused():
    with pytest.raises(ValueError, match="num_reviews=1: at least 2 reviews are needed, one of each class"):
        write_reviews(1, seed=0)
