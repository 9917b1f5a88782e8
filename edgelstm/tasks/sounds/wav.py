"""WAV files, whatever their rate, width and number of channels, as clips of one length."""

from __future__ import annotations

import dataclasses
import math
import struct
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import DataError, MissingExtraError
from edgelstm.tasks.base import Array
from edgelstm.tasks.sounds.logmel import RATE

# What scipy raises on damaged headers; the last one by mistake, in some versions where there is no sound at all.
_FAULTS = (OSError, ValueError, struct.error, ZeroDivisionError, OverflowError, MemoryError, UnboundLocalError)


def read_wav(path: Path) -> tuple[Array, int]:
    """Reads a WAV file: integers of 8, 16, 24 or 32 bits or floats; channels are mixed down to their mean.

    Returns:
        Audio, float32, shape (samples,), where full scale is 1; and its rate in samples per second.

    Raises:
        DataError: If it cannot be read, is cut off, holds no sound, or something that is no number.
        MissingExtraError: If scipy is not installed.
    """
    wavfile = _import_wavfile()
    try:
        with warnings.catch_warnings():
            # Chunks with titles and the like say nothing about the sound; that a file is cut off is a warning, too.
            warnings.simplefilter("error", wavfile.WavFileWarning)
            warnings.filterwarnings("ignore", r"Chunk \(non-data\)", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except (*_FAULTS, wavfile.WavFileWarning) as error:
        raise DataError(f"Cannot read {path} as a WAV file: {_reason(error)}. Replace or remove it.") from error
    audio = _to_floats(samples)
    if audio.ndim == 2:
        audio = audio.mean(axis=1)
    if not len(audio) or rate < 1:
        raise DataError(f"The WAV file {path} is empty. Replace or remove it.")
    if not np.isfinite(audio).all():
        raise DataError(f"The WAV file {path} holds NaN or infinity. Replace or remove it.")
    return audio.astype(np.float32), int(rate)


def resample(audio: Array, rate: int) -> Array:
    """Brings audio from a rate to `RATE`, filtered against aliases.

    Args:
        audio: Shape (samples,).
        rate: In samples per second.
    """
    if rate == RATE:
        return audio
    from scipy.signal import resample_poly

    divisor = math.gcd(rate, RATE)
    result: Array = resample_poly(audio.astype(np.float64), RATE // divisor, rate // divisor).astype(np.float32)
    return result


def fit_length(audio: Array, samples: int) -> Array:
    """Fills a clip up with zeros, or cuts it, on both sides alike.

    Args:
        audio: Shape (any,).
        samples: The length it is to have.
    """
    surplus = len(audio) - samples
    if surplus >= 0:
        return audio[surplus // 2 : surplus // 2 + samples]
    return np.pad(audio, (-surplus // 2, -surplus - -surplus // 2))


@dataclasses.dataclass
class WavReader:
    """Reads clips of one rate and length, and counts what it had to change.

    Attributes:
        samples: Samples in a clip.
        rates: How many clips were brought from each rate.
        padded, cut: How many clips were too short, too long.
    """

    samples: int
    rates: Counter[int] = dataclasses.field(default_factory=Counter)
    padded: int = 0
    cut: int = 0

    def read(self, path: Path) -> Array:
        """Reads a clip: float32, shape (samples,). Raises DataError."""
        audio = self.read_whole(path)
        self.padded += len(audio) < self.samples
        self.cut += len(audio) > self.samples
        return fit_length(audio, self.samples)

    def read_whole(self, path: Path) -> Array:
        """Reads a file in its own length. Raises DataError."""
        audio, rate = read_wav(path)
        if rate != RATE:
            self.rates[rate] += 1
        return resample(audio, rate)

    def notes(self) -> tuple[str, ...]:
        """Says what was changed."""
        notes = [
            f"{count} files of {rate} samples per second were brought to {RATE}." for rate, count in self.rates.items()
        ]
        seconds = self.samples / RATE
        if self.padded:
            notes.append(f"{self.padded} clips are shorter than {seconds:g} s and were filled up with silence.")
        if self.cut:
            notes.append(f"{self.cut} clips are longer than {seconds:g} s; only their middle is used.")
        return tuple(notes)


def _to_floats(samples: Array) -> Array:
    """Integers by their full scale; scipy gives 24 bits as the upper ones of 32, and 8 bits without a sign."""
    if samples.dtype.kind == "f":
        return samples
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    return samples / np.float64(2 ** (8 * samples.dtype.itemsize - 1))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text[:150] or type(error).__name__


def _import_wavfile() -> Any:
    try:
        import scipy.io.wavfile
    except ImportError as error:
        raise MissingExtraError('WAV files are read with scipy: pip install "edgelstm[train]".') from error
    return scipy.io.wavfile
