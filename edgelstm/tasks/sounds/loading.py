"""Where the clips of the speech task come from: a synthesizer or a folder, as one list for each split."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks.base import SPLITS, Array, Setup
from edgelstm.tasks.sounds import speech_commands, spoken
from edgelstm.tasks.sounds.logmel import RATE
from edgelstm.tasks.sounds.speech_commands import NOISE, SILENCE, UNKNOWN, Clip
from edgelstm.tasks.sounds.wav import WavReader

SPEAKER = "speaker"
"""The variant whose classes are speakers."""

Background = Callable[[np.random.Generator], Array]


@dataclasses.dataclass(frozen=True)
class Sound:
    """A clip with its class.

    Attributes:
        label: The class.
        read: Returns the audio, float32, shape (samples,).
    """

    label: str
    read: Callable[[], Array]


@dataclasses.dataclass(frozen=True)
class Sounds:
    """The clips of all splits.

    Attributes:
        splits: Clips by split.
        labels: The classes.
        background: Makes or cuts a clip of noise that belongs to training.
        notes: Returns what the user should know; to be asked when all clips are read.
    """

    splits: dict[str, list[Sound]]
    labels: tuple[str, ...]
    background: Background
    notes: Callable[[], tuple[str, ...]]


def synthesized(setup: Setup, samples: int) -> Sounds:
    """Clips of `spoken`: classes one after the other, with other speakers in each split unless these are the classes.

    Raises:
        SettingError: If there are too few clips or speakers.
    """
    by_speaker, num_speakers = setup.variant == SPEAKER, setup.int("num_speakers")
    least = 2 if by_speaker else len(SPLITS)
    if num_speakers < least:
        raise SettingError(f"num_speakers={num_speakers}: at least {least} are needed.")
    labels = (
        tuple(f"speaker_{number}" for number in range(num_speakers))
        if by_speaker
        else (*spoken.KEYWORDS, UNKNOWN, SILENCE)
    )
    speakers = dict.fromkeys(SPLITS, range(num_speakers)) if by_speaker else _shared_out(num_speakers)
    splits = {}
    for number, split in enumerate(SPLITS):
        size = setup.int(f"num_{split}")
        if size < len(labels):
            raise SettingError(f"num_{split}={size}: at least {len(labels)} clips are needed, one of each class.")
        splits[split] = [
            _synthesized(labels[index % len(labels)], index // len(labels), speakers[split], (number, index), setup)
            for index in range(size)
        ]
    return Sounds(splits, labels, lambda generator: spoken.noise(generator, samples), lambda: ())


def _shared_out(num_speakers: int) -> dict[str, range]:
    """Numbers of the speakers of each split: about a sixth, at least one, for validation and for testing."""
    some = max(1, num_speakers // 6)
    return {
        "train": range(2 * some, num_speakers),
        "validation": range(some),
        "test": range(some, 2 * some),
    }


def _synthesized(label: str, turn: int, speakers: range, position: tuple[int, int], setup: Setup) -> Sound:
    """One clip; each class goes through the speakers in turn, each speaker through the words."""
    samples = num_samples(setup)

    def read() -> Array:
        generator = np.random.default_rng((setup.seed, 2, *position))
        speaker, word = speakers[turn % len(speakers)], label
        if setup.variant == SPEAKER:
            speaker, word = int(label.rpartition("_")[2]), str(generator.choice(spoken.KEYWORDS))
        elif label == UNKNOWN:
            word = str(generator.choice(spoken.UNKNOWN_WORDS))
        elif label == SILENCE:
            word = ""
        return spoken.speak(word, spoken.Voice.of(speaker, setup.seed), generator, samples)

    return Sound(label, read)


def recorded(setup: Setup, folder: Path, samples: int) -> Sounds:
    """Clips of a folder in the layout of Speech Commands.

    Raises:
        DataError: If a clip cannot be read, or nothing can be learnt from what is there.
    """
    clips, reader = speech_commands.find_clips(folder), WavReader(samples)
    if setup.variant == SPEAKER:
        splits, notes = speech_commands.split_each_speaker(clips, setup.int("min_clips"))
        labels = sorted({clip.speaker for clip in splits["train"]})
        return Sounds(
            {split: [_recorded(clip, clip.speaker, reader) for clip in some] for split, some in splits.items()},
            tuple(labels),
            _Noises(folder, reader).background("train"),
            lambda: (*notes, *reader.notes()),
        )
    words = _keywords(setup, clips, folder)
    splits, notes = speech_commands.split_by_speaker(folder, clips)
    chosen = {
        split: speech_commands.choose_words(some, words, setup.int("max_per_word")) for split, some in splits.items()
    }
    labels = _labels(words, clips, chosen["train"])
    for split, some in chosen.items():
        if not any(clip.word in labels for clip in some):
            raise DataError(f"{folder}: the {split} split has no clip of a word that is learnt. Add clips.")
    sounds = {split: [_recorded(clip, clip.word, reader) for clip in some] for split, some in chosen.items()}
    noises = _Noises(folder, reader)
    if noises.recordings:
        labels += [SILENCE] if SILENCE not in labels else []
        for number, split in enumerate(SPLITS):
            count = max(1, len(sounds[split]) // max(1, len(labels) - 1))
            sounds[split] += [noises.silence(split, (setup.seed, 3, number, index)) for index in range(count)]
    else:
        notes = (*notes, f"There is no folder {NOISE} with WAV files, so silence is not learnt from it.")
    return Sounds(sounds, tuple(labels), noises.background("train"), lambda: (*notes, *reader.notes()))


def num_samples(setup: Setup) -> int:
    """Returns the samples in a clip."""
    return round(setup.float("seconds") * RATE)


def mix(clip: Array, noise: Array, decibels: float) -> Array:
    """Adds noise to a clip.

    Args:
        clip: Shape (samples,).
        noise: Of the same shape; its loudness does not matter.
        decibels: By how much the power of the clip is to be above that of the noise, both over the whole clip.

    Returns:
        The mixture, float32, cut off at -1 and 1; the clip as it is where one of the two is silent.
    """
    powers = np.mean(np.square(clip, dtype=np.float64)), np.mean(np.square(noise, dtype=np.float64))
    if min(powers) == 0:
        return clip
    gain = np.sqrt(powers[0] / powers[1]) * 10 ** (-decibels / 20)
    mixture: Array = np.clip(clip + gain * noise, -1, 1).astype(np.float32)
    return mixture


class _Noises:
    """Recordings without words; the splits use different parts of each: 80, 10 and 10 % of its length."""

    def __init__(self, folder: Path, reader: WavReader) -> None:
        self._samples = reader.samples
        self.recordings = [reader.read_whole(path) for path in speech_commands.wav_files(folder / NOISE)]

    def background(self, split: str) -> Background:
        """Cuts clips out of the recordings; without recordings they are made."""
        if not self.recordings:
            return lambda generator: spoken.noise(generator, self._samples)
        return lambda generator: self._cut(split, generator)

    def silence(self, split: str, seed: tuple[int, ...]) -> Sound:
        """A clip of noise, as loud as recorded or less."""

        def read() -> Array:
            generator = np.random.default_rng(seed)
            return self._cut(split, generator) * np.float32(generator.uniform())

        return Sound(SILENCE, read)

    def _cut(self, split: str, generator: np.random.Generator) -> Array:
        recording = self.recordings[generator.integers(len(self.recordings))]
        first, last = {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}[split]
        part = recording[int(first * len(recording)) : max(int(first * len(recording)) + 1, int(last * len(recording)))]
        if len(part) < self._samples:
            part = np.resize(part, self._samples)
        start = generator.integers(len(part) - self._samples + 1)
        return part[start : start + self._samples]


def _recorded(clip: Clip, label: str, reader: WavReader) -> Sound:
    return Sound(label, lambda: reader.read(clip.path))


def _keywords(setup: Setup, clips: Sequence[Clip], folder: Path) -> list[str]:
    words = [word.strip() for word in setup.str("words").split(",") if word.strip()]
    there = sorted({clip.word for clip in clips})
    missing = [word for word in words if word not in there]
    if missing:
        raise DataError(f"{folder} has no WAV files of the word {missing[0]!r}. Its words are {', '.join(there)}.")
    return list(dict.fromkeys(words))


def _labels(words: list[str], clips: Sequence[Clip], train: Sequence[Clip]) -> list[str]:
    """The keywords in the order that was asked for, then what is unknown."""
    known = words or sorted({clip.word for clip in clips})
    others = [UNKNOWN] if words and any(clip.word == UNKNOWN for clip in train) and UNKNOWN not in words else []
    learnt = {clip.word for clip in train}
    missing = [word for word in known if word not in learnt]
    if missing:
        raise DataError(f"No clip of {missing[0]!r} is left to be trained on. Add clips of it by more speakers.")
    return known + others
