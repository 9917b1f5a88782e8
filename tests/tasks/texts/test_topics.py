from __future__ import annotations

import itertools
import re

import pytest

from edgelstm.tasks.texts.topics import (
    AFFIRMED,
    DENIED,
    DOUBLES,
    PAIRS,
    SYNONYMS,
    TOPICS,
    doubles,
    is_kept_back,
    write_notes,
    write_tagged_notes,
)
from edgelstm.tasks.texts.vocabulary import split_words


@pytest.fixture(scope="module")
def train():
    return write_notes(2000, seed=0)


@pytest.fixture(scope="module")
def test():
    return write_notes(1000, seed=0, for_test=True)


@pytest.fixture(scope="module")
def tagged():
    return write_tagged_notes(2000, seed=0)


def phrases():
    """Returns every phrase by its text: the topic, and whether it is kept for the test split."""
    found = {}
    for topic, (heads, things) in TOPICS.items():
        for head, thing in itertools.product(heads, things):
            for pattern in PAIRS:
                found[pattern.format(head=head, thing=thing)] = topic, is_kept_back(topic, head, thing)
        for head, other in doubles(topic):
            for pattern in DOUBLES:
                found[pattern.format(head=head, other=other)] = topic, is_kept_back(topic, head, other)
    return found


PHRASES = phrases()


PHRASE = r"(the \w+ (?:of the|and its|and the) \w+|this \w+ for the \w+|a \w+ next to some \w+)"


def phrases_in(text):
    return [PHRASES[phrase] for phrase in re.findall(PHRASE, text)]


def test_no_phrase_belongs_to_two_topics():
    count = sum(len(heads) * len(things) * 3 for heads, things in TOPICS.values())
    count += sum(len(doubles(topic)) * 2 for topic in TOPICS)
    assert len(PHRASES) == count


def test_two_nouns_in_front_stand_together_only_where_one_topic_has_both():
    assert ("score", "tour") in doubles("music")
    assert ("score", "record") not in doubles("music")  # sport has both, too
    assert ("record", "track") not in doubles("sport")


def test_most_nouns_in_front_belong_to_several_topics():
    heads = [head for heads, _ in TOPICS.values() for head in heads]
    assert all(heads.count(head) > 1 for head in heads)


@pytest.mark.parametrize("write", [write_notes, write_tagged_notes])
def test_the_same_seed_writes_the_same_notes_and_another_one_others(write):
    assert write(100, seed=0) == write(100, seed=0)
    assert not {note.text for note in write(100, seed=0)} & {note.text for note in write(100, seed=1)}


@pytest.mark.parametrize("write", [write_notes, write_tagged_notes])
def test_no_note_occurs_twice_or_in_both_splits(write):
    texts = [note.text for note in write(2000, seed=0) + write(1000, seed=0, for_test=True)]
    assert len(set(texts)) == 3000


@pytest.mark.parametrize("write", [write_notes, write_tagged_notes])
def test_training_never_uses_what_is_kept_back_and_the_test_split_only_that(write):
    for for_test in (False, True):
        kept = [kept for note in write(500, seed=0, for_test=for_test) for _, kept in phrases_in(note.text)]
        assert len(kept) > 500
        assert set(kept) == {for_test}


def test_a_note_is_about_one_topic_and_all_topics_come_alike(train):
    counts = {topic: sum(note.topics == (topic,) for note in train) for topic in TOPICS}
    assert set(counts.values()) == {200}


@pytest.mark.parametrize(
    "pattern, place",
    [
        ("instead of {first} we talked about {second}", 1),
        ("we talked about {first} instead of {second}", 0),
        ("not {first} but {second} kept us busy", 1),
        ("{first}, not {second}, kept us busy", 0),
        ("forget {first}, today it is {second}", 1),
        ("today it is {first}, forget {second}", 0),
        ("i asked for {first} and all i got was {second}", 1),
        ("all i got was {first}, though i asked for {second}", 0),
        ("{first} can wait, {second} cannot", 1),
        ("{first} cannot wait, {second} can", 0),
    ],
)
def test_the_topic_is_what_a_reader_would_say(train, pattern, place):
    found = re.compile(r"(?:^|\. )" + pattern.format(first=PHRASE, second=PHRASE) + r"\.")
    matches = [(note, match) for note in train if (match := found.search(note.text))]
    assert len(matches) > 50
    for note, match in matches:
        topics = [PHRASES[text][0] for text in match.groups()]
        assert topics[0] != topics[1]
        assert note.topics == (topics[place],)


def test_tags_are_the_topics_that_are_affirmed(tagged):
    def topics_in(text, patterns):
        found = (re.findall(pattern.format(main=PHRASE), text) for pattern in patterns)
        return {PHRASES[each][0] for each in itertools.chain(*found)}

    num_denials = 0
    for note in tagged:
        text = note.text.replace("but nothing about", ". it says nothing about")
        text = text.replace("but a lot about", ". it says a lot about")
        affirmed, denied = topics_in(text, AFFIRMED), topics_in(text, DENIED)
        assert affirmed == set(note.topics)
        assert not affirmed & denied
        num_denials += bool(denied)
    assert num_denials > 1000


def test_notes_have_one_two_or_three_tags_equally_often(tagged):
    for count in (1, 2, 3):
        assert 0.28 < sum(len(note.topics) == count for note in tagged) / len(tagged) < 0.39


def test_lengths_are_those_of_a_few_sentences(train, tagged):
    assert max(len(split_words(note.text)) for note in train) < 45
    assert max(len(split_words(note.text)) for note in tagged) < 80


def test_every_word_of_the_test_split_is_seen_in_training(train, test):
    words = [set(itertools.chain(*(split_words(note.text) for note in notes))) for notes in (train, test)]
    assert words[1] <= words[0]


def test_synonyms_are_no_words_of_topics():
    words = set(itertools.chain(*(words for topic in TOPICS.values() for words in topic)))
    assert not words & set(itertools.chain(*SYNONYMS))
