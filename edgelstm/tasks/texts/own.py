"""Texts of the user's: a table, or a folder with one sub-folder of .txt files for each class.

A folder may be divided into train/ and test/ (and validation/ or val/) with the classes inside, as the original files
of the IMDB reviews are; this division is kept. Everything else is divided by the seed, each class alike: a fifth for
the test split, a tenth of the rest for validation. A text that occurs twice is kept once, so that no text is in two
splits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgelstm.errors import DataError
from edgelstm.tasks.tables import ENCODINGS, read_csv, read_text, require_columns

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
MIN_EXAMPLES = 3
"""Of each class: one for each split."""

_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}


@dataclasses.dataclass(frozen=True)
class OwnTexts:
    """Texts with what was said of them.

    Attributes:
        texts: The texts.
        labels: What was said of each, as it stands in the data.
        splits: The split that each was given to; empty if the data are not divided.
        notes: Sentences that the user should know.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def take(self, indices: Sequence[int]) -> OwnTexts:
        """Returns some of them."""
        return dataclasses.replace(
            self,
            texts=tuple(self.texts[index] for index in indices),
            labels=tuple(self.labels[index] for index in indices),
            splits=tuple(self.splits[index] for index in indices) if self.splits else (),
        )

    def noting(self, *notes: str) -> OwnTexts:
        """Returns the same with more notes."""
        return dataclasses.replace(self, notes=(*self.notes, *notes))


def read_texts(path: Path, text_column: str, label_column: str, *, keep_unlabelled: bool = False) -> OwnTexts:
    """Reads texts of a CSV file or a folder.

    Args:
        path: The file or folder.
        text_column: The column of the texts, in a table.
        label_column: The column of what is said of them.
        keep_unlabelled: Whether rows without a label mean something; their label is then empty.

    Raises:
        DataError: If they cannot be read.
        MissingExtraError: If pandas is not installed.
    """
    own = _read_folder(path) if path.is_dir() else _read_table(path, text_column, label_column, keep_unlabelled)
    kept = [index for index, text in enumerate(own.texts) if text.strip()]
    if len(kept) < len(own.texts):
        own = own.take(kept).noting(f"{_count(len(own.texts) - len(kept), 'text is', 'texts are')} empty and left out.")
    if not own.texts:
        raise DataError(f"There are no texts in {path}.")
    return _without_repeats(own)


def class_names(own: OwnTexts, path: Path) -> tuple[str, ...]:
    """Returns the classes in their order: numbers by size, words by the alphabet.

    Raises:
        DataError: If there is but one class, or one has too few texts.
    """
    counts = {label: own.labels.count(label) for label in set(own.labels)}
    names = tuple(sorted(counts, key=_order(tuple(counts))))
    if len(names) < 2:
        raise DataError(f"All texts in {path} are of one class, {names[0]!r}: at least two are needed.")
    rare = [name for name in names if counts[name] < MIN_EXAMPLES]
    if rare:
        raise DataError(
            f"The class {rare[0]!r} in {path} has {_count(counts[rare[0]], 'text', 'texts')}: each needs at least "
            f"{MIN_EXAMPLES}, one to learn from, one for validation and one for the test."
        )
    return names


def divide(own: OwnTexts, groups: Sequence[str], seed: int, path: Path) -> dict[str, list[int]]:
    """Divides texts into splits: as the data say, else by the seed, each group alike.

    Args:
        own: The texts.
        groups: What each text belongs to: its class.
        seed: The same seed divides alike.
        path: For messages.

    Returns:
        Numbers of texts by split, in their order.

    Raises:
        DataError: If a split or a class in it would be empty.
    """
    generator = np.random.default_rng(seed)
    given = {split: [index for index, each in enumerate(own.splits) if each == split] for split in _SPLITS}
    if not own.splits:
        rest, given["test"] = _part(range(len(groups)), groups, TEST_SHARE, generator)
        given["train"] = rest
    if not given["validation"]:
        given["train"], given["validation"] = _part(given["train"], groups, VALIDATION_SHARE, generator)
    learnt = {groups[index] for index in given["train"]}
    for split, indices in given.items():
        unknown = sorted({groups[index] for index in indices} - learnt)
        if unknown:
            raise DataError(
                f"The {split} split of {path} has texts of {unknown[0]!r}, and there are none of them to learn from."
            )
        if not indices:
            raise DataError(f"There are too few texts in {path}: its {split} split would be empty.")
    return given


def _part(
    indices: Sequence[int], groups: Sequence[str], share: float, generator: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Takes a share out of each group, at least one text of those that have two; returns the rest and the share."""
    taken: set[int] = set()
    for group in sorted({groups[index] for index in indices}):
        members = [index for index in indices if groups[index] == group]
        count = max(round(share * len(members)), 1 if len(members) > 1 else 0)
        taken.update(int(index) for index in generator.permutation(members)[:count])
    return [index for index in indices if index not in taken], sorted(taken)


def _read_table(path: Path, text_column: str, label_column: str, keep_unlabelled: bool) -> OwnTexts:
    table, notes = read_csv(path)
    require_columns(table, path, (text_column, label_column))
    there = table[text_column].notna()
    if not keep_unlabelled:
        there &= table[label_column].notna()
    missing = int((~there).sum())
    if missing:
        what = "text" if keep_unlabelled else "text or label"
        notes = (*notes, f"{_count(missing, 'row has', 'rows have')} no {what} and {_is(missing)} left out.")
    table = table[there]
    labels = table[label_column].astype(object).where(table[label_column].notna(), "")
    return OwnTexts(tuple(map(str, table[text_column])), tuple(map(_name, labels)), notes=tuple(notes))


def _read_folder(path: Path) -> OwnTexts:
    divided = all(_folders(path / split) for split in ("train", "test"))
    roots = {"": path}
    if divided:
        roots = {
            split: next((path / name for name in names if _folders(path / name)), path / names[0])
            for split, names in _SPLITS.items()
        }
    known = {folder.name for folder in _folders(roots["test"])} if divided else None
    texts, labels, splits, notes, foreign = [], [], [], [], 0
    for split, root in roots.items():
        for folder in _folders(root):
            if known is not None and folder.name not in known:
                notes.append(f"{folder} is left out: there is no folder of that name in {roots['test']}.")
                continue
            files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".txt" and file.is_file())
            if not files:
                notes.append(f"{folder} is left out: there are no .txt files in it.")
            for file in files:
                text, encoding = read_text(file)
                texts.append(text)
                labels.append(folder.name)
                splits.append(split)
                foreign += encoding not in ENCODINGS[:2]
    if not texts:
        raise DataError(f"The folder {path} needs one sub-folder for each class with .txt files in it, and has none.")
    if foreign:
        notes.append(f"{_count(foreign, 'file is', 'files are')} not in UTF-8: save them so if letters look wrong.")
    return OwnTexts(tuple(texts), tuple(labels), tuple(splits) if divided else (), tuple(notes))


def _folders(path: Path) -> list[Path]:
    """Sub-folders in the order of their names, without hidden ones."""
    if not path.is_dir():
        return []
    try:
        return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError as error:
        raise DataError(f"Cannot read the folder {path}: {error.strerror or error}.") from error


def _without_repeats(own: OwnTexts) -> OwnTexts:
    """Keeps each text once; of a divided folder that of the test split, then that of validation."""
    order = list(range(len(own.texts)))
    if own.splits:
        rank = {"test": 0, "validation": 1, "train": 2}
        order.sort(key=lambda index: rank[own.splits[index]])
    first: dict[str, int] = {}
    for index in order:
        first.setdefault(own.texts[index].strip(), index)
    kept = sorted(first.values())
    repeated = len(own.texts) - len(kept)
    if not repeated:
        return own
    return own.take(kept).noting(f"{_count(repeated, 'text is a repetition', 'texts are repetitions')} and left out.")


def _name(value: object) -> str:
    """A label as text: 1.0 is 1, which it became beside an empty cell."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _order(names: Sequence[str]) -> Callable[[str], tuple[float, str]]:
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        return lambda name: (0.0, name)
    return lambda name: (numbers[name], name)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
