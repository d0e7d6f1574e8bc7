"""Noise, uniform or Gaussian: the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dfq_deploy.errors import OptionError
from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples

if TYPE_CHECKING:
    from dfq_deploy.twin import Twin

__all__ = ["Noise"]


@dataclass(frozen=True)
class Noise(Synthesizer):
    """Independent random values in the model's input space.

    Args:
        distribution: ``uniform`` in [0, 1), as in ModelOpt and Polygraphy, or ``gaussian``, N(0, 1).
    """

    distribution: str = "uniform"

    summary: ClassVar[str] = "uniform or Gaussian noise: the baseline that other tools fall back on"
    needs_statistics: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.distribution not in ("uniform", "gaussian"):
            raise OptionError(f"noise: distribution '{self.distribution}' is neither uniform nor gaussian")

    def synthesize(self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Draw ``request.count`` samples; the teachers are not used."""
        generator = np.random.default_rng(request.seed)
        shape = (request.count, *request.shape)
        progress.start("noise", 1)
        if self.distribution == "uniform":
            images = generator.random(shape, dtype=np.float32)
        else:
            images = generator.standard_normal(shape, dtype=np.float32)
        progress.advance()
        return Samples(images)
