"""Low-pass filter on the samples of any method (SynQ, Kim et al., ICLR 2025)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from dfq_deploy.errors import OptionError
from dfq_deploy.plugins.contracts import Generative, Source, Student, SynthesisRequest, Synthesizer
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.inversion.optimizers import pixel_bounds

if TYPE_CHECKING:
    from dfq_deploy.twin import Twin

__all__ = ["REFERENCE", "LowPass", "low_pass", "low_passed"]

REFERENCE = 224
"""Image size in pixels that the radius refers to."""

CHUNK = 64
"""Number of images that are filtered at once."""


def low_pass(images: Tensor, radius: float) -> Tensor:
    """Multiply the spectrum of images (N, C, H, W) by the Gaussian ``exp(-D^2 / (2 radius^2))``.

    ``D`` is the distance from frequency 0 in periods per 224 pixels, so that a radius removes the same details
    at any image size; at 224 pixels it is SynQ's distance in the centred Fourier transform.
    SynQ selects the radius from 20 to 100 (80 in its code); smaller values give smoother images.
    """
    height, width = images.shape[-2:]
    rows = torch.fft.fftfreq(height, device=images.device)[:, None] * REFERENCE
    columns = torch.fft.rfftfreq(width, device=images.device)[None] * REFERENCE
    gain = torch.exp(-(rows**2 + columns**2) / (2 * radius**2))
    smooth: Tensor = torch.fft.irfft2(torch.fft.rfft2(images.float()) * gain, s=(height, width))
    return smooth


@dataclass(frozen=True)
class LowPass(Synthesizer):
    """Applies a low-pass filter to the samples of another method.

    Labels and figures are those of the method, computed on the unfiltered samples.

    Args:
        method: the other method.
        radius: as in :func:`low_pass`.
    """

    method: Synthesizer
    radius: float

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise OptionError(
                f"lowpass={self.radius:g} must be above 0; SynQ uses 20 to 100, smaller values give smoother images"
            )

    @property
    def name(self) -> str:
        """The method's."""
        return self.method.name

    @property
    def schedule(self) -> str:
        """The method's."""
        return self.method.schedule

    @property
    def iterations(self) -> int | None:
        """The method's."""
        return self.method.iterations

    @property
    def summary(self) -> str:  # type: ignore[override]
        """The method's."""
        return self.method.summary

    @property
    def needs_statistics(self) -> bool:  # type: ignore[override]
        """The method's."""
        return self.method.needs_statistics

    @property
    def needs_twin(self) -> bool:  # type: ignore[override]
        """The method's."""
        return self.method.needs_twin

    def synthesize(self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """The samples of the method, filtered and clamped to valid pixel values; non-images are left unchanged."""
        samples = self.method.synthesize(teachers, request, progress)
        if samples.images.ndim != 4:
            return samples
        images = np.empty_like(samples.images)
        for first in range(0, len(images), CHUNK):
            chunk = torch.from_numpy(np.ascontiguousarray(samples.images[first : first + CHUNK]))
            images[first : first + CHUNK] = _filtered(chunk, self.radius, replace(request, device="cpu")).numpy()
        return replace(samples, images=images)


@dataclass(frozen=True)
class _GenerativeLowPass(LowPass, Generative):
    """Applies a low-pass filter to everything that is drawn from the source of a generative method."""

    method: Generative

    def prepare(self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT) -> Source:
        """The method's source, filtered."""
        return _Filtered(self.method.prepare(teachers, request, progress), self.radius, request)

    def source(self, teachers: "Sequence[Twin]", request: SynthesisRequest) -> Source:
        """The method's source, filtered."""
        return _Filtered(self.method.source(teachers, request), self.radius, request)


class _Filtered(Source):
    """A source whose samples are filtered; its training is unchanged."""

    def __init__(self, source: Source, radius: float, request: SynthesisRequest) -> None:
        self.source, self.radius, self.request = source, radius, request

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """New samples, filtered."""
        images, labels = self.source.draw(count, generator)
        return _filtered(images, self.radius, self.request), labels

    def adapt(self, students: Sequence[Student], generator: Generator) -> dict[str, float]:
        """One step of the source."""
        return self.source.adapt(students, generator)

    def state(self) -> dict[str, Any]:
        """The state of the source."""
        return self.source.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the state that :meth:`state` returned."""
        self.source.restore(state)


def low_passed(method: Synthesizer, radius: float) -> LowPass:
    """Add a low-pass filter to ``method``; a generative method stays generative.

    Raises:
        OptionError: the radius is not above 0.
    """
    return _GenerativeLowPass(method, radius) if isinstance(method, Generative) else LowPass(method, radius)


def _filtered(images: Tensor, radius: float, request: SynthesisRequest) -> Tensor:
    if images.ndim != 4:
        return images
    smooth, bounds = low_pass(images, radius), pixel_bounds(request)
    return smooth if bounds is None else smooth.clamp(*bounds)
