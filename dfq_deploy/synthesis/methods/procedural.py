"""Procedural samples: pictures and signals drawn by rule, no model needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import OptionError
from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.pictures import Camera, Pictures
from dfq_deploy.synthesis.procedural.signals import QUIETEST, SHORTEST, SOUND_QUIETEST, signal

if TYPE_CHECKING:
    from dfq_deploy.twin import Twin

__all__ = ["Procedural"]

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Procedural(Synthesizer):
    """Pictures with the edges, occlusions, spectrum, depth and exposure of photographs, and signals.

    Most pictures are dead leaves: opaque shapes that occlude each other, with radii distributed as 1 / r^3 (Lee,
    Mumford, Huang 2001, "Occlusion models for natural images"), with textures and depth of field as in VibrantLeaves
    (arXiv 2504.10201). The others are pages, signs, face-like pictures and skies
    (:mod:`dfq_deploy.synthesis.procedural.pictures`). Each is blurred at random and has its own exposure.

    Args:
        texture: maximum standard deviation of a texture, in units of the pixel range.
        sharpest, softest: least and greatest standard deviation of the Gaussian blur of a picture, in pixels.
    """

    texture: float = 0.15
    sharpest: float = 0.3
    softest: float = 1.0

    summary: ClassVar[str] = "pictures and signals drawn by rule, for models with no BatchNormalization left"
    needs_statistics: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.texture < 0 or not 0 <= self.sharpest <= self.softest:
            raise OptionError(
                f"procedural: texture={self.texture:g}, sharpest={self.sharpest:g}, softest={self.softest:g}; none is "
                "negative, and sharpest is at most softest"
            )

    def synthesize(self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Draw ``request.count`` samples; without a preprocess they have mean 0 and standard deviation 1.

        An input that is not an image (rank other than 3) gets signals (:mod:`dfq_deploy.synthesis.procedural.signals`),
        within the bounds if the preprocess has one channel, or Gaussian values if no axis is long enough for a signal.
        """
        generator = np.random.default_rng(request.seed)
        progress.start("procedural", request.count)
        samples = self._drawn(request, generator, progress)
        if not _is_bounded(request):
            samples -= samples.mean()
            samples /= samples.std() + np.float32(1e-6)
        return Samples(samples)

    def _drawn(self, request: SynthesisRequest, generator: np.random.Generator, progress: Progress) -> Pixels:
        if len(request.shape) == 3:
            channels, height, width = request.shape
            rule = Pictures(self.texture, Camera(self.sharpest, self.softest))
            samples = rule.draw(request.count, (channels, height, width), generator, progress)
            if request.preprocess is not None:
                request.preprocess.normalize(samples)
            return samples
        samples = np.empty((request.count, *request.shape), np.float32)
        for index in range(request.count):
            samples[index] = _series(request, generator)
            progress.advance()
        return samples


def _is_bounded(request: SynthesisRequest) -> bool:
    """True if the preprocess bounds the samples: images always, signals if it has one channel."""
    preprocess = request.preprocess
    if preprocess is None:
        return False
    return len(request.shape) == 3 or (len(preprocess.mean) == 1 and _is_signal(request.shape))


def _is_signal(shape: tuple[int, ...]) -> bool:
    return max(shape, default=0) >= SHORTEST


def _series(request: SynthesisRequest, generator: np.random.Generator) -> Pixels:
    if not request.shape:
        return np.asarray(generator.standard_normal(dtype=np.float32))
    if not _is_signal(request.shape):
        return generator.standard_normal(request.shape, dtype=np.float32).cumsum(axis=-1, dtype=np.float32)
    waves = signal(request.shape, generator, SOUND_QUIETEST if _is_bounded(request) else QUIETEST)
    if not _is_bounded(request) or request.preprocess is None:
        return waves
    (low,), (high,) = request.preprocess.bounds(1)
    scaled: Pixels = low + (waves + 1) / 2 * (high - low)
    return scaled
