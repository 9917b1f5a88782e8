"""Examples of the user's in one folder per class, and their splits.

pets/cat/1.png              pets/train/cat/1.png
pets/cat/2.png       or     pets/val/cat/2.png       (may be missing, and may be called validation or validate)
pets/dog/1.png              pets/test/dog/1.png      (may be missing if val is there)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgelstm.errors import DataError

SHARES = {"test": 0.2, "validation": 0.1}
"""How much of a class goes to a split that is not given: of all groups, and of what is left then."""

SPLITS = {"train": "train", "val": "validation", "validate": "validation", "validation": "validation", "test": "test"}
"""Names of folders and their meaning."""

Accepts = Callable[[Path], bool]


@dataclasses.dataclass(frozen=True)
class Example:
    """One file or folder that belongs to a class.

    Attributes:
        path: Where it is.
        label: Name of its class.
        group: Examples of one group are never in different splits; the path itself if empty.
        split: "train", "validation" or "test" where that is given; empty where it is to be chosen.
    """

    path: Path
    label: str
    group: str = ""
    split: str = ""


def find_examples(folder: Path, accepts: Accepts, kind: str) -> tuple[list[Example], list[str]]:
    """Looks for examples in a folder.

    Args:
        folder: Has one sub-folder per class, or sub-folders named as in `SPLITS` that have.
        accepts: Whether an entry of a class's folder is an example.
        kind: What examples are, in the plural, for messages.

    Returns:
        The examples, sorted by path, and sentences that the user should know.

    Raises:
        DataError: If there are none, or of one class only.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give one with a sub-folder of {kind} for each class.")
    names = {path.name for path in _folders(folder)}
    given = "train" in names and len(names & SPLITS.keys()) > 1
    parts = {name: folder / name for name in sorted(names & SPLITS.keys())} if given else {"": folder}
    examples: list[Example] = []
    notes: list[str] = []
    for name, part in parts.items():
        for class_folder in _folders(part):
            found, left_out = _of_class(class_folder, accepts, SPLITS.get(name, ""))
            examples += found
            if not found:
                notes.append(f"The folder {class_folder} holds no {kind} and was left out.")
            elif left_out:
                notes.append(f"{class_folder}: {left_out} entries that are no {kind} were left out.")
    labels = sorted({example.label for example in examples})
    if not labels:
        raise DataError(f"{folder} has no sub-folders with {kind}: put those of each class into a folder of its own.")
    if len(labels) == 1:
        raise DataError(f"{folder} has {kind} of one class only, {labels[0]!r}: nothing can be told apart.")
    return examples, notes


def split_examples(
    examples: Sequence[Example], seed: int, kind: str
) -> tuple[dict[str, list[Example]], tuple[str, ...], list[str]]:
    """Splits examples, each class alike: a fifth of its groups is for the test, a tenth of the rest for validation.

    Splits that are given stay as they are; where only one of validation and test is given, it is the test, and the
    validation split is taken from training.

    Args:
        examples: Examples of at least two classes.
        seed: Chooses the splits.
        kind: What examples are, in the plural, for messages.

    Returns:
        Examples by split, names of the classes, and sentences that the user should know.

    Raises:
        DataError: If a class is too small, or one of another split has nothing to train with.
    """
    notes: list[str] = []
    given = {example.split for example in examples} - {"", "train"}
    if given == {"validation"}:
        notes.append("There is no test split, so the validation split is the test, and a tenth of training validates.")
        examples = [dataclasses.replace(e, split="test") if e.split == "validation" else e for e in examples]
        given = {"test"}
    shares = {split: share for split, share in SHARES.items() if split not in given}
    labels = tuple(sorted({example.label for example in examples}))
    splits: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for number, label in enumerate(labels):
        own = [example for example in examples if example.label == label]
        free = [example for example in own if example.split not in given]
        for example in own:
            if example.split in given:
                splits[example.split].append(example)
        for example, split in zip(free, _choose(free, shares, (seed, number), label, kind), strict=True):
            splits[split].append(example)
    return splits, labels, notes


def _choose(
    examples: Sequence[Example], shares: dict[str, float], seed: tuple[int, int], label: str, kind: str
) -> list[str]:
    """The split of each example of one class."""
    groups = sorted({_group(example) for example in examples})
    if len(groups) <= len(shares):
        what = f"groups of {kind}" if any(example.group for example in examples) else kind
        raise DataError(
            f"The class {label!r} has {len(groups)} {what} to learn from: at least {len(shares) + 1} are needed"
            f"{', because some are kept for ' + ' and '.join(shares) if shares else ''}."
        )
    order = list(np.random.default_rng(seed).permutation(len(groups)))
    chosen = dict.fromkeys(groups, "train")
    for split, share in shares.items():
        count = max(1, round(share * len(order)))
        for index in order[:count]:
            chosen[groups[index]] = split
        order = order[count:]
    return [chosen[_group(example)] for example in examples]


def _group(example: Example) -> str:
    return example.group or str(example.path)


def _of_class(folder: Path, accepts: Accepts, split: str) -> tuple[list[Example], int]:
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    found = [Example(path, folder.name, split=split) for path in entries if accepts(path)]
    return found, len(entries) - len(found)


def _folders(folder: Path) -> list[Path]:
    """Sub-folders, without hidden ones and those that archives of macOS carry."""
    return [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith((".", "__MACOSX"))]
