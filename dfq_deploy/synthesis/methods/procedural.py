"""Procedural images: dead leaves and signals, no model needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.blur import gaussian_blur
from dfq_deploy.synthesis.procedural.signals import SHORTEST, signal

if TYPE_CHECKING:
    from dfq_deploy.twin import Twin

__all__ = ["Procedural"]

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Procedural(Synthesizer):
    """The dead leaves model: opaque discs that occlude each other, with radii distributed as 1 / r^3.

    The edges, contrasts and power spectrum are those of natural images (Lee, Mumford, Huang 2001,
    "Occlusion models for natural images"; Baradad et al. 2021 train networks on them). Each disc has
    its own colour, gradient and texture, and each image its own exposure, so that a set
    contains dark, bright, low-contrast and high-contrast images, as photographs do. Each is blurred at random: a lens
    and a sensor never give the edges of one pixel that a rule draws, and below 8 bits such edges cost accuracy.

    Args:
        discs: number of discs in one image.
        smallest: minimum radius, as a fraction of the shorter side of the image.
        texture: maximum standard deviation of the texture of a disc, in units of the pixel range.
        sharpest, softest: least and greatest standard deviation of the Gaussian blur of an image, in pixels.
    """

    discs: int = 160
    smallest: float = 0.03
    texture: float = 0.08
    sharpest: float = 0.3
    softest: float = 1.0

    summary: ClassVar[str] = "dead-leaves pictures made by rule, for models with no BatchNormalization left"
    needs_statistics: ClassVar[bool] = False

    def synthesize(self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Draw ``request.count`` images; without a preprocess they have mean 0 and standard deviation 1.

        An input that is not an image (rank other than 3) gets signals (:mod:`dfq_deploy.synthesis.procedural.signals`),
        within the bounds if the preprocess has one channel, or Gaussian values if no axis is long enough for a signal.
        """
        generator = np.random.default_rng(request.seed)
        progress.start("procedural", request.count)
        samples = np.empty((request.count, *request.shape), np.float32)
        for index in range(request.count):
            samples[index] = self._sample(request, generator)
            progress.advance()
        if not _is_bounded(request):
            samples -= samples.mean()
            samples /= samples.std() + np.float32(1e-6)
        return Samples(samples)

    def _sample(self, request: SynthesisRequest, generator: np.random.Generator) -> Pixels:
        if not request.shape:
            return np.asarray(generator.standard_normal(dtype=np.float32))
        if len(request.shape) != 3:
            return _series(request, generator)
        picture = self.picture(*request.shape, generator)
        if request.preprocess is None:
            return picture
        low, high = (bound[:, None, None] for bound in request.preprocess.bounds(request.shape[0]))
        scaled: Pixels = picture * (high - low) + low
        return scaled

    def picture(self, channels: int, height: int, width: int, generator: np.random.Generator) -> Pixels:
        """Draw one image, float32 (channels, height, width) in [0, 1]."""
        side = min(height, width)
        # Inverse of the cumulative distribution of 1 / r^3 between the minimum radius and the whole side.
        uniform = generator.random(self.discs)
        radii = side * self.smallest / np.sqrt(1 - uniform * (1 - self.smallest**2))
        centres = generator.random((self.discs, 2)) * (height, width)
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        owner = np.zeros((height, width), np.intp)
        for disc, (radius, (row, column)) in enumerate(zip(radii, centres, strict=True), start=1):
            owner[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = disc
        painted = self._paint(owner, channels, rows / side, columns / side, generator)
        return self._expose(gaussian_blur(painted, generator.uniform(self.sharpest, self.softest)), generator)

    def _paint(
        self, owner: NDArray[np.intp], channels: int, rows: Pixels, columns: Pixels, generator: np.random.Generator
    ) -> Pixels:
        count = self.discs + 1
        # Brightness varies more than hue, as in photographs.
        colour = generator.random((count, 1)) + generator.normal(0, 0.15, (count, channels))
        slope = generator.normal(0, 0.3, (2, count, 1))
        grain = generator.random((count, 1)) * self.texture
        shade = slope[0][owner] * rows[..., None] + slope[1][owner] * columns[..., None]
        noise = generator.standard_normal((*owner.shape, 1)) * grain[owner]
        painted = colour[owner] + shade - shade.mean() + noise
        return np.asarray(painted.transpose(2, 0, 1), np.float32)

    @staticmethod
    def _expose(picture: Pixels, generator: np.random.Generator) -> Pixels:
        brightness, contrast = generator.uniform(0.3, 0.7), generator.uniform(0.4, 1.2)
        exposed: Pixels = (picture - picture.mean()) * np.float32(contrast) + np.float32(brightness)
        return exposed.clip(0, 1)


def _is_bounded(request: SynthesisRequest) -> bool:
    """True if the preprocess bounds the samples: images always, signals if it has one channel."""
    preprocess = request.preprocess
    if preprocess is None:
        return False
    return len(request.shape) == 3 or (len(preprocess.mean) == 1 and _is_signal(request.shape))


def _is_signal(shape: tuple[int, ...]) -> bool:
    return max(shape, default=0) >= SHORTEST


def _series(request: SynthesisRequest, generator: np.random.Generator) -> Pixels:
    if not _is_signal(request.shape):
        return generator.standard_normal(request.shape, dtype=np.float32).cumsum(axis=-1, dtype=np.float32)
    waves = signal(request.shape, generator)
    if not _is_bounded(request) or request.preprocess is None:
        return waves
    (low,), (high,) = request.preprocess.bounds(1)
    scaled: Pixels = low + (waves + 1) / 2 * (high - low)
    return scaled
