"""Random crops of the photographs that the package ships."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfq_deploy.errors import ModelError
from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.photographs import CALIBRATION, photographs, suits_photographs
from dfq_deploy.samples.samples import Samples

if TYPE_CHECKING:
    from dfq_deploy.twin import Twin

__all__ = ["Photographs"]


@dataclass(frozen=True)
class Photographs(Synthesizer):
    """Twelve photographs in the public domain, cropped, scaled, mirrored and changed in exposure and tint without end.

    They say nothing about the model: they are a prior of what images look like, as crops of one photograph are in
    Asano and Saeed, "The Augmented Image Prior" (ICLR 2023). The verdict judges with other photographs.
    """

    summary: ClassVar[str] = "crops of twelve shipped photographs in the public domain; images only"
    needs_statistics: ClassVar[bool] = False
    needs_image: ClassVar[bool] = True

    def synthesize(self, teachers: "Sequence[Twin]", request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Draw ``request.count`` crops; without a preprocess they have mean 0 and standard deviation 1.

        Raises:
            ModelError: the input is not an image of one or three channels.
        """
        if not suits_photographs(request.shape):
            raise ModelError(
                f"photographs: an input of shape {request.shape} is not an image of 1 or 3 channels and at least 8 x 8 "
                "pixels; use --synth procedural"
            )
        progress.start("photographs", request.count)
        images = photographs(request.count, request.shape, request.preprocess, request.seed, CALIBRATION)
        progress.advance(request.count)
        return Samples(images)
