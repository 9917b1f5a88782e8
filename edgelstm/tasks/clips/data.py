"""Clips in splits, as features of their frames or as pixels."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import DataError
from edgelstm.tasks.base import SPLITS, Array, Data, Setup, Split
from edgelstm.tasks.class_folders import Example, split_examples
from edgelstm.tasks.clips.cache import ClipCache, default_folder
from edgelstm.tasks.clips.folders import KIND, find_clips
from edgelstm.tasks.clips.frame_cnn import SMALL, build_cnn, features_of, identity
from edgelstm.tasks.clips.moving_shapes import MOTIONS, write_clips
from edgelstm.tasks.clips.reading import content_hash, read_clip
from edgelstm.training.folders import write_complete

FEATURES, CLIP = "features", "clip"
NO_CACHE = "off"

_NUM_CALIBRATION_CLIPS = 8


@dataclasses.dataclass(frozen=True)
class FeatureModel:
    """The frozen CNN, which an app runs on each frame."""

    cnn: Any

    def save(self, path: Path) -> None:
        """Writes a Keras file."""
        write_complete(path, self.cnn.save)


@dataclasses.dataclass(frozen=True)
class Frames:
    """Frames of training clips, to calibrate the CNN's int8 file with; float32, shape (n, size, size, 3)."""

    frames: Array

    def save(self, path: Path) -> None:
        """Writes them as "frame" into an .npz file."""

        def write(file: Path) -> None:
            with file.open("wb") as stream:
                np.savez_compressed(stream, frame=self.frames)

        write_complete(path, write)


def load_clips(setup: Setup, *, as_features: bool) -> Data:
    """Does what `VideoTask.load` promises.

    Args:
        setup: The setup.
        as_features: Whether to give features, and the CNN as a file for the app; else pixels.
    """
    reader = _Reader(setup, as_features=as_features)
    if setup.source.path is None:
        return _offline(setup, reader)
    return _of_folder(setup.source.path, setup, reader)


class _Reader:
    """Makes of clips what the model reads, and keeps account of what was met."""

    def __init__(self, setup: Setup, *, as_features: bool) -> None:
        self.frames, self.every, self._size = (setup.int(name) for name in ("frames", "every", "size"))
        self.cnn: Any = None
        self.notes: list[str] = []
        self.counts: Counter[int] = Counter()
        self.damaged: list[str] = []
        shape: tuple[int, ...] = (self.frames, self._size, self._size, 3)
        self._recipe = f"frames={self.frames} every={self.every} size={self._size}"
        if as_features:
            self.cnn, self.notes = build_cnn(setup.str("cnn"), setup.str("weights"), self._size)
            shape = (self.frames, self.cnn.output_shape[-1])
            self._recipe += f" cnn={identity(self.cnn)}"
        folder = Path(setup.str("cache")) if setup.str("cache") else default_folder()
        cached = setup.source.path is not None and setup.str("cache") != NO_CACHE
        self.cache = ClipCache(folder, shape, np.float32 if as_features else np.uint8) if cached else None

    def of_pixels(self, pixels: Array) -> Array:
        """Features of clips, uint8, shape (n, frames, size, size, 3), or else their pixels as float32."""
        if self.cnn is None:
            return pixels.astype(np.float32)
        return features_of(self.cnn, pixels.reshape(-1, *pixels.shape[2:])).reshape(*pixels.shape[:2], -1)

    def pixels_of(self, path: Path) -> tuple[Array, int]:
        """Pixels of a clip of the user's, and how many frames it has."""
        return read_clip(path, self.frames, self.every, self._size)

    def of_file(self, path: Path, *, mirrored: bool = False) -> Array | None:
        """Features or uint8 pixels of a clip, from the cache if they are there; None if the clip is damaged."""

        def compute() -> tuple[Array, int]:
            pixels, count = self.pixels_of(path)
            pixels = pixels[:, :, ::-1] if mirrored else pixels
            return (pixels if self.cnn is None else self.of_pixels(pixels[np.newaxis])[0]), count

        try:
            if self.cache is None:
                array, count = compute()
            else:
                array, count = self.cache.get((content_hash(path), self._recipe, f"mirrored={mirrored}"), compute)
        except (DataError, OSError) as error:
            self.damaged.append(str(error))
            return None
        self.counts[count] += 1
        return array


def _offline(setup: Setup, reader: _Reader) -> Data:
    splits: dict[str, Split] = {}
    sample = np.empty(0)
    for number, name in enumerate(SPLITS):
        pixels, y = write_clips(setup.int(f"num_{name}"), (setup.seed, number), setup.int("frames"), setup.int("size"))
        if name == "train":
            sample = pixels[:_NUM_CALIBRATION_CLIPS]
            if reader.cnn is not None and setup.on("flip"):
                pixels, y = np.concatenate([pixels, pixels[:, :, :, ::-1]]), np.concatenate([y, y])
        splits[name] = _split(reader, reader.of_pixels(pixels), y)
    train, validation, test = splits.values()
    return Data(train, validation, test, labels=MOTIONS, files=_files(reader, sample), notes=tuple(reader.notes))


def _of_folder(folder: Path, setup: Setup, reader: _Reader) -> Data:
    found, notes = find_clips(folder, setup.int("fold"))
    splits, labels, more = split_examples(found, setup.seed, KIND)
    read: dict[str, Split] = {}
    for number, name in enumerate(SPLITS):
        examples = _limited(splits[name], setup.int("clips_per_class"), (setup.seed, number))
        mirror = name == "train" and reader.cnn is not None and setup.on("flip")
        read[name] = _read_split(reader, examples, labels, mirror=mirror)
        if not len(read[name]):
            reason = f" {reader.damaged[0]}" if reader.damaged else ""
            raise DataError(f"None of the clips in {folder} that can be read is for the {name} split.{reason}")
    sample = [] if reader.cnn is None else _sample(reader, splits["train"])
    all_notes = (*reader.notes, *notes, *more, *_notes_on_reading(reader), *_notes_on_cnn(setup, reader))
    train, validation, test = read.values()
    return Data(train, validation, test, labels=labels, files=_files(reader, sample), notes=all_notes)


def _read_split(reader: _Reader, examples: Sequence[Example], labels: Sequence[str], *, mirror: bool) -> Split:
    arrays: list[Array] = []
    y: list[int] = []
    for example in examples:
        for mirrored in (False, True) if mirror else (False,):
            array = reader.of_file(example.path, mirrored=mirrored)
            if array is None:
                break
            arrays.append(array)
            y.append(labels.index(example.label))
    x = np.stack(arrays).astype(np.float32) if arrays else np.empty((0, 1), np.float32)
    return _split(reader, x, np.array(y, np.int32))


def _split(reader: _Reader, x: Array, y: Array) -> Split:
    return Split({CLIP if reader.cnn is None else FEATURES: x}, y)


def _limited(examples: Sequence[Example], limit: int, seed: tuple[int, int]) -> list[Example]:
    """At most so many examples of each class."""
    if not limit:
        return list(examples)
    taken: Counter[str] = Counter()
    chosen = []
    for index in np.random.default_rng(seed).permutation(len(examples)):
        label = examples[index].label
        if taken[label] < limit:
            taken[label] += 1
            chosen.append(int(index))
    return [examples[index] for index in sorted(chosen)]


def _sample(reader: _Reader, examples: Sequence[Example]) -> list[Array]:
    """Pixels of some clips that can be read, spread over the split."""
    sample: list[Array] = []
    for index in np.random.default_rng(0).permutation(len(examples)):
        try:
            sample.append(reader.pixels_of(examples[index].path)[0])
        except (DataError, OSError):
            continue
        if len(sample) == _NUM_CALIBRATION_CLIPS:
            break
    return sample


def _files(reader: _Reader, sample: Sequence[Array] | Array) -> dict[str, Any]:
    """What an app needs where it runs the CNN itself: the CNN, and frames to calibrate it with."""
    if reader.cnn is None:
        return {}
    frames = np.concatenate(list(sample)).astype(np.float32)
    return {"features.keras": FeatureModel(reader.cnn), "features-calibration.npz": Frames(frames)}


def _notes_on_reading(reader: _Reader) -> list[str]:
    notes = []
    needed = (reader.frames - 1) * max(reader.every, 1) + 1
    short = sum(number for count, number in reader.counts.items() if count < needed)
    long = sum(number for count, number in reader.counts.items() if count > needed)
    if short or long:
        kept = "frames spread over them" if reader.every == 0 else "their middle"
        notes.append(
            f"Clips have {min(reader.counts)} to {max(reader.counts)} frames: {long} were longer than {needed} frames "
            f"and {kept} was read, {short} were shorter and frames were repeated."
        )
    if reader.damaged:
        notes.append(f"{len(reader.damaged)} clips were left out. {reader.damaged[0]}")
    if reader.cache is not None and reader.cache.problem:
        notes.append(f"What was computed from clips is not kept for the next run: {reader.cache.problem}")
    return notes


def _notes_on_cnn(setup: Setup, reader: _Reader) -> list[str]:
    if reader.cnn is None or setup.str("cnn") != SMALL:
        return []
    return [
        "Features come from the small CNN, which sees brightness only: for videos of the real world, "
        "cnn=efficientnetb0 with size=224 or the variant end_to_end will do better."
    ]
