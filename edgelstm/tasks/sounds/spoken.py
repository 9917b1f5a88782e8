"""Words that nobody spoke, written from a seed: source and filter, as in formant synthesizers.

A word is two or three syllables, a syllable a consonant and a vowel. Keywords are pairs of words with the same
syllables in another order, so the average spectrum of a clip does not tell them apart; unknown words are made of the
same syllables, and some of them begin as a keyword does. Each speaker has a pitch, a length of the vocal tract, a rate
and a breathiness of his own; each clip has its own melody, loudness, start and background noise.

Sources: G. Peterson and H. Barney, 1952, table II (formants of vowels); D. Klatt, 1980 (resonators in cascade).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from edgelstm.tasks.base import Array
from edgelstm.tasks.sounds.logmel import RATE

KEYWORDS = ("dako", "koda", "misu", "sumi", "dami", "mida", "kosu", "suko")
UNKNOWN_WORDS = ("dasu", "suda", "komi", "miko", "dakomi", "sumida", "lena", "nale")

_VOWELS = {"a": (730, 1090, 2440), "e": (530, 1840, 2480), "i": (270, 2290, 3010), "o": (570, 840, 2410)}
_VOWELS["u"] = (300, 870, 2240)
_HUMS = {"m": (250, 1000, 2200), "n": (250, 1500, 2500), "l": (360, 1300, 2700)}
# Seconds of closure and of noise, and the band of the noise in hertz.
_NOISES = {"d": (0.03, 0.015, 2500, 4500), "k": (0.05, 0.03, 1200, 2600), "s": (0.0, 0.1, 4200, 7200)}
_BANDWIDTHS = (70, 100, 150)


@dataclasses.dataclass(frozen=True)
class Voice:
    """A speaker.

    Attributes:
        pitch_hz: Mean pitch.
        tract: Factor of all formants: short vocal tracts have high ones.
        rate: Factor of the speed.
        breath: Share of noise in vowels.
    """

    pitch_hz: float
    tract: float
    rate: float
    breath: float

    @classmethod
    def of(cls, speaker: int, seed: int) -> Voice:
        """Returns the voice of a speaker, by number."""
        generator = np.random.default_rng((seed, 1, speaker))
        height = generator.uniform()
        return cls(
            pitch_hz=float(95 * 2 ** (1.2 * height) * generator.uniform(0.93, 1.07)),
            tract=float((0.92 + 0.22 * height) * generator.uniform(0.96, 1.04)),
            rate=float(generator.uniform(0.85, 1.15)),
            breath=float(generator.uniform(0.02, 0.2)),
        )


def speak(word: str, voice: Voice, generator: np.random.Generator, samples: int) -> Array:
    """Speaks a word somewhere in a clip, with noise behind it.

    Args:
        word: Syllables of two letters each; the empty word is silence, that is noise alone.
        voice: Who speaks.
        generator: Of everything that differs from clip to clip.
        samples: Length of the clip; a word that is longer is cut.

    Returns:
        Audio from -1 to 1, float32, shape (samples,).
    """
    clip = noise(generator, samples) * 10 ** generator.uniform(-2.5, -1.3)
    if word:
        spoken = _word(word, voice, generator)[:samples]
        start = generator.integers(0, samples - len(spoken) + 1)
        clip[start : start + len(spoken)] += spoken * 10 ** generator.uniform(-0.8, -0.2)
    clipped: Array = np.clip(clip, -1, 1).astype(np.float32)
    return clipped


def noise(generator: np.random.Generator, samples: int) -> Array:
    """Returns background noise between white and dull, root mean square 1, float64, shape (samples,)."""
    from scipy.signal import lfilter

    hiss: Array = lfilter([1.0], [1.0, -generator.uniform(0, 0.95)], generator.normal(size=samples))
    hiss /= np.sqrt(np.mean(hiss**2))
    return hiss


def _word(word: str, voice: Voice, generator: np.random.Generator) -> Array:
    """A word, largest absolute value 1."""
    parts: list[Array] = []
    melody = generator.uniform(0.9, 1.1) * np.linspace(1.08, generator.uniform(0.8, 1.0), len(word))
    pace = voice.rate * generator.uniform(0.9, 1.1)
    for letter, bend in zip(word, melody, strict=True):
        pitch = voice.pitch_hz * bend
        if letter in _NOISES:
            parts += _consonant(letter, voice, generator, pace)
        elif letter in _HUMS:
            parts.append(0.35 * _voiced(_HUMS[letter], 0.07 / pace, pitch, voice, generator))
        else:
            length = generator.uniform(0.1, 0.14) / pace
            parts.append(_voiced(_VOWELS[letter], length, pitch, voice, generator))
    spoken: Array = np.concatenate(parts)
    spoken /= np.abs(spoken).max()
    return spoken


def _consonant(letter: str, voice: Voice, generator: np.random.Generator, pace: float) -> list[Array]:
    closure, length, low, high = _NOISES[letter]
    hiss = generator.normal(size=int(length / pace * RATE))
    for _ in range(2):
        hiss = _resonate(hiss, (low + high) / 2 * voice.tract, high - low)
    return [np.zeros(int(closure / pace * RATE)), 0.25 * _faded(hiss / np.abs(hiss).max())]


def _voiced(
    formants: tuple[int, ...], length: float, pitch: float, voice: Voice, generator: np.random.Generator
) -> Array:
    """Pulses of the glottis and some breath through three resonators, one after the other."""
    from scipy.signal import lfilter

    samples = int(length * RATE)
    phase = np.arange(1, samples + 1) * (pitch * (1 + 0.01 * generator.normal()) / RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    source = lfilter([1.0], [1.0, -0.9], pulses + voice.breath * 0.1 * generator.normal(size=samples))
    for formant, bandwidth in zip(formants, _BANDWIDTHS, strict=True):
        source = _resonate(source, formant * voice.tract * generator.uniform(0.94, 1.06), bandwidth)
    return _faded(source / np.abs(source).max())


def _resonate(source: Array, frequency_hz: float, bandwidth_hz: float) -> Array:
    """Lets a sound through a resonator with two poles that leaves low frequencies as they are."""
    from scipy.signal import lfilter

    radius = np.exp(-np.pi * bandwidth_hz / RATE)
    poles = [1.0, -2 * radius * np.cos(2 * np.pi * min(frequency_hz, 0.45 * RATE) / RATE), radius**2]
    resonance: Array = lfilter([sum(poles)], poles, source)
    return resonance


def _faded(sound: Array) -> Array:
    """The sound with 5 ms of fading at its ends."""
    ramp = np.minimum(1, np.arange(1, len(sound) + 1) / (0.005 * RATE))
    faded: Array = sound * ramp * ramp[::-1]
    return faded
