"""Speech: which keyword was spoken, or who spoke?

Clips of a second become log-mel features (`edgelstm.tasks.sounds.logmel`), which two LSTMs read frame by frame. Offline
data is synthesized (`edgelstm.tasks.sounds.spoken`): eight keywords, unknown words and silence, by speakers that no
other split has. A folder of one's own is in the layout of Speech Commands (`edgelstm.tasks.sounds.speech_commands`).

A good score is 98 %: with the default settings and seed 0 the variant lstm reached 98.5 % of the 600 test clips, in
float32 and in int8; the variant raw reached 98.3 %. A logistic regression on the mean features reached 53.7 %: words
differ in the order of their syllables. A training takes 80 to 110 s of processor time.

In int8 the variant raw is refused: its file decided 62.8 % of the test clips right, since 8 bits do not hold the
spectrum before the logarithm. With 8-bit weights (dynamic) it kept its score, 98.5 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.errors import DataError, SettingError
from edgelstm.tasks.base import OFFLINE, Array, Data, Saveable, Setup, Split, Task, Variant
from edgelstm.tasks.linear import class_probabilities, logistic_regression
from edgelstm.tasks.objectives import Classification
from edgelstm.tasks.settings import Setting
from edgelstm.tasks.sounds.loading import SPEAKER, Sound, Sounds, mix, num_samples, recorded, synthesized
from edgelstm.tasks.sounds.logmel import RATE, FrontEndFile, LogMel
from edgelstm.tasks.spaces import DROPOUT, LEARNING_RATE, UNITS, Range

if TYPE_CHECKING:
    import keras

RAW = "raw"
_CHUNK = 256


class SpeechTask(Task):
    """Keywords and speakers in short clips."""

    name = "speech"
    title = "keywords in short clips of speech"
    objective = Classification()
    variants: ClassVar[dict[str, Variant]] = {
        "lstm": Variant("log-mel features -> 2 x LSTM 64 -> keyword"),
        RAW: Variant("audio -> log-mel features -> 2 x LSTM 64 -> keyword, in one model"),
        SPEAKER: Variant(
            "log-mel features -> 2 x LSTM 64 -> speaker", {"num_speakers": 12, "epochs": 40, "patience": 10}
        ),
    }
    sources: ClassVar[dict[str, str]] = {OFFLINE: "words of 2 or 3 syllables, synthesized from a seed"}
    reads = "a folder in the layout of Speech Commands (yes/*.wav, no/*.wav, _background_noise_/*.wav)"
    defaults: ClassVar[dict[str, Setting]] = {
        "num_train": 2400,
        "num_validation": 300,
        "num_test": 600,
        "num_speakers": 60,
        "words": "",
        "max_per_word": 0,
        "min_clips": 10,
        "seconds": 1.0,
        "frame_ms": 30.0,
        "hop_ms": 20.0,
        "mels": 40,
        "copies": 0,
        "snr_low": 5.0,
        "snr_high": 20.0,
        "time_shift_ms": 0.0,
        "mask_ms": 0.0,
        "mask_mels": 0,
        "layers": 2,
        "units": 64,
        "dropout": 0.2,
    }
    training: ClassVar[dict[str, Setting]] = {
        "epochs": 12,
        "batch_size": 32,
        "learning_rate": 0.003,
        "schedule": "cosine",
    }
    space: ClassVar[dict[str, Range]] = {
        "units": UNITS,
        "dropout": DROPOUT,
        "learning_rate": LEARNING_RATE,
        "mels": Range(20, 60, step=10),
    }

    def load(self, setup: Setup) -> Data:
        """Makes or reads the clips, and their features unless the variant computes these itself.

        Returns:
            Input "features": float32, shape (n, frames, mels), standardized; or of the variant raw "audio": from -1
            to 1, float32, shape (n, samples). In `extra`: "front_end", a `LogMel`.

        Raises:
            DataError: If a clip cannot be read, or nothing can be learnt from what is there.
            SettingError: If a setting has an impossible value.
        """
        front_end, samples = _front_end(setup), num_samples(setup)
        path = setup.source.path
        sounds = synthesized(setup, samples) if path is None else recorded(setup, path, samples)
        if len(sounds.labels) < 2:
            raise DataError(f"{path} has clips of {sounds.labels[0]!r} alone. Give it a second class.")
        x, y = {}, {}
        for split, some in sounds.splits.items():
            copies = setup.int("copies") if split == "train" else 0
            x[split], y[split] = _arrays(some, sounds, copies, setup, front_end)
        files: dict[str, Saveable] = {}
        name = "audio" if setup.variant == RAW else "features"
        features = front_end.features(x["train"]) if setup.variant == RAW else x["train"]
        front_end = front_end.fitted(features)
        if setup.variant != RAW:
            x = {split: front_end.standardize(array).astype(np.float32) for split, array in x.items()}
            files = {"frontend.keras": FrontEndFile(front_end, samples), "frontend.json": front_end}
        train, validation, test = (Split({name: x[split]}, y[split]) for split in ("train", "validation", "test"))
        extra = {"front_end": front_end}
        return Data(train, validation, test, labels=sounds.labels, files=files, notes=sounds.notes(), extra=extra)

    def build(self, setup: Setup, data: Data) -> keras.Model:
        """Builds the model: features or audio, float32 -> probability of each class, shape (batch, classes)."""
        keras = import_keras()
        layers = keras.layers
        name, array = next(iter(data.train.x.items()))
        given = keras.Input(array.shape[1:], name=name, dtype="float32")
        x = data.extra["front_end"].layers(given) if setup.variant == RAW else given
        num_layers = setup.int("layers")
        for number in range(1, num_layers + 1):
            x = layers.LSTM(setup.int("units"), return_sequences=number < num_layers, name=f"lstm_{number}")(x)
            x = layers.Dropout(setup.float("dropout"), name=f"dropout_{number}")(x)
        answer = "speaker" if setup.variant == SPEAKER else "word"
        answered = layers.Dense(len(data.labels), activation="softmax", dtype="float32", name=answer)(x)
        return keras.Model(given, answered, name="speech")

    def augment(self, examples: Split, generator: np.random.Generator, setup: Setup) -> Split:
        """Shifts clips in time, and masks stretches of time and bands, as SpecAugment does.

        Sources: P. Warden, arXiv:1804.03209 (shifts); D. Park et al., arXiv:1904.08779 (masks).
        """
        ((name, x),) = examples.x.items()
        steps_per_ms = RATE / 1000 if setup.variant == RAW else 1 / setup.float("hop_ms")
        shift, length = (round(setup.float(key) * steps_per_ms) for key in ("time_shift_ms", "mask_ms"))
        bands = 0 if setup.variant == RAW else setup.int("mask_mels")
        if not (shift or length or bands):
            return examples
        x = _shifted(x, shift, generator) if shift else x.copy()
        for axis, longest in ((1, length), (2, bands)):
            if longest:
                _mask(x, axis, min(longest, x.shape[axis]), generator)
        return Split({name: x}, examples.y)

    def baselines(self, data: Data) -> dict[str, dict[str, float]]:
        """Scores a logistic regression on the mean features of a clip, which knows no order."""
        means = {split: _features(data, split).mean(axis=1) for split in ("train", "test")}
        model = logistic_regression(max_iter=2000).fit(means["train"], data.train.y)
        answers = class_probabilities(model, means["test"], len(data.labels))
        return {"mean spectrum": self.objective.score(answers, data.test.y)}


def _front_end(setup: Setup) -> LogMel:
    frame, hop = (round(setup.float(f"{name}_ms") * RATE / 1000) for name in ("frame", "hop"))
    for name, value in (
        ("frame_ms", frame),
        ("hop_ms", hop),
        ("mels", setup.int("mels")),
        ("layers", setup.int("layers")),
    ):
        if value < 1:
            raise SettingError(f"{name}={setup.settings[name]} must be larger.")
    _check_augmentation(setup)
    front_end = LogMel(frame, hop, setup.int("mels"))
    if not front_end.num_frames(num_samples(setup)):
        raise SettingError(
            f"seconds={setup.float('seconds'):g}: a clip must be as long as a frame, {setup.float('frame_ms'):g} ms."
        )
    if not front_end.bands().any(axis=0).all():
        raise SettingError(
            f"mels={front_end.mels}: some bands are narrower than a frame of {setup.float('frame_ms'):g} ms can tell "
            "apart. Choose fewer, or longer frames."
        )
    return front_end


def _check_augmentation(setup: Setup) -> None:
    for name in ("max_per_word", "copies", "time_shift_ms", "mask_ms", "mask_mels"):
        if setup.float(name) < 0:
            raise SettingError(f"{name}={setup.settings[name]} must not be negative.")
    if setup.float("snr_low") > setup.float("snr_high"):
        raise SettingError("snr_low must not be above snr_high.")


def _arrays(some: list[Sound], sounds: Sounds, copies: int, setup: Setup, front_end: LogMel) -> tuple[Array, Array]:
    """Inputs, not standardized, and class numbers; copies with noise behind the clips come after them."""
    numbers = {label: number for number, label in enumerate(sounds.labels)}
    some = [sound for sound in some if sound.label in numbers]
    generator = np.random.default_rng((setup.seed, 4))
    x, y = [], []
    for start in range(0, len(some), _CHUNK):
        chunk = some[start : start + _CHUNK]
        audio = np.stack([sound.read() for sound in chunk])
        for copy in range(1 + copies):
            heard = _with_noise(audio, sounds, generator, setup) if copy else audio
            x.append(heard if setup.variant == RAW else front_end.features(heard))
            y += [numbers[sound.label] for sound in chunk]
    return np.concatenate(x), np.array(y, np.int32)


def _with_noise(audio: Array, sounds: Sounds, generator: np.random.Generator, setup: Setup) -> Array:
    levels = generator.uniform(setup.float("snr_low"), setup.float("snr_high"), len(audio))
    return np.stack([mix(clip, sounds.background(generator), level) for clip, level in zip(audio, levels, strict=True)])


def _features(data: Data, split: str) -> Array:
    x = data.splits[split].x
    return x["features"] if "features" in x else data.extra["front_end"].features(x["audio"])


def _shifted(x: Array, most: int, generator: np.random.Generator) -> Array:
    """Clips shifted by up to `most` steps to and fro; silence, or more of the first or last frame, comes in."""
    shifts = generator.integers(-most, most + 1, len(x))[:, np.newaxis]
    steps = np.arange(x.shape[1]) - shifts
    rows = np.arange(len(x))[:, np.newaxis]
    shifted: Array = x[rows, np.clip(steps, 0, x.shape[1] - 1)]
    if x.ndim == 2:
        shifted[(steps < 0) | (steps >= x.shape[1])] = 0
    return shifted


def _mask(x: Array, axis: int, longest: int, generator: np.random.Generator) -> None:
    """Sets a stretch of each clip to 0, in place: silence of audio, the mean of standardized features."""
    for clip in x:
        length = generator.integers(longest + 1)
        start = generator.integers(x.shape[axis] - length + 1)
        clip[(slice(None),) * (axis - 1) + (slice(start, start + length),)] = 0
