"""A vocabulary of words: texts to int32 ids, and a plain text file that an app can read.

Ids: 0 is padding, 1 the start of the text, 2 any unknown word; then the words of the training texts, the most frequent
first. A text becomes lower case, splits at everything that is neither a word character nor an apostrophe ("didn't"
stays one word), gets the start id in front, is cut at the end if too long and padded at the END, as MediaPipe's text
classifier does it too. The file has one line "word id" per word, in the order of the ids.
"""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgelstm.errors import LoadError, OutputError

PADDING, START, UNKNOWN = 0, 1, 2
SPECIAL_WORDS = ("<PAD>", "<START>", "<UNKNOWN>")

_SEPARATOR = re.compile(r"[^\w']+")


def split_words(text: str) -> list[str]:
    """Splits a text into lower-case words; the typographic apostrophe counts as the plain one."""
    return [word for word in _SEPARATOR.split(text.lower().replace("\u2019", "'")) if word]


class Vocabulary:
    """Words and their ids.

    Args:
        words: All words in the order of their ids, beginning with the three special words.

    Raises:
        ValueError: If the special words are not in front or a word occurs twice.
    """

    def __init__(self, words: Sequence[str]) -> None:
        if tuple(words[:3]) != SPECIAL_WORDS:
            raise ValueError(f"A vocabulary begins with the words {', '.join(SPECIAL_WORDS)}, not {list(words[:3])!r}.")
        repeated = [word for word, count in collections.Counter(words).items() if count > 1]
        if repeated:
            raise ValueError(f"The word {repeated[0]!r} stands in the vocabulary twice.")
        self.words = tuple(words)
        self._ids = {word: index for index, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def from_texts(cls, texts: Iterable[str], max_size: int) -> Vocabulary:
        """Takes the most frequent words of the texts (ties in alphabetical order), max_size ids in all.

        Raises:
            ValueError: If max_size leaves no room for a word.
        """
        if max_size <= len(SPECIAL_WORDS):
            raise ValueError(f"max_size={max_size}: the three special words alone need 3, so allow at least 4.")
        counts = collections.Counter(word for text in texts for word in split_words(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(SPECIAL_WORDS + tuple(ranked[: max_size - len(SPECIAL_WORDS)]))

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Reads what `save` wrote.

        Raises:
            LoadError: If the file cannot be read or is not a vocabulary.
        """
        try:
            # splitlines would also split at U+0085 and its like, which occur inside of words of public vocabularies.
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise LoadError(f"Cannot read the vocabulary {path}: {error}.") from error
        if not lines[-1]:
            lines.pop()
        words = []
        for index, line in enumerate(lines):
            word, _, number = line.partition(" ")
            if number != str(index):
                raise LoadError(
                    f"Vocabulary {path}, line {index + 1}: 'word {index}' is expected, {line!r} stands there."
                )
            words.append(word)
        try:
            return cls(words)
        except ValueError as error:
            raise LoadError(f"{path} is not a vocabulary: {error}") from error

    def renumbered(self, new_ids: npt.NDArray[np.int32]) -> Vocabulary:
        """Returns the vocabulary of other ids; words that share a new id lose their place to the first one.

        Args:
            new_ids: The new id of each word, shape (len(self),), from 0 on without gaps, in the old order.

        Raises:
            ValueError: If the special words would not be in front any more.
        """
        words: dict[int, str] = {}
        for word, new in zip(self.words, new_ids, strict=True):
            words.setdefault(int(new), word)
        return Vocabulary([words[index] for index in range(len(words))])

    def save(self, path: str | Path) -> None:
        """Writes one line "word id" per word; the file appears complete or not at all.

        Raises:
            OutputError: If it cannot be written.
        """
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        text = "".join(f"{word} {index}\n" for index, word in enumerate(self.words))
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(f"Cannot write the vocabulary {path}: {error.strerror or error}.") from error

    def encode(self, texts: Sequence[str], length: int) -> npt.NDArray[np.int32]:
        """Turns texts into ids, the start id first, padded with 0 at the end.

        Args:
            texts: n texts.
            length: Ids per text, the start id included; what does not fit is cut off at the end.

        Returns:
            Ids, int32, shape (n, length).

        Raises:
            TypeError: If texts is one text, or holds something that is not a text.
            ValueError: If length leaves no room for a word.
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts, but one text came. Put it into a list: encode([text], ...).")
        if length < 2:
            raise ValueError(f"length={length}: the start id and at least one word need 2.")
        ids = np.full((len(texts), length), PADDING, np.int32)
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"Text {row} is of type {type(text).__name__}, only str can be encoded.")
            known = [START] + [self._ids.get(word, UNKNOWN) for word in split_words(text)]
            ids[row, : len(known)] = known[:length]
        return ids

    def decode(self, ids: Sequence[int] | npt.NDArray[np.int32]) -> str:
        """Joins the words of one row of ids with blanks, without padding and start; the inverse of encode.

        Raises:
            ValueError: If an id is outside the vocabulary.
        """
        outside = [int(index) for index in ids if not 0 <= index < len(self.words)]
        if outside:
            raise ValueError(
                f"Id {outside[0]} is outside the vocabulary, which has the ids 0 to {len(self.words) - 1}."
            )
        return " ".join(self.words[index] for index in ids if index not in (PADDING, START))
