"""A synthesis method of somebody else's: plane waves of random direction, wavelength and colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dfq_deploy import Samples
from dfq_deploy.plugins.contracts import Synthesizer
from dfq_deploy.progress import SILENT, Progress

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import SynthesisRequest
    from dfq_deploy.twin import Twin


@dataclass(frozen=True)
class Stripes(Synthesizer):
    """``contrast`` is an option: ``--option contrast=0.5``, in units of the input's standard deviation."""

    contrast: float = 1.0

    summary: ClassVar[str] = "plane waves, as an example of a third-party method"
    needs_statistics: ClassVar[bool] = False

    def synthesize(
        self, teachers: "Sequence[Twin]", request: "SynthesisRequest", progress: Progress = SILENT
    ) -> Samples:
        """Draw ``request.count`` pictures (C, H, W); the same seed gives the same ones."""
        rng = np.random.default_rng(request.seed)
        channels, height, width = request.shape
        rows, columns = np.mgrid[:height, :width]
        waves = rng.uniform(-np.pi, np.pi, (2, request.count, 1, 1, 1))
        phase = rng.uniform(0, 2 * np.pi, (request.count, channels, 1, 1))
        images = self.contrast * np.sin(waves[0] * rows + waves[1] * columns + phase)
        return Samples(images.astype(np.float32))
