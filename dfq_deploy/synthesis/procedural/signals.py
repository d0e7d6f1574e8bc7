"""Procedural signals: sound, vibration, series."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUIETEST", "SHORTEST", "SOUND_QUIETEST", "signal"]

Waves = NDArray[np.float32]

SHORTEST = 32
"""A longest axis of fewer values is not a time axis, only features."""

TONES = 4
"""Maximum number of notes in one signal."""

HARMONICS = 8

QUIETEST = 0.05
"""Minimum of the peak amplitude: a set contains loud and quiet signals, as recordings do."""

SOUND_QUIETEST = 0.01
"""The same of sound between -1 and 1: 40 dB, from the full scale of a microphone to a voice far from it."""


def signal(shape: tuple[int, ...], generator: np.random.Generator, quietest: float = QUIETEST) -> Waves:
    """Draw one signal along the longest axis of ``shape``, float32 in [-1, 1].

    Up to four notes with harmonics that start at a random time and decay, on noise with a power spectrum of 1 / f^a,
    a from 0 (white) to 2 (brown): most natural time series have such spectra (Voss and Clarke 1975, "1/f noise in music
    and speech"). The other axes are channels, which contain the same notes with different gains.
    """
    axis = int(np.argmax(shape))
    length, channels = shape[axis], int(np.prod(shape)) // shape[axis]
    sources = [_note(length, generator) for _ in range(int(generator.integers(TONES + 1)))]
    sources.append(_noise(length, generator) * np.float32(10 ** generator.uniform(-2.5, 0)))
    gains = np.ones((1, len(sources))) if channels == 1 else generator.standard_normal((channels, len(sources)))
    waves = gains.astype(np.float32) @ np.stack(sources)
    loudness = quietest ** generator.random()
    waves *= np.float32(loudness / max(float(np.abs(waves).max()), 1e-12))
    rest = [size for index, size in enumerate(shape) if index != axis]
    return np.ascontiguousarray(np.moveaxis(waves.reshape(*rest, length), -1, axis))


def _note(length: int, generator: np.random.Generator) -> Waves:
    """A fundamental and its harmonics from a random start; its period is from four samples to half the signal."""
    time = np.arange(length, dtype=np.float32)
    pitch = np.exp(generator.uniform(np.log(2 / length), np.log(0.25)))
    falls, start = generator.uniform(0.5, 2), generator.uniform(-0.2, 0.8) * length
    decay = np.exp(generator.uniform(np.log(0.5), np.log(20))) / length
    after = np.maximum(time - np.float32(start), 0)
    envelope = np.exp(-np.float32(decay) * after) * (time >= start)
    wave = np.zeros(length, np.float32)
    for harmonic in range(1, HARMONICS + 1):
        if harmonic * pitch < 0.5:
            wave += np.sin(np.float32(2 * np.pi * harmonic * pitch) * after) / np.float32(harmonic**falls)
    return np.asarray(wave * envelope, np.float32)


def _noise(length: int, generator: np.random.Generator) -> Waves:
    """Noise of standard deviation 1 with a power spectrum of 1 / f^a."""
    frequencies = np.maximum(np.fft.rfftfreq(length), 1 / length)
    phases = generator.standard_normal((2, len(frequencies)))
    spectrum = (phases[0] + 1j * phases[1]) * frequencies ** (-generator.uniform(0, 2) / 2)
    wave = np.fft.irfft(spectrum, length)
    return np.asarray((wave - wave.mean()) / max(float(wave.std()), 1e-12), np.float32)
