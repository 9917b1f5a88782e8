"""Folders of clips: one per class, UCF101 with its lists, Kinetics with its tables.

    clips/wave/1.mp4                                       one sub-folder per class, perhaps below train, val and test
    UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi    with ucfTrainTestlist/ inside or beside, or without
    kinetics/train.csv, kinetics/train/abseiling/0347ZoDXyP0_000095_000105.mp4
                                                           tables in it or in annotations/, videos anywhere below

Clips of UCF101 are cut out of longer videos; those of one video, which have the same number after _g, all go to the
same split, as do those of one YouTube video in Kinetics. Otherwise a model would be tested on what it has seen.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgelstm.errors import DataError
from edgelstm.tasks.class_folders import SPLITS, Example, find_examples
from edgelstm.tasks.clips.reading import is_clip, is_video
from edgelstm.tasks.tables import read_csv, read_text

KIND = "clips"
LISTS = "ucfTrainTestlist"

_UCF_NAME = re.compile(r"v_.+_g(\d+)_c\d+")
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def find_clips(folder: Path, fold: int) -> tuple[list[Example], list[str]]:
    """Looks for clips in a folder.

    Args:
        folder: Of one of the layouts above.
        fold: Which of the three pairs of UCF101's lists to take, 1 to 3.

    Returns:
        The clips, with groups and splits where they are known, and sentences that the user should know.

    Raises:
        DataError: If there are none, or of one class only, or lists name none of them.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: give one with a sub-folder of {KIND} for each class.")
    tables = [path for part in (folder, folder / "annotations") for path in sorted(part.glob("*.csv"))]
    if tables:
        return _of_kinetics(folder, tables)
    examples, notes = find_examples(folder, is_clip, KIND)
    examples = [dataclasses.replace(example, group=_group(example.path)) for example in examples]
    lists = next((part / LISTS for part in (folder, folder.parent) if (part / LISTS).is_dir()), None)
    if lists is None or not any(example.group for example in examples):
        return examples, notes
    examples, more = _of_ucf_lists(examples, lists, fold)
    return examples, [note for note in notes if LISTS not in note] + more


def _group(path: Path) -> str:
    match = _UCF_NAME.fullmatch(path.stem)
    return f"g{match[1]}" if match else ""


def _of_ucf_lists(examples: Sequence[Example], lists: Path, fold: int) -> tuple[list[Example], list[str]]:
    """Gives clips the splits of lists such as "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1"."""
    splits: dict[str, str] = {}
    for split in ("train", "test"):
        text, _ = read_text(lists / f"{split}list{fold:02}.txt")
        splits.update((line.split()[0], split) for line in text.splitlines() if line.strip())
    named = {f"{example.label}/{example.path.name}": example for example in examples}
    found = [dataclasses.replace(example, split=splits[name]) for name, example in named.items() if name in splits]
    if not found:
        raise DataError(f"The lists in {lists} name no clip that is there.")
    notes = []
    if len(found) < len(named):
        notes.append(f"{len(named) - len(found)} clips that the lists in {lists} do not name were left out.")
    if len(found) < len(splits):
        notes.append(f"{len(splits) - len(found)} clips that the lists in {lists} name are not there.")
    return found, notes


def _of_kinetics(folder: Path, tables: Sequence[Path]) -> tuple[list[Example], list[str]]:
    """Finds the videos that tables name: label, youtube_id, time_start, time_end and perhaps split."""
    files = {path.stem: path for path in sorted(folder.rglob("*")) if is_video(path)}
    examples: list[Example] = []
    missing = 0
    notes: list[str] = []
    for table_path in tables:
        table, more = read_csv(table_path)
        notes += more
        if not set(_COLUMNS) <= set(table.columns):
            notes.append(f"{table_path} was left out: it has not all of the columns {', '.join(_COLUMNS)}.")
            continue
        for row in table.to_dict("records"):
            path = files.get(_kinetics_name(row, table_path)) or files.get(str(row["youtube_id"]))
            if path is None:
                missing += 1
                continue
            split = _kinetics_split(row, table_path)
            examples.append(Example(path, str(row["label"]).strip(), str(row["youtube_id"]), split))
    if not examples:
        raise DataError(
            f"The tables of {folder} ({tables[0].name}) name no video that is there, such as {_name_example()}."
        )
    if missing:
        notes.append(f"{missing} videos that the tables of {folder} name are not there.")
    if len({example.label for example in examples}) == 1:
        raise DataError(f"{folder} has {KIND} of one class only, {examples[0].label!r}: nothing can be told apart.")
    return examples, notes


def _name_example() -> str:
    return "0347ZoDXyP0_000095_000105.mp4 (youtube_id, time_start, time_end)"


def _kinetics_name(row: dict[str, Any], path: Path) -> str:
    try:
        start, end = (int(float(row[name])) for name in ("time_start", "time_end"))
    except ValueError as error:
        raise DataError(f"The table {path} has a row whose time_start or time_end is no number: {row}.") from error
    return f"{row['youtube_id']}_{start:06}_{end:06}"


def _kinetics_split(row: dict[str, Any], path: Path) -> str:
    """The split that a row tells, or else the name of its table: train.csv, kinetics_val.csv."""
    told = str(row.get("split", "")).strip().lower()
    words = [told, *re.split(r"[^a-z]+", path.stem.lower())]
    return next((SPLITS[word] for word in words if word in SPLITS), "")
