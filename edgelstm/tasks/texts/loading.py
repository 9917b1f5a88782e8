"""Splits of written texts, and data of the user's texts, for classes and for tags."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks.base import Array, Data, Setup
from edgelstm.tasks.texts.encoding import Sizes, encode, notes_on_words
from edgelstm.tasks.texts.own import OwnTexts, class_names, divide, read_texts

Note = TypeVar("Note")


def write_splits(write: Callable[..., list[Note]], setup: Setup, *, at_least: int) -> dict[str, list[Note]]:
    """Lets a writer of texts write the splits; those for training and validation differ from each other.

    Args:
        write: Takes how many, the seed, and for_test.
        setup: Used are num_train, num_validation, num_test and the seed.
        at_least: Texts that a split must have.

    Raises:
        SettingError: If a split is smaller.
    """
    sizes = {split: setup.int(f"num_{split}") for split in ("train", "validation", "test")}
    for split, size in sizes.items():
        if size < at_least:
            raise SettingError(f"num_{split}={size}: at least {at_least} texts are needed, one of each class.")
    seen = write(sizes["train"] + sizes["validation"], setup.seed)
    return {
        "train": seen[: sizes["train"]],
        "validation": seen[sizes["train"] :],
        "test": write(sizes["test"], setup.seed, for_test=True),
    }


def load_classes(setup: Setup, sizes: Sizes) -> Data:
    """Reads texts of which each is of one class.

    Returns:
        y: number of the class, int32, shape (n,).

    Raises:
        DataError: If they cannot be read, or there are too few.
    """
    path = setup.source.path
    assert path is not None
    own = read_texts(path, setup.str("text_column"), setup.str("label_column"))
    names = class_names(own, path)
    numbers = {name: number for number, name in enumerate(names)}
    y = np.array([numbers[label] for label in own.labels], np.int32)
    return _data(own, own.labels, y, names, setup, sizes)


def load_tags(setup: Setup, sizes: Sizes) -> Data:
    """Reads a table of texts with any number of tags in one cell.

    Returns:
        y: 1 for each tag of a text, else 0, int32, shape (n, tags).

    Raises:
        DataError: If it cannot be read, or there are too few texts or tags.
        SettingError: If there is no separator.
    """
    path = setup.source.path
    assert path is not None
    separator = setup.str("label_separator")
    if not separator:
        raise SettingError("The setting 'label_separator' must not be empty: tags in one cell are told apart by it.")
    if path.is_dir():
        raise DataError(f"{path} is a folder: tags of texts are read from a CSV file, those of a text in one cell.")
    own = read_texts(path, setup.str("text_column"), setup.str("label_column"), keep_unlabelled=True)
    tags = [{tag.strip() for tag in cell.split(separator)} - {""} for cell in own.labels]
    names = tuple(sorted(set().union(*tags)))
    if len(names) < 2:
        raise DataError(
            f"The column {setup.str('label_column')!r} of {path} holds {len(names)} different tags, separated by "
            f"{separator!r}, and at least two are needed."
        )
    y = np.array([[name in some for name in names] for some in tags], np.int32)
    untagged = int((y.sum(axis=1) == 0).sum())
    if untagged:
        own = own.noting(f"{untagged} of the texts have no tag and are kept as examples of none.")
    return _data(own, _rarest(y, names), y, names, setup, sizes)


def _data(own: OwnTexts, groups: tuple[str, ...], y: Array, names: tuple[str, ...], setup: Setup, sizes: Sizes) -> Data:
    path = setup.source.path
    assert path is not None
    splits = divide(own, groups, setup.seed, path)
    data = encode(
        {split: [own.texts[index] for index in indices] for split, indices in splits.items()},
        {split: y[indices] for split, indices in splits.items()},
        setup,
        sizes,
        labels=names,
    )
    return dataclasses.replace(data, notes=(*own.notes, *notes_on_words(data, sizes)))


def _rarest(y: Array, names: tuple[str, ...]) -> tuple[str, ...]:
    """The rarest tag of each text: divided by it, every tag comes into the training split."""
    frequencies = np.where(y == 1, y.sum(axis=0), np.iinfo(np.int64).max)
    return tuple(names[tag] if row[tag] else "" for row, tag in zip(y, frequencies.argmin(axis=1), strict=True))
