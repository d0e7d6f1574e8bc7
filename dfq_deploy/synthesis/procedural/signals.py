"""Procedural signals: sound, vibration, series."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHORTEST", "signal"]

Waves = NDArray[np.float32]

SHORTEST = 32
"""A longest axis of fewer values holds no time, only features."""

TONES = 4
"""Notes in one signal, at most."""

HARMONICS = 8

QUIETEST = 0.05
"""Of the largest value: a set holds loud and quiet signals, as a microphone's does."""


def signal(shape: tuple[int, ...], generator: np.random.Generator) -> Waves:
    """One signal along the longest axis of ``shape``, float32 in [-1, 1].

    Up to four notes with harmonics that start at some time and decay, on noise whose power falls off as 1 / f^a, with
    a of 0 (white) to 2 (brown): most natural series have such spectra (Voss and Clarke 1975, "1/f noise in music and
    speech"). What stands along the other axes are channels, which share the notes at gains of their own.
    """
    axis = int(np.argmax(shape))
    length, channels = shape[axis], int(np.prod(shape)) // shape[axis]
    sources = [_note(length, generator) for _ in range(int(generator.integers(TONES + 1)))]
    sources.append(_noise(length, generator) * np.float32(10 ** generator.uniform(-2.5, 0)))
    gains = np.ones((1, len(sources))) if channels == 1 else generator.standard_normal((channels, len(sources)))
    waves = gains.astype(np.float32) @ np.stack(sources)
    loudness = QUIETEST ** generator.random()
    waves *= np.float32(loudness / max(float(np.abs(waves).max()), 1e-12))
    rest = [size for index, size in enumerate(shape) if index != axis]
    return np.ascontiguousarray(np.moveaxis(waves.reshape(*rest, length), -1, axis))


def _note(length: int, generator: np.random.Generator) -> Waves:
    """A pitch and its harmonics from some time on; the pitch is anything from two periods in all to four samples."""
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
    """Noise of standard deviation 1 whose power falls off as 1 / f^a."""
    frequencies = np.maximum(np.fft.rfftfreq(length), 1 / length)
    phases = generator.standard_normal((2, len(frequencies)))
    spectrum = (phases[0] + 1j * phases[1]) * frequencies ** (-generator.uniform(0, 2) / 2)
    wave = np.fft.irfft(spectrum, length)
    return np.asarray((wave - wave.mean()) / max(float(wave.std()), 1e-12), np.float32)
