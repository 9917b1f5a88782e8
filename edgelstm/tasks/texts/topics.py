"""Short English notes on ten topics, made from a seed, with the topic, or the topics, that a reader would name.

A topic is spoken of by phrases such as "the score of the band". What makes them worth reading to the end:

- *Shared words*: most nouns in front belong to several topics: "the score of the match", "the score of the band". In
  "the score and the tour" both do, and only music has both of them.
- *Side topics*: "instead of the match we talked about the soup", "we talked about the soup instead of the match": both
  topics are named by the same words, and the order says which one the note is about. Notes with several topics say
  what they are not about: "no word on the match".
- *Surroundings*: "i wrote it on the ferry", "the doctor next door read it to me" speak of no topic.

Notes for the test split are made of phrases that training never sees: one pair of words in five is kept back for it.
"""

from __future__ import annotations

import dataclasses
import itertools
import random

# By topic: nouns that stand in front, most of them in several topics, and what they belong to.
TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cooking": (
        ("stock", "roll", "plate", "shot", "scale", "season", "table", "mix"),
        ("soup", "oven", "chef", "dinner", "dough", "sauce", "menu", "kitchen"),
    ),
    "finance": (
        ("stock", "share", "bill", "crash", "rate", "note", "bond", "charge"),
        ("bank", "loan", "investor", "budget", "insurer", "currency", "broker", "market"),
    ),
    "health": (
        ("tablet", "virus", "shot", "pressure", "rate", "trial", "cold", "share"),
        ("patient", "nurse", "clinic", "doctor", "heart", "vaccine", "surgeon", "ward"),
    ),
    "music": (
        ("score", "record", "track", "note", "tour", "key", "mix", "scale"),
        ("band", "singer", "choir", "album", "concert", "piano", "orchestra", "stage"),
    ),
    "politics": (
        ("race", "party", "seat", "bill", "front", "charge", "bond", "table"),
        ("senate", "mayor", "council", "campaign", "treaty", "minister", "election", "parliament"),
    ),
    "science": (
        ("trial", "cell", "mouse", "plate", "scale", "charge", "record", "model"),
        ("laboratory", "microscope", "comet", "telescope", "fossil", "chemist", "planet", "experiment"),
    ),
    "sport": (
        ("score", "record", "race", "coach", "shot", "season", "track", "cup"),
        ("match", "runner", "league", "team", "keeper", "stadium", "goal", "referee"),
    ),
    "technology": (
        ("key", "virus", "tablet", "mouse", "cloud", "terminal", "crash", "model"),
        ("server", "laptop", "network", "password", "browser", "phone", "database", "program"),
    ),
    "travel": (
        ("terminal", "coach", "tour", "seat", "roll", "party", "cup", "cell"),
        ("airport", "hotel", "ferry", "passport", "train", "luggage", "island", "beach"),
    ),
    "weather": (
        ("cloud", "pressure", "front", "cold", "season", "rate", "crash", "mix"),
        ("rain", "wind", "coast", "snow", "sky", "thunder", "fog", "valley"),
    ),
}

PAIRS = ("the {head} of the {thing}", "the {thing} and its {head}", "this {head} for the {thing}")
DOUBLES = ("the {head} and the {other}", "a {head} next to some {other}")

ALONE = (
    "all we talked about was {main}",
    "i want to hear more of {main}",
    "everybody in the room asked for {main}",
    "this is what they said on {main}",
)
# {main} is what the note is about; every pattern has one of the opposite order.
WITH_SIDE = (
    "instead of {side} we talked about {main}",
    "we talked about {main} instead of {side}",
    "not {side} but {main} kept us busy",
    "{main}, not {side}, kept us busy",
    "forget {side}, today it is {main}",
    "today it is {main}, forget {side}",
    "i asked for {side} and all i got was {main}",
    "all i got was {main}, though i asked for {side}",
    "{side} can wait, {main} cannot",
    "{main} cannot wait, {side} can",
)
AFFIRMED = (
    "it says a lot about {main}",
    "there is news on {main}",
    "{main} took up a whole page",
    "i liked what it says on {main}",
)
DENIED = (
    "it says nothing about {main}",
    "there is no news on {main}",
    "there was no mention of {main}",
    "i missed a word on {main}",
)
JOINED = ("it says a lot about {main} but nothing about {side}", "it says nothing about {side} but a lot about {main}")

SURROUNDINGS = (
    "i wrote it on the {place}",
    "the {person} next door read it to me",
    "we had the note on our table",
    "my brother sent it to his {person}",
    "it came with the bill for the {place}",
    "there was no time for more",
    "please share it with all of us",
    "the {person} said that it was not about me",
)
PLACES = ("ferry", "train", "beach", "stage", "coast", "phone")
PERSONS = ("doctor", "chef", "singer", "chemist", "minister", "runner", "broker")


@dataclasses.dataclass(frozen=True)
class Note:
    """One note.

    Attributes:
        text: What was written, lower case with punctuation.
        topics: The topics it is about, in the order of the alphabet.
    """

    text: str
    topics: tuple[str, ...]


def is_kept_back(topic: str, head: str, other: str) -> bool:
    """Says whether this pair of words of a topic is kept for the test split: one in five.

    Args:
        topic: The topic.
        head: A noun that stands in front.
        other: Another one, or what it belongs to.
    """
    words = [*itertools.chain(*TOPICS[topic])]
    return (words.index(head) + words.index(other)) % 5 == 0


def doubles(topic: str) -> list[tuple[str, str]]:
    """Pairs of nouns in front that only this topic has both of."""
    heads = TOPICS[topic][0]
    others = [set(each) for name, (each, _) in TOPICS.items() if name != topic]
    return [pair for pair in itertools.permutations(heads, 2) if not any(set(pair) <= some for some in others)]


class _Writer:
    """Writes notes of one split from one stream of random numbers."""

    def __init__(self, generator: random.Random, *, for_test: bool) -> None:
        self._random = generator
        # By topic: nouns in front with what they belong to, and pairs of nouns in front.
        self._pairs, self._doubles = (
            {topic: [pair for pair in pairs if is_kept_back(topic, *pair) == for_test] for topic, pairs in some.items()}
            for some in (
                {topic: [*itertools.product(*words)] for topic, words in TOPICS.items()},
                {topic: doubles(topic) for topic in TOPICS},
            )
        )

    def about_one(self, topic: str) -> Note:
        """Writes a note on one topic, three in four times with a side topic."""
        patterns = WITH_SIDE if self._random.random() < 0.75 else ALONE
        side = self._random.choice([name for name in TOPICS if name != topic])
        sentence = self._random.choice(patterns).format(main=self._phrase(topic), side=self._phrase(side))
        return self._note([sentence], (topic,))

    def about_some(self, topics: tuple[str, ...]) -> Note:
        """Writes a note on some topics, which says of up to two others that it is not about them."""
        rest = [name for name in TOPICS if name not in topics]
        sides = self._random.sample(rest, self._random.choice((0, 1, 1, 2)))
        sentences = []
        for topic in topics:
            if sides and self._random.random() < 0.4:
                pattern, side = self._random.choice(JOINED), sides.pop()
                sentences.append(pattern.format(main=self._phrase(topic), side=self._phrase(side)))
            else:
                sentences.append(self._random.choice(AFFIRMED).format(main=self._phrase(topic)))
        sentences += [self._random.choice(DENIED).format(main=self._phrase(side)) for side in sides]
        return self._note(sentences, topics)

    def _phrase(self, topic: str) -> str:
        if self._random.random() < 0.25:
            head, other = self._random.choice(self._doubles[topic])
            return self._random.choice(DOUBLES).format(head=head, other=other)
        head, thing = self._random.choice(self._pairs[topic])
        return self._random.choice(PAIRS).format(head=head, thing=thing)

    def _note(self, sentences: list[str], topics: tuple[str, ...]) -> Note:
        around = self._random.sample(SURROUNDINGS, self._random.choice((0, 1, 2)))
        sentences = sentences + [
            each.format(place=self._random.choice(PLACES), person=self._random.choice(PERSONS)) for each in around
        ]
        self._random.shuffle(sentences)
        return Note(". ".join(sentences) + ".", tuple(sorted(topics)))


def write_notes(num_notes: int, seed: int, *, for_test: bool = False) -> list[Note]:
    """Writes different notes on one topic each, all topics in turn.

    Args:
        num_notes: How many.
        seed: The same seed writes the same notes.
        for_test: Use the pairs of words that are kept back for the test split.
    """
    writer = _Writer(random.Random(f"topics {seed} {for_test}"), for_test=for_test)
    names, notes = tuple(TOPICS), dict[str, Note]()
    while len(notes) < num_notes:
        note = writer.about_one(names[len(notes) % len(names)])
        notes.setdefault(note.text, note)
    return list(notes.values())


def write_tagged_notes(num_notes: int, seed: int, *, for_test: bool = False) -> list[Note]:
    """Writes different notes on one to three topics; arguments are those of `write_notes`."""
    generator = random.Random(f"tags {seed} {for_test}")
    writer = _Writer(generator, for_test=for_test)
    notes: dict[str, Note] = {}
    while len(notes) < num_notes:
        note = writer.about_some(tuple(generator.sample(tuple(TOPICS), generator.choice((1, 2, 3)))))
        notes.setdefault(note.text, note)
    return list(notes.values())


SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("said", "wrote"),
    ("everybody", "everyone"),
    ("forget", "skip"),
    ("room", "house"),
    ("brother", "sister"),
    ("page", "sheet"),
)
"""Words that may stand for each other. No words of topics: others would make pairs kept for the test split."""
