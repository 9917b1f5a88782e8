"""The IMDB reviews of Keras: 25,000 film reviews to learn from and as many to be tested on, as ids of words.

Keras' ids are kept: 0 padding, 1 start, 2 unknown, 3 not used, then the words by frequency. The vocabulary file has the
same ids, so that an app encodes as Keras did. Words in Keras' list that no text is split into (stray control characters
among them) stand in the file as "<id>".

Source: Maas et al., "Learning word vectors for sentiment analysis", ACL 2011.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import DataError
from edgelstm.tasks.base import Array, Data, Setup
from edgelstm.tasks.texts.encoding import Sizes, make_data, pad
from edgelstm.tasks.texts.own import VALIDATION_SHARE
from edgelstm.tasks.texts.vocabulary import SPECIAL_WORDS, Vocabulary, split_words

INDEX_FROM = 3
"""Keras adds this to the places of words by frequency, which count from 1."""

FILES = ("imdb.npz", "imdb_word_index.json")


def load_imdb(setup: Setup, sizes: Sizes) -> Data:
    """Loads the reviews; a tenth of those to learn from, chosen by the seed, is the validation split.

    Raises:
        DataError: If they are neither on disk nor can be downloaded.
    """
    (sequences, labels), (test_sequences, test_labels), word_index = _download(sizes.vocabulary_size)
    order = np.random.default_rng(setup.seed).permutation(len(sequences))
    count = max(round(VALIDATION_SHARE * len(order)), 1)
    chosen = {"train": np.sort(order[count:]), "validation": np.sort(order[:count])}
    y: dict[str, Array] = {split: np.asarray(labels, np.int32)[indices] for split, indices in chosen.items()}
    y["test"] = np.asarray(test_labels, np.int32)
    ids = {
        split: pad([sequences[index] for index in indices], setup, sizes, for_training=split == "train")
        for split, indices in chosen.items()
    }
    ids["test"] = pad(test_sequences, setup, sizes, for_training=False)
    vocabulary = imdb_vocabulary(word_index, sizes.vocabulary_size)
    return make_data(ids, y, vocabulary, setup, sizes, labels=("negative", "positive"))


def imdb_vocabulary(word_index: Mapping[str, int], size: int) -> Vocabulary:
    """Puts words at the ids that `keras.datasets.imdb.load_data` uses.

    Args:
        word_index: Places of words by frequency, from 1 on.
        size: Ids in all.
    """
    words = [*SPECIAL_WORDS, *(f"<{index}>" for index in range(len(SPECIAL_WORDS), size))]
    for word, place in word_index.items():
        if place + INDEX_FROM < size and split_words(word) == [word]:
            words[place + INDEX_FROM] = word
    return Vocabulary(words)


def _download(num_words: int) -> Any:
    imdb = import_keras().datasets.imdb
    try:
        train, test = imdb.load_data(num_words=num_words, index_from=INDEX_FROM)
        return train, test, imdb.get_word_index()
    except Exception as error:  # Keras raises plain exceptions, and what is read depends on its version
        raise DataError(
            f"The IMDB reviews are not on this machine and cannot be downloaded ({_first_line(error)}): put "
            f"{' and '.join(FILES)} from https://storage.googleapis.com/tensorflow/tf-keras-datasets/ into "
            "~/.keras/datasets."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0]
