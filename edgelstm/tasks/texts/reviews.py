"""Short English reviews of films and products, made from a seed, with the sentiment a reader would give them.

A review is a few sentences: neutral remarks and one or two opinions. What makes the label worth learning:

- *Negation*: "the plot was not bad at all", "nobody could call the ending good", even twice in one clause; half of all
  clauses are negated, and neutral remarks contain "not" and "never" too.
- *Turns*: "although the acting was dull, the ending was wonderful". Both clauses carry sentiment, the main clause
  decides, and it comes before or after the other ("the ending was wonderful, although the acting was dull").
- *Hearsay*: "people say that the sound is awful, but they are wrong".
- *Strength*: "the screen was fairly dull and the sound was absolutely superb": the strong word decides.
- Sentiment words without sentiment: "the good brother and the bad brother meet in the second act".

Reviews for the test split are made of word combinations that training never sees: one pair of thing and adjective in
five is kept back, and test opinions use only such pairs. So no opinion of the test split stands in the training split,
and more than a third of the test opinions use a sentence pattern that training never sees.
"""

from __future__ import annotations

import dataclasses
import random

POSITIVE, NEGATIVE = 1, 0

# By polarity and strength. Every noun and adjective fits every pattern below in the singular.
ADJECTIVES: dict[int, dict[str, tuple[str, ...]]] = {
    POSITIVE: {
        "mild": ("good", "nice", "pleasant", "decent", "enjoyable", "solid", "charming", "likeable", "fine", "clever"),
        "strong": (
            "wonderful",
            "brilliant",
            "superb",
            "excellent",
            "fantastic",
            "outstanding",
            "delightful",
            "stunning",
        ),
    },
    NEGATIVE: {
        "mild": ("bad", "dull", "weak", "boring", "bland", "clumsy", "tedious", "flat", "mediocre", "annoying"),
        "strong": ("awful", "terrible", "horrible", "dreadful", "atrocious", "appalling", "disastrous", "unbearable"),
    },
}

THINGS: dict[str, tuple[str, ...]] = {
    "film": (
        *("acting", "plot", "story", "script", "ending", "music", "dialogue", "cast", "pacing", "camera work"),
        *("lead actor", "first half", "second half", "humour", "opening scene"),
    ),
    "product": (
        *("battery", "screen", "keyboard", "sound", "build quality", "packaging", "manual", "charger", "design"),
        *("delivery", "software", "fabric", "handle", "finish", "lid"),
    ),
}

DEGREES: dict[str, tuple[str, ...]] = {
    "any": ("", "really ", "truly ", "quite "),
    "mild": ("fairly ", "somewhat ", "rather "),
    "strong": ("absolutely ", "simply ", "utterly "),
}


@dataclasses.dataclass(frozen=True)
class Clause:
    """A pattern with {thing}, {adjective} and perhaps {degree}, and how often it negates the adjective."""

    pattern: str
    num_negations: int = 0

    @property
    def is_personal(self) -> bool:
        """Says whether it reports the writer's own view, which cannot be hearsay."""
        return self.pattern.startswith(("i ", "we "))


PLAIN = (
    Clause("the {thing} was {degree}{adjective}"),
    Clause("the {thing} is {degree}{adjective}"),
    Clause("i found the {thing} {degree}{adjective}"),
    Clause("the {thing} felt {degree}{adjective} from start to finish"),
    Clause("the {thing} turned out to be {degree}{adjective}"),
    Clause("we all thought that the {thing} was {degree}{adjective}"),
    Clause("i must say that the {thing} was {degree}{adjective}"),
    Clause("i cannot say that the {thing} was not {adjective}", 2),
    Clause("nobody could say that the {thing} was not {adjective}", 2),
)
NEGATED = (
    Clause("the {thing} was not {adjective}", 1),
    Clause("the {thing} was not {adjective} at all", 1),
    Clause("the {thing} was never {adjective}", 1),
    Clause("the {thing} is hardly {adjective}", 1),
    Clause("the {thing} was anything but {adjective}", 1),
    Clause("the {thing} is far from {adjective}", 1),
    Clause("i did not find the {thing} {adjective}", 1),
    Clause("i would not call the {thing} {adjective}", 1),
    Clause("nobody could call the {thing} {adjective}", 1),
    Clause("there was nothing {adjective} about the {thing}", 1),
    Clause("i cannot say that the {thing} was {adjective}", 1),
)
UNSEEN_PLAIN = (
    Clause("i thought that the {thing} was {degree}{adjective}"),
    Clause("we all found the {thing} {degree}{adjective}"),
    Clause("i must say that i found the {thing} {degree}{adjective} from start to finish"),
)
UNSEEN_NEGATED = (
    Clause("i did not find the {thing} {adjective} at all", 1),
    Clause("nobody would call the {thing} {adjective}", 1),
    Clause("i must say that there was nothing {adjective} about the {thing}", 1),
    Clause("the {thing} turned out to be anything but {adjective}", 1),
)

# {decides} has the review's polarity, {other} the opposite one.
TURNS = (
    "although {other}, {decides}",
    "even though {other}, {decides}",
    "while {other}, {decides}",
    "{decides}, although {other}",
    "{decides}, even though {other}",
    "{other}, but {decides}",
    "{other}. however, {decides}",
    "{other}, yet {decides}",
    "at first i thought that {other}, but in the end {decides}",
    "people say that {other}, but they are wrong",
    "i had heard that {other}, which is not true",
    "people say that {decides}, and they are right",
    "i had heard that {decides}, which is true",
)
UNSEEN_TURNS = (
    "although people say that {other}, {decides}",
    "{other}. in the end, however, {decides}",
    "{decides}, even though people say that {other}",
    "at first {other}, yet in the end {decides}",
    "i had heard that {other}, but {decides}",
)
HEARSAY = ("people say", "had heard")
STRENGTH = ("{mild} and {strong}", "{strong} and {mild}", "{mild}, {strong}")

REMARKS = (
    "i {got} it {when} with {who}",
    "{who} and i {got} it {when}",
    "it arrived in a {colour} box with the number {number} on it",
    "i had not heard of it before",
    "we had never been to that shop before",
    "{who} could not come along {when}",
    "it cost me {number} in a small shop near the station",
    "this is number {number} on my list",
    "the good brother and the bad brother meet in the second act",
    "there is a fine {colour} line on the back",
    "a {colour} car stands in front of a weak light",
    "it was a good {number} minutes before {who} came home",
    "i am writing this in my kitchen with {who}",
    "i lent it to {who} {when}",
    "for the record, {who} paid for it",
    "nothing else happened {when}",
)
SLOTS: dict[str, tuple[str, ...]] = {
    "got": ("bought", "ordered", "watched", "tried", "borrowed", "rented"),
    "when": ("on a rainy sunday", "last week", "in the summer", "on friday evening", "after work", "yesterday"),
    "who": ("my brother", "my sister", "a friend", "my neighbour", "our teacher", "a colleague"),
    "colour": ("red", "blue", "green", "grey", "yellow"),
}

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("really", "truly", "quite"),
    ("fairly", "somewhat", "rather"),
    ("absolutely", "simply", "utterly"),
    ("brother", "sister", "neighbour", "friend", "colleague", "teacher"),
    ("red", "blue", "green", "grey", "yellow"),
    ("bought", "ordered"),
)
"""Words that may stand for each other. No things and adjectives: others would make pairs kept for the test split."""


@dataclasses.dataclass(frozen=True)
class Review:
    """One review.

    Attributes:
        text: What was written, lower case with punctuation.
        label: 1 for positive, 0 for negative.
        has_turn: An opinion of it weighs two clauses, or hearsay against a verdict.
        has_unseen_pattern: An opinion of it uses a pattern kept for the test split.
    """

    text: str
    label: int
    has_turn: bool
    has_unseen_pattern: bool


def is_kept_back(thing: str, adjective: str) -> bool:
    """Says whether this pair is kept for the test split: one pair in five, spread evenly over both words."""
    domain = THINGS["film"] if thing in THINGS["film"] else THINGS["product"]
    words = [word for strengths in ADJECTIVES.values() for group in strengths.values() for word in group]
    return (domain.index(thing) + words.index(adjective)) % 5 == 0


class _Writer:
    """Writes reviews of one split from one stream of random numbers."""

    def __init__(self, generator: random.Random, *, for_test: bool) -> None:
        self._random = generator
        self._for_test = for_test
        self._things: list[str] = []

    def review(self, label: int) -> Review:
        """Writes one review of 5 to 60 words."""
        while True:
            domain = self._random.choice(tuple(THINGS))
            opinions = [self._opinion(label, domain) for _ in range(self._random.choice((1, 1, 2)))]
            sentences = self._remarks(self._random.choice((0, 1, 2, 3))) + [text for text, _, _ in opinions]
            self._random.shuffle(sentences)
            text = ". ".join(sentences) + "."
            if 5 <= len(text.split()) <= 60:
                has_turn, has_unseen_pattern = (any(flags) for flags in list(zip(*opinions, strict=True))[1:])
                return Review(text, label, has_turn, has_unseen_pattern)

    def _opinion(self, label: int, domain: str) -> tuple[str, bool, bool]:
        """Returns an opinion's text, whether it has a turn, and whether its pattern is unseen."""
        self._things = self._random.sample(THINGS[domain], len(THINGS[domain]))
        shape = self._random.choices(("single", "turn", "strength"), weights=(4, 5, 1))[0]
        if shape == "strength":
            text = self._random.choice(STRENGTH).format(
                mild=self._weighed(1 - label, "mild"), strong=self._weighed(label, "strong")
            )
            return text, True, False
        unseen = self._for_test and self._random.random() < 0.4
        if shape == "single":
            return self._clause(label, unseen=unseen), False, unseen
        pattern = self._random.choice(UNSEEN_TURNS if unseen else TURNS)
        said = any(phrase in pattern for phrase in HEARSAY)
        text = pattern.format(decides=self._clause(label, said=said), other=self._clause(1 - label, said=said))
        return text, True, unseen

    def _clause(self, polarity: int, *, unseen: bool = False, said: bool = False) -> str:
        plain, negated = (UNSEEN_PLAIN, UNSEEN_NEGATED) if unseen else (PLAIN, NEGATED)
        clauses = negated if self._random.random() < 0.5 else plain
        clause = self._random.choice([clause for clause in clauses if not (said and clause.is_personal)])
        # "not terrible" is faint praise: a negation turns mild words, as in "not bad".
        strength = "mild" if clause.num_negations else self._random.choice(("mild", "strong"))
        word_polarity = 1 - polarity if clause.num_negations % 2 else polarity
        return self._fill(clause.pattern, ADJECTIVES[word_polarity][strength], "any")

    def _weighed(self, polarity: int, strength: str) -> str:
        return self._fill("the {thing} was {degree}{adjective}", ADJECTIVES[polarity][strength], strength)

    def _fill(self, pattern: str, adjectives: tuple[str, ...], degree: str) -> str:
        """Fills a clause with the next thing of this opinion that may stand with a random adjective in this split."""
        adjective = self._random.choice(adjectives)
        thing = next(thing for thing in self._things if is_kept_back(thing, adjective) == self._for_test)
        self._things.remove(thing)
        return pattern.format(thing=thing, adjective=adjective, degree=self._random.choice(DEGREES[degree]))

    def _remarks(self, num_remarks: int) -> list[str]:
        remarks = []
        for remark in self._random.sample(REMARKS, num_remarks):
            words = {slot: self._random.choice(choices) for slot, choices in SLOTS.items()}
            remarks.append(remark.format(number=self._random.randint(2, 999), **words))
        return remarks


def write_reviews(num_reviews: int, seed: int, *, for_test: bool = False) -> list[Review]:
    """Writes different reviews, negative and positive ones in turn.

    Args:
        num_reviews: How many.
        seed: The same seed writes the same reviews.
        for_test: Use the word pairs, and also the patterns, that are kept back for the test split.

    Raises:
        ValueError: If num_reviews is below 2: one class would be missing.
    """
    if num_reviews < 2:
        raise ValueError(f"num_reviews={num_reviews}: at least 2 reviews are needed, one of each class.")
    writer = _Writer(random.Random(f"reviews {seed} {for_test}"), for_test=for_test)
    reviews: dict[str, Review] = {}
    while len(reviews) < num_reviews:
        review = writer.review(len(reviews) % 2)
        reviews.setdefault(review.text, review)
    return list(reviews.values())
