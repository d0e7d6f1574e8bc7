"""Textures: noise with a power law, and waves."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TextureBank"]

Pixels = NDArray[np.float32]

WAVES = 1 / 3
"""Fraction of the textures that are waves; the others are noise."""

STEEPEST = 2.5
FLATTEST = 0.5
"""The amplitude of noise falls as 1 / f^s, with s between these."""


@dataclass(frozen=True, eq=False)
class TextureBank:
    """A number of textures that repeat at their borders, drawn once for a set of pictures.

    Args:
        fields: float32 (K, H, W), each of mean 0 and standard deviation 1.
    """

    fields: Pixels

    @classmethod
    def drawn(cls, size: tuple[int, int], count: int, generator: np.random.Generator) -> "TextureBank":
        """Draw ``count`` textures of ``size`` (H, W), two thirds noise and one third waves.

        The proportions and slopes are those of VibrantLeaves (Achddou et al. 2025, arXiv 2504.10201, section 3).
        """
        fields = np.empty((count, *size), np.float32)
        for field in fields:
            drawn = _waves(size, generator) if generator.random() < WAVES else _noise(size, generator)
            field[:] = (drawn - drawn.mean()) / max(float(drawn.std()), 1e-6)
        return cls(fields)

    def some(self, count: int, generator: np.random.Generator) -> Pixels:
        """Return ``count`` of the textures, float32 (count, H, W), each shifted at random."""
        chosen = generator.integers(len(self.fields), size=count)
        shifts = generator.random((count, 2)) * self.fields.shape[1:]
        return np.stack(
            [
                np.roll(self.fields[index], (int(down), int(across)), (0, 1))
                for index, (down, across) in zip(chosen, shifts, strict=True)
            ]
        )


def _noise(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    frequencies = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))
    frequencies[0, 0] = 1
    slope = generator.uniform(FLATTEST, STEEPEST)
    spectrum = np.fft.rfft2(generator.standard_normal(size)) * frequencies**-slope
    spectrum[0, 0] = 0
    noise: NDArray[np.float64] = np.fft.irfft2(spectrum, size)
    return noise


def _waves(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float64]:
    """Stripes or checks of two to a quarter of the side's pixels in a period, bent by smooth noise."""
    bend = _noise(size, generator)
    bend *= generator.uniform(0, 2) / max(float(bend.std()), 1e-6)
    waves = np.ones(size)
    for _ in range(int(generator.integers(1, 3))):
        period = np.exp(generator.uniform(np.log(4), np.log(max(min(size) / 4, 5))))
        angle = generator.uniform(0, np.pi)
        down = np.rint(np.sin(angle) * size[0] / period) / size[0]
        across = np.rint(np.cos(angle) * size[1] / period) / size[1]
        waves *= np.sin(2 * np.pi * np.add.outer(down * np.arange(size[0]), across * np.arange(size[1])) + bend)
    return waves
