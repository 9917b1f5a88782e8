"""Folders of recorded words in the layout of Speech Commands.

    yes/0a7c2a8d_nohash_0.wav     a folder for each word; the name begins with the speaker
    no/…
    _background_noise_/…          long recordings without words, if there are any
    validation_list.txt           files of these splits, one a line, as yes/0a7c2a8d_nohash_0.wav, if they are there
    testing_list.txt

Source: P. Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, arXiv:1804.03209, 2018, and the
README of version 2, which also tells how a speaker's hash decides on the split.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgelstm.errors import DataError
from edgelstm.tasks.base import SPLITS
from edgelstm.tasks.tables import read_text

NOISE, LISTS = "_background_noise_", {"validation": "validation_list.txt", "test": "testing_list.txt"}
UNKNOWN, SILENCE = "unknown", "silence"
SHARES = {"test": 0.1, "validation": 0.1}
_MAX_CLIPS = 2**27 - 1


@dataclasses.dataclass(frozen=True)
class Clip:
    """A recorded word.

    Attributes:
        path: The file.
        word: The folder that it is in.
        speaker: Who speaks: what stands before "_nohash_" in its name, the whole name if that is missing.
    """

    path: Path
    word: str
    speaker: str

    @property
    def name(self) -> str:
        """The file as the lists call it."""
        return f"{self.path.parent.name}/{self.path.name}"


def find_clips(folder: Path) -> list[Clip]:
    """Lists the clips of a folder, by word and name.

    Raises:
        DataError: If the path is no folder, or no word's folder in it has a WAV file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. Give a folder with a folder of WAV files for each word.")
    clips = [
        Clip(path, sub.name.strip("_"), re.sub(r"_nohash_.*$", "", path.stem))
        for sub in sorted(folder.iterdir())
        if sub.is_dir() and sub.name != NOISE and not sub.name.startswith(".")
        for path in wav_files(sub)
    ]
    if not clips:
        raise DataError(
            f"There are no WAV files in folders of {folder}. Put those of each word into a folder of its name."
        )
    return clips


def wav_files(folder: Path) -> list[Path]:
    """Lists the WAV files of a folder, whose ending may be in capitals."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav" and not path.name.startswith("."))


def split_by_speaker(folder: Path, clips: Sequence[Clip]) -> tuple[dict[str, list[Clip]], tuple[str, ...]]:
    """Splits clips: as the lists say where both are there, else so that no speaker is in two splits.

    Returns:
        The clips by split, and sentences that the user should know.

    Raises:
        DataError: If a list cannot be read or names nothing that is there, or there are fewer than 3 speakers.
    """
    there = [name for name in LISTS.values() if (folder / name).is_file()]
    if len(there) == len(LISTS):
        return _by_lists(folder, clips), ()
    notes = [f"{folder} has {there[0]} but not the other list, so both are left aside."] if there else []
    speakers = {clip.speaker for clip in clips}
    if not any("_nohash_" in clip.path.stem for clip in clips):
        notes.append("The names of the files tell no speaker (SPEAKER_nohash_0.wav), so each counts as one of its own.")
    splits = {speaker: _split_of(speaker) for speaker in speakers}
    if set(splits.values()) != set(SPLITS):
        splits = _by_rank(folder, speakers)
    return {split: [clip for clip in clips if splits[clip.speaker] == split] for split in SPLITS}, tuple(notes)


def split_each_speaker(clips: Iterable[Clip], min_clips: int) -> tuple[dict[str, list[Clip]], tuple[str, ...]]:
    """Splits the clips of each speaker, a tenth for validation and a tenth for testing, at least one each.

    Args:
        clips: All clips.
        min_clips: Speakers with fewer are left out.

    Returns:
        The clips by split, and sentences that the user should know.

    Raises:
        DataError: If fewer than 2 speakers have so many.
    """
    by_speaker: dict[str, list[Clip]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, []).append(clip)
    kept = {speaker: some for speaker, some in sorted(by_speaker.items()) if len(some) >= min_clips}
    if len(kept) < 2:
        raise DataError(
            f"Fewer than 2 speakers have at least {min_clips} clips. Name the files SPEAKER_nohash_NUMBER.wav, or "
            "lower min_clips."
        )
    splits: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    for some in kept.values():
        ranked, count = sorted(some, key=lambda clip: _hash(clip.name)), max(1, len(some) // 10)
        for split, part in zip(SPLITS, (ranked[2 * count :], ranked[:count], ranked[count : 2 * count]), strict=True):
            splits[split] += sorted(part, key=lambda clip: clip.name)
    left = len(by_speaker) - len(kept)
    notes = (f"{left} speakers with fewer than {min_clips} clips (min_clips) were left out.",) if left else ()
    return splits, notes


def choose_words(clips: Iterable[Clip], words: Sequence[str], max_per_word: int) -> list[Clip]:
    """Makes all other words `UNKNOWN`, and as many of them as of a keyword on average.

    Args:
        clips: Of one split.
        words: The keywords; empty to take every word as one.
        max_per_word: Clips of a word to keep; 0 keeps all. Which ones follows from the hashes of their names.
    """
    ranked = sorted(clips, key=lambda clip: _hash(clip.name))
    counts: Counter[str] = Counter()
    chosen, others = [], []
    for clip in ranked:
        if words and clip.word not in words:
            others.append(dataclasses.replace(clip, word=UNKNOWN))
        elif not max_per_word or counts[clip.word] < max_per_word:
            counts[clip.word] += 1
            chosen.append(clip)
    if words:
        chosen += others[: max(1, len(chosen) // len(words))]
    return sorted(chosen, key=lambda clip: clip.name)


def _by_lists(folder: Path, clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    split_of: dict[str, str] = {}
    names = {clip.name for clip in clips}
    for split, file in LISTS.items():
        lines = [line.strip().replace("\\", "/") for line in read_text(folder / file)[0].splitlines()]
        listed = [line for line in lines if line]
        if not names.intersection(listed):
            raise DataError(f"{folder / file} names no file that is there. Its lines are of the form yes/name.wav.")
        twice = next((line for line in listed if split_of.get(line, split) != split), None)
        if twice:
            raise DataError(f"{twice} is in both lists of {folder}. Remove it from one of them.")
        split_of |= dict.fromkeys(listed, split)
    return {split: [clip for clip in clips if split_of.get(clip.name, "train") == split] for split in SPLITS}


def _split_of(speaker: str) -> str:
    """The rule of Speech Commands, in which a speaker stays where he is when others come."""
    share = _hash(speaker) % (_MAX_CLIPS + 1) / _MAX_CLIPS
    if share < SHARES["validation"]:
        return "validation"
    return "test" if share < SHARES["validation"] + SHARES["test"] else "train"


def _by_rank(folder: Path, speakers: set[str]) -> dict[str, str]:
    """With few speakers the rule leaves splits empty; then a tenth of them, at least one, goes to each."""
    if len(speakers) < len(SPLITS):
        raise DataError(
            f"The clips in {folder} are of {len(speakers)} speakers, and 3 are needed to be trained on, validated and "
            "tested on. Add speakers, or list the files of the splits in validation_list.txt and testing_list.txt."
        )
    ranked = sorted(speakers, key=_hash)
    count = max(1, round(len(ranked) * SHARES["test"]))
    return (
        dict.fromkeys(ranked, "train")
        | dict.fromkeys(ranked[:count], "validation")
        | dict.fromkeys(ranked[count : 2 * count], "test")
    )


def _hash(text: str) -> int:
    return int(hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), 16)
