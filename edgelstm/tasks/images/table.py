"""Tables of the user's whose rows name a picture: CSV files with the columns text, image and label."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgelstm.errors import DataError
from edgelstm.tasks.base import SPLITS, Array
from edgelstm.tasks.images.files import read_image
from edgelstm.tasks.tables import read_csv, require_columns

COLUMNS = ("text", "image", "label")


@dataclasses.dataclass(frozen=True)
class PictureRows:
    """The rows of a table whose pictures could be read.

    Attributes:
        texts: n texts.
        labels: n labels.
        pictures: Red, green and blue, uint8, shape (n, height, width, 3).
        sources: The picture's path of each row, as the table names it.
        notes: Sentences that the user should know.
    """

    texts: list[str]
    labels: list[str]
    pictures: Array
    sources: list[str]
    notes: tuple[str, ...]


def read_picture_table(path: Path, size: int) -> PictureRows:
    """Reads a table and the pictures it names, each brought to the same size.

    Rows without text, picture or label are left out, as are rows whose picture cannot be read; a note says so.

    Args:
        path: A CSV file; pictures' paths are relative to its folder.
        size: Pixels of a picture's side.

    Raises:
        DataError: If it cannot be read or no row is left.
        MissingExtraError: If pandas or Pillow is not installed.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder: give the CSV file with the columns {', '.join(COLUMNS)}.")
    table, notes = read_csv(path)
    require_columns(table, path, COLUMNS)
    complete = table[list(COLUMNS)].dropna()
    if len(complete) < len(table):
        notes += (f"{len(table) - len(complete)} of {len(table)} rows of {path} lack a value and are left out.",)
    rows = [[str(value).strip() for value in row] for row in complete.itertuples(index=False)]
    numbers = [int(index) + 2 for index in complete.index]  # as editors count lines, the header first
    pictures, faults, looks = _read_pictures(path, [row[1] for row in rows], numbers, size)
    kept = [row for row in rows if row[1] in pictures]
    if not kept:
        first = f" ({faults[0]})" if faults else ""
        raise DataError(f"No row of {path} has a text, a picture that can be read and a label{first}.")
    if faults:
        notes += (f"{len(rows) - len(kept)} rows of {path} are left out because of their picture: {faults[0]}.",)
    texts, sources, labels = (list(column) for column in zip(*kept, strict=True))
    return PictureRows(texts, labels, np.stack([pictures[source] for source in sources]), sources, (*notes, *looks))


def split_by_picture(
    path: Path, labels: Sequence[str], sources: Sequence[str], shares: tuple[float, float], seed: int
) -> dict[str, Array]:
    """Splits rows so that no picture is in two splits and every class is in each.

    Args:
        path: The table, for messages.
        labels: Label of each row.
        sources: Picture of each row.
        shares: Of the pictures, for validation and for the test.
        seed: Of the order.

    Returns:
        Numbers of rows by the split's name.

    Raises:
        DataError: If there is one class only, or a class has fewer than three pictures.
    """
    classes: dict[str, list[str]] = {}
    seen: set[str] = set()
    for label, source in zip(labels, sources, strict=True):
        if source not in seen:  # a picture with several labels counts for its first one
            seen.add(source)
            classes.setdefault(label, []).append(source)
    _require_classes(path, labels, classes)
    generator = np.random.default_rng(seed)
    split_of: dict[str, str] = {}
    for label in sorted(classes):
        pictures = [classes[label][index] for index in generator.permutation(len(classes[label]))]
        num_validation, num_test = (max(1, round(share * len(pictures))) for share in shares)
        for index, picture in enumerate(pictures):
            split = "test" if index < num_test else "validation" if index < num_test + num_validation else "train"
            split_of[picture] = split
    rows = {split: [row for row, source in enumerate(sources) if split_of[source] == split] for split in SPLITS}
    return {split: np.array(numbers, np.intp) for split, numbers in rows.items()}


def _require_classes(path: Path, labels: Sequence[str], classes: Mapping[str, Sequence[str]]) -> None:
    names = sorted(set(labels))
    if len(names) < 2:
        raise DataError(f"All rows of {path} have the label {names[0]!r}: at least two classes are needed.")
    for name in names:
        count = len(classes.get(name, ()))
        if count < 3:
            raise DataError(
                f"The label {name!r} in {path} has {count} pictures of its own, and at least 3 are needed, "
                "one each for training, validation and test."
            )


def _read_pictures(
    path: Path, sources: Sequence[str], numbers: Sequence[int], size: int
) -> tuple[dict[str, Array], list[str], tuple[str, ...]]:
    """Pictures by the names in the table, what was wrong with others, and notes about all."""
    pictures: dict[str, Array] = {}
    faults: list[str] = []
    sizes: set[tuple[int, int]] = set()
    for source, number in zip(sources, numbers, strict=True):
        if source in pictures:
            continue
        try:
            pictures[source], found = read_image(path.parent / source.replace("\\", "/"), size, color=True)
            sizes.add(found)
        except DataError as error:
            faults.append(f"line {number}: {str(error).removesuffix('.')}")
    others = sizes - {(size, size)}
    if not others:
        return pictures, faults, ()
    width, height = max(others)
    return (
        pictures,
        faults,
        (
            f"Pictures of {len(sizes)} sizes (such as {width} x {height}) were stretched to {size} x {size}: "
            "an app must do the same.",
        ),
    )
