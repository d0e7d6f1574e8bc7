"""GENIE: latents and generator, batch by batch (Jeon et al., CVPR 2023).

GENIE's synthesis: latent vectors and a generator are optimized jointly for each batch (Jeon et al., CVPR 2023).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.plugins.options import check_options, is_large, is_paper, require_batch_norm, single_teacher_note
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.generators.latents import GenieGenerator, Latents
from dfq_deploy.synthesis.generators.networks import Geometry
from dfq_deploy.synthesis.inversion.batches import BatchPlan, collect, invert_batches, split_into_batches
from dfq_deploy.synthesis.inversion.loop import Inversion, Loss, Objective, Stage
from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics, LayerStatistics
from dfq_deploy.synthesis.losses.per_image_statistics import image_distance, image_space, standard_deviation
from dfq_deploy.synthesis.losses.soft_labels import soft_labels_and_distance
from dfq_deploy.synthesis.losses.swing_convolution import with_swing_convolutions
from dfq_deploy.twin import Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["Genie", "GenieObjective", "standard_distance"]


@dataclass(frozen=True)
class Genie(Synthesizer):
    """Optimizes latent vectors and a new generator for each batch with Adam, without classes, with swing convolutions.

    ``loss = sum over the layers of ||mean - mu||^2 / C + ||std - sigma||^2 / C``, plus the squared distance of each
    image's own mean and standard deviation from 0 and 1 (or from those of photographs, if the input is not
    normalised by the statistics of its own data). The learning rate of the latents is divided by ten when the loss
    reaches a plateau; that of the generator decays by 5 % at a time.

    Args:
        schedule: ``paper`` has 4,000 iterations per batch, patience 100 and a decay of the generator's rate every 100;
            ``short`` a tenth of all three (chosen for CPUs); ``auto`` is ``paper`` on a GPU and ``short`` elsewhere.
        iterations: overrides the number of the schedule.
        batch: maximum number of images in a batch (128 in the paper; 32 for large images in ``short``).
        latent: length of the latent vectors (256 in the paper).
        latent_rate, generator_rate: initial learning rates of Adam (0.1 and 0.01 in the paper).
        swing: maximum shift of the input of a strided convolution, in pixels (1 in the paper; 0 for none).
    """

    schedule: str = "auto"
    iterations: int | None = None
    batch: int | None = None
    latent: int = 256
    latent_rate: float = 0.1
    generator_rate: float = 0.01
    swing: int = 1

    summary: ClassVar[str] = "latents and a generator per batch against statistics (GENIE, Jeon et al., CVPR 2023)"
    needs_statistics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options("genie", self.schedule, iterations=self.iterations, batch=self.batch, latent=self.latent)

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Synthesize ``request.count`` images for the first teacher, with its softmax as labels.

        Raises:
            ModelError: the teacher has no BatchNormalization, or its input is not an image.
            SamplesError: the images became NaN.
        """
        require_batch_norm("genie", teachers[:1])
        generator = torch.Generator().manual_seed(request.seed)
        paper = is_paper(self.schedule, request)
        iterations = self.iterations or (4000 if paper else 400)
        objective = GenieObjective(teachers[0], request, self.swing, generator)

        def start(plan: BatchPlan) -> Inversion:
            return Inversion(
                "genie", self.parameters(plan.size, request, generator), objective, [Stage(iterations)], generator
            )

        plans = split_into_batches(request.count, self.batch or (128 if paper or not is_large(request) else 32), None)
        progress.start("genie", len(plans) * iterations)
        return collect(request, invert_batches(plans, start, progress, request), single_teacher_note("genie", teachers))

    def parameters(self, size: int, request: SynthesisRequest, generator: torch.Generator) -> Latents:
        """New latents and a new generator, initialised from ``generator``."""
        device = torch.device(request.device)
        latents = torch.randn(size, self.latent, generator=generator).to(device)
        # torch's initialisers draw from the global generator, whose state is restored afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            network = GenieGenerator(Geometry(self.latent, request.shape), request).to(device)
        every = 100 if is_paper(self.schedule, request) else 10
        return Latents(latents, network, self.latent_rate, self.generator_rate, every)


class GenieObjective(Objective):
    """GENIE's loss, on a teacher with swing convolutions.

    Args:
        reach: maximum shift in pixels; 0 for none.
    """

    def __init__(self, teacher: Twin, request: SynthesisRequest, reach: int, generator: torch.Generator) -> None:
        self.teacher, self.has_classes = teacher, request.classes is not None
        self.statistics = FeatureStatistics(with_swing_convolutions(teacher, reach, generator) if reach else teacher)
        self.space = image_space(request)

    def loss(self, images: Tensor, generator: torch.Generator) -> Loss:
        """The loss of the images."""
        with autocast(images.device):
            _, layers = self.statistics.run(images)
        total = standard_distance(layers) + image_distance(images, self.space)
        return Loss(total, lambda: {"statistics": float(total.detach())})

    def evaluate(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """The softmax of the teacher without swing, and the distance of its statistics."""
        return soft_labels_and_distance([self.teacher], images, self.has_classes)


def standard_distance(layers: Sequence[LayerStatistics]) -> Tensor:
    """The sum over the layers of the mean squared errors of mean and standard deviation."""
    errors = [(layer.mean - layer.running_mean).square().mean() for layer in layers]
    errors += [
        (standard_deviation(layer.var) - standard_deviation(layer.running_var)).square().mean() for layer in layers
    ]
    return torch.stack(errors).sum()
