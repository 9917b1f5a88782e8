"""Texts as training data: ids of words, what varies them, and the comparison with words alone.

Every text task shares the input "ids" (int32, shape (n, length): start id, words, padding at the end), the file
vocabulary.txt and the settings in `TEXT_SETTINGS`.

Three things vary training texts, each off by default:

- *word_dropout*: a share of the words becomes the unknown word, so that no single word is relied on.
- *synonyms*: a share of the words that have synonyms is replaced by one of them.
- *crop*: of a text longer than the model takes, another window is seen each time; scores still come from its beginning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import DataError, MissingExtraError, SettingError
from edgelstm.tasks.base import Array, Data, Setup, Split
from edgelstm.tasks.linear import logistic_regression
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.tables import read_text
from edgelstm.tasks.texts.vocabulary import PADDING, START, UNKNOWN, Vocabulary, split_words

IDS = "ids"

TEXT_SETTINGS: dict[str, Setting] = {
    "vocabulary_size": 0,
    "length": 0,
    "word_dropout": 0.0,
    "synonyms": 0.0,
    "synonyms_file": "",
    "crop": False,
    "text_column": "text",
}
"""vocabulary_size: Ids of the vocabulary, the three special ones included; 0 for what suits the source.

length: Ids of a text, the start id included; 0 for what suits the source.
word_dropout, synonyms: Shares from 0 to 1 of the words that are varied in training.
synonyms_file: Groups of words of one meaning for the user's texts, one group a line, separated by commas.
crop: Whether training sees other windows of texts that are longer than the model takes.
text_column: The column of a table that holds the texts.
"""

OWN_VOCABULARY_SIZE, OWN_LENGTH = 10_000, 200
"""What suits public data and the user's."""

CROP_REACH = 4
"""Windows are taken from the first words of a text, this many times the length of the model."""

_NOTED_SHARE = 0.2

Groups = Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the model takes: ids from 0 to vocabulary_size - 1, length of them."""

    vocabulary_size: int
    length: int

    @classmethod
    def of(cls, setup: Setup, suiting: Sizes) -> Sizes:
        """Returns the settings; where one is 0, what suits.

        Raises:
            SettingError: If they leave no room for a word.
        """
        size = setup.int("vocabulary_size") or suiting.vocabulary_size
        length = setup.int("length") or suiting.length
        if size < 4:
            raise SettingError(f"vocabulary_size={size}: the three special words alone need 3, so set at least 4.")
        if length < 2:
            raise SettingError(f"length={length}: the start id and at least one word need 2.")
        return cls(size, length)


@dataclasses.dataclass(frozen=True)
class Synonyms:
    """Words that may stand for another, by id.

    Attributes:
        others: Ids of the synonyms of each id, int32, shape (vocabulary, largest group).
        counts: How many of them count, shape (vocabulary,); 0 for a word without synonyms.
    """

    others: Array
    counts: Array

    @classmethod
    def of(cls, groups: Groups, vocabulary: Vocabulary) -> Synonyms:
        """Takes groups of words of one meaning; words that the vocabulary does not have are left out."""
        ids = {word: index for index, word in enumerate(vocabulary.words)}
        found: dict[int, set[int]] = {}
        for group in groups:
            known = {ids[word] for word in group if word in ids}
            for index in known:
                found.setdefault(index, set()).update(known - {index})
        counts = np.zeros(len(ids), np.int32)
        others = np.zeros((len(ids), max((len(each) for each in found.values()), default=0)), np.int32)
        for index, each in found.items():
            counts[index] = len(each)
            others[index, : len(each)] = sorted(each)
        return cls(others, counts)


@dataclasses.dataclass(frozen=True)
class Texts(Split):
    """Training texts with what is needed to vary them.

    Attributes:
        whole: Ids of more of each text than the model takes, int32, shape (n, longer); None if nothing is cropped.
        synonyms: None if nothing is replaced.
    """

    whole: Array | None = None
    synonyms: Synonyms | None = None

    def take(self, indices: Any) -> Texts:
        """Returns some of the examples: numbers, a mask or a slice."""
        taken = super().take(indices)
        return Texts(taken.x, taken.y, None if self.whole is None else self.whole[indices], self.synonyms)


def encode(
    texts: Mapping[str, Sequence[str]],
    y: Mapping[str, Array],
    setup: Setup,
    sizes: Sizes,
    synonyms: Groups = (),
    **more: Any,
) -> Data:
    """Makes data of texts, with a vocabulary of the training texts.

    Args:
        texts: Texts of the splits "train", "validation" and "test".
        y: What is to be answered, by split.
        setup: Used are the settings of `TEXT_SETTINGS`.
        sizes: What the model takes.
        synonyms: Groups of words of one meaning, if the source has them.
        more: Other fields of `Data`; "extra" gets the texts.

    Raises:
        DataError: If a file of the settings cannot be read.
        SettingError: If a setting is impossible.
    """
    vocabulary = Vocabulary.from_texts(texts["train"], sizes.vocabulary_size)
    ids = encode_splits(texts, vocabulary, setup, sizes)
    extra = {**more.pop("extra", {}), "texts": texts}
    return make_data(ids, y, vocabulary, setup, sizes, synonyms, extra=extra, **more)


def encode_splits(
    texts: Mapping[str, Sequence[str]], vocabulary: Vocabulary, setup: Setup, sizes: Sizes
) -> dict[str, Array]:
    """Turns texts by split into ids, int32, shape (n, length), or longer for training with crop."""
    lengths = dict.fromkeys(texts, sizes.length) | {"train": _reach(setup, sizes)}
    return {split: vocabulary.encode(some, lengths[split]) for split, some in texts.items()}


def make_data(
    ids: Mapping[str, Array],
    y: Mapping[str, Array],
    vocabulary: Vocabulary,
    setup: Setup,
    sizes: Sizes,
    synonyms: Groups = (),
    **more: Any,
) -> Data:
    """Makes data of encoded texts, int32, shape (n, length or longer) by split; the rest as `encode` says."""
    check_shares(setup)
    groups = _groups(setup, synonyms)
    short = {split: {IDS: array[:, : sizes.length]} for split, array in ids.items()}
    train = Texts(
        short["train"],
        y["train"],
        ids["train"] if setup.on("crop") else None,
        Synonyms.of(groups, vocabulary) if groups else None,
    )
    return Data(
        train,
        Split(short["validation"], y["validation"]),
        Split(short["test"], y["test"]),
        files={"vocabulary.txt": vocabulary},
        **more,
    )


def pad(sequences: Sequence[Sequence[int]], setup: Setup, sizes: Sizes, *, for_training: bool) -> Array:
    """Cuts lists of ids at their end or pads them there.

    Returns:
        int32, shape (n, length), or longer for training with crop.
    """
    length = _reach(setup, sizes) if for_training else sizes.length
    ids = np.full((len(sequences), length), PADDING, np.int32)
    for row, sequence in enumerate(sequences):
        kept = sequence[:length]
        ids[row, : len(kept)] = kept
    return ids


def augment_texts(examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
    """Varies training texts as the settings crop, synonyms and word_dropout ask for."""
    ids = examples.x[IDS]
    if isinstance(examples, Texts):
        if examples.whole is not None:
            ids = _crop(examples.whole, ids.shape[1], generator)
        if examples.synonyms is not None:
            ids = _replace(ids, examples.synonyms, setup.float("synonyms"), generator)
    share = setup.float("word_dropout")
    if share:
        ids = np.where((generator.random(ids.shape) < share) & (ids > UNKNOWN), np.int32(UNKNOWN), ids)
    return Split({IDS: ids}, examples.y)


def notes_on_words(data: Data, sizes: Sizes) -> tuple[str, ...]:
    """What to tell the user about texts that are cut and words that are unknown."""
    train, validation = data.train.x[IDS], data.validation.x[IDS]
    long = float((train[:, -1] != PADDING).mean())
    unknown = float((validation == UNKNOWN).sum() / max((validation > START).sum(), 1))
    notes = []
    if long > _NOTED_SHARE:
        notes.append(
            f"{long:.0%} of the training texts have {sizes.length - 1} words or more, of which only the first "
            f"{sizes.length - 1} are read: a larger length reads more."
        )
    if unknown > _NOTED_SHARE:
        notes.append(
            f"{unknown:.0%} of the words in the validation texts are not among the {sizes.vocabulary_size} of the "
            "vocabulary: more training texts or a larger vocabulary_size help, and languages without blanks between "
            "words must be split into words beforehand."
        )
    return tuple(notes)


def bag_of_words(train: Split, test: Split) -> Array:
    """Answers with a logistic regression on the counts of words, which knows nothing of their order.

    Args:
        train: Ids, and y of shape (n,) for classes or (n, tags) for tags.
        test: The texts to answer for.

    Returns:
        Probabilities, shape (n, 1) for two classes, (n, classes) for more, (n, tags) for tags.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    size = int(max(train.x[IDS].max(), test.x[IDS].max())) + 1
    counts, test_counts = (_counts(split.x[IDS], size) for split in (train, test))
    if train.y.ndim == 2:
        columns = [_regress(counts, train.y[:, tag], test_counts)[:, -1:] for tag in range(train.y.shape[1])]
        return np.concatenate(columns, axis=1)
    answers = _regress(counts, train.y, test_counts)
    return answers[:, 1:] if answers.shape[1] == 2 else answers


def check_shares(setup: Setup) -> None:
    """Makes sure that settings of the variations are possible.

    Raises:
        SettingError: If one is not.
    """
    for name in ("word_dropout", "synonyms"):
        if not 0 <= setup.float(name) < 1:
            raise SettingError(f"The setting {name!r} must be a share from 0 to below 1, not {setup.float(name)}.")
    if setup.str("synonyms_file") and not setup.float("synonyms"):
        raise SettingError("The setting 'synonyms_file' does nothing while synonyms is 0: set e.g. synonyms=0.2.")


def read_synonyms(path: Path) -> list[tuple[str, ...]]:
    """Reads groups of words of one meaning: one group a line, its words separated by commas.

    Raises:
        DataError: If it cannot be read, or a line is no group.
    """
    text, _ = read_text(path)
    groups = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        words = [split_words(part) for part in line.split(",")]
        if len(words) < 2 or any(len(word) != 1 for word in words):
            raise DataError(
                f"Line {number} of {path} must be two or more single words separated by commas, not {line.strip()!r}."
            )
        groups.append(tuple(word[0] for word in words))
    if not groups:
        raise DataError(f"The file {path} has no synonyms: write one group a line, e.g. 'film, movie, picture'.")
    return groups


def _reach(setup: Setup, sizes: Sizes) -> int:
    return sizes.length * CROP_REACH if setup.on("crop") else sizes.length


def _groups(setup: Setup, groups: Groups) -> Groups:
    if not setup.float("synonyms"):
        return ()
    if setup.str("synonyms_file"):
        return read_synonyms(Path(setup.str("synonyms_file")))
    if not groups:
        raise DataError(
            f"The data {setup.source} come without synonyms: name a file of them with the setting synonyms_file."
        )
    return groups


def _crop(whole: Array, length: int, generator: np.random.Generator) -> Array:
    """A window of each text, the start id in front."""
    excess = np.maximum((whole != PADDING).sum(axis=1) - length, 0)
    first = generator.integers(0, excess, endpoint=True)
    ids: Array = np.take_along_axis(whole, first[:, np.newaxis] + np.arange(length), axis=1)
    ids[:, 0] = START
    return ids


def _replace(ids: Array, synonyms: Synonyms, share: float, generator: np.random.Generator) -> Array:
    counts = synonyms.counts[ids]
    chosen = (generator.random(ids.shape) < share) & (counts > 0)
    column = (generator.random(ids.shape) * counts).astype(np.int32)
    replaced: Array = ids.copy()
    replaced[chosen] = synonyms.others[ids[chosen], column[chosen]]
    return replaced


def _counts(ids: Array, size: int) -> Any:
    """A sparse matrix of how often each word occurs, shape (n, size)."""
    try:
        from scipy.sparse import csr_matrix
    except ImportError as error:
        raise MissingExtraError('Baselines come from scikit-learn: pip install "edgelstm[train]".') from error
    rows, columns = np.nonzero(ids > START)
    return csr_matrix((np.ones(len(rows), np.float32), (rows, ids[rows, columns])), shape=(len(ids), size))


def _regress(counts: Any, y: Array, test_counts: Any) -> Array:
    """Probabilities of the classes, shape (n, classes); of the only class if there is but one."""
    if len(np.unique(y)) == 1:
        return np.full((test_counts.shape[0], 1), float(y[0]))
    probabilities: Array = logistic_regression(max_iter=1000).fit(counts, y).predict_proba(test_counts)
    return probabilities
