"""ZeroQ: each image matches the statistics by itself (Cai et al., CVPR 2020).

ZeroQ's distilled data: each single image has the statistics of the training data (Cai et al., CVPR 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.plugins.options import check_options, is_paper, require_batch_norm, single_teacher_note
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.inversion.batches import BatchPlan, collect, invert_batches, split_into_batches
from dfq_deploy.synthesis.inversion.loop import Inversion, Loss, Objective, Stage
from dfq_deploy.synthesis.inversion.optimizers import Pixels, Plateau, noise, pixel_bounds
from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics
from dfq_deploy.synthesis.losses.per_image_statistics import (
    image_distance,
    image_moments,
    image_space,
    squared_distance,
    standard_deviation,
)
from dfq_deploy.synthesis.losses.soft_labels import soft_labels_and_distance
from dfq_deploy.twin import Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["ZeroQ", "ZeroQObjective"]


@dataclass(frozen=True)
class ZeroQ(Synthesizer):
    """Optimizes pixels with Adam for the statistics of each image at each BatchNormalization, without classes.

    ``loss = sum over the layers of mean over the images of ||mean_i - mu||^2 + ||std_i - sigma||^2``, with the image
    itself as an additional layer of mean 0 and standard deviation 1 (or those of photographs, if the input is not
    normalised by the statistics of its own data). The learning rate is divided by ten when the loss reaches a plateau,
    as in the paper. Unlike in the paper, the images are clamped to valid pixel values if the preprocess is known.

    Args:
        schedule: ``paper`` has 500 iterations and a patience of 100; ``short`` a fifth of both (chosen for CPUs);
            ``auto`` is ``paper`` on a GPU and ``short`` elsewhere.
        iterations: overrides the number of the schedule.
        batch: maximum number of images in a batch (64 in the paper).
        learning_rate: initial learning rate of Adam (0.5 in the paper).
    """

    schedule: str = "auto"
    iterations: int | None = None
    batch: int = 64
    learning_rate: float = 0.5

    summary: ClassVar[str] = "distilled data: each image by itself has the training statistics (Cai et al., CVPR 2020)"
    needs_statistics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options("zeroq", self.schedule, iterations=self.iterations, batch=self.batch)

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Synthesize ``request.count`` images from the first teacher, with its softmax as labels.

        Raises:
            ModelError: the teacher has no BatchNormalization.
            SamplesError: the images became NaN.
        """
        require_batch_norm("zeroq", teachers[:1])
        generator = torch.Generator().manual_seed(request.seed)
        number, patience = (500, 100) if is_paper(self.schedule, request) else (100, 20)
        iterations = self.iterations or number
        device, bounds = torch.device(request.device), pixel_bounds(request)
        objective = ZeroQObjective(teachers[0], request)

        def rate(_: int) -> Plateau:
            return Plateau(self.learning_rate, patience, 1e-4, device)

        def start(plan: BatchPlan) -> Inversion:
            first = noise(plan.size, request, generator)
            pixels = Pixels(first, rate, (0.9, 0.999), bounds, objective.space)
            return Inversion("zeroq", pixels, objective, [Stage(iterations)], generator)

        plans = split_into_batches(request.count, self.batch, None)
        progress.start("zeroq", len(plans) * iterations)
        return collect(request, invert_batches(plans, start, progress, request), single_teacher_note("zeroq", teachers))


class ZeroQObjective(Objective):
    """ZeroQ's loss.

    Args:
        request: its preprocess determines the target mean and standard deviation of an image.
    """

    def __init__(self, teacher: Twin, request: SynthesisRequest) -> None:
        self.teacher, self.has_classes = teacher, request.classes is not None
        self.statistics = FeatureStatistics(teacher, image_moments)
        self.space = image_space(request)

    def loss(self, images: Tensor, generator: torch.Generator) -> Loss:
        """The loss of the images."""
        with autocast(images.device):
            _, layers = self.statistics.run(images)
        total = image_distance(images, self.space)
        for layer in layers:
            total = total + squared_distance(layer.mean, layer.running_mean)
            total = total + squared_distance(standard_deviation(layer.var), standard_deviation(layer.running_var))
        return Loss(total, lambda: {"statistics": float(total.detach())})

    def evaluate(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """The softmax of the teacher, and the distance of the batch statistics."""
        return soft_labels_and_distance([self.teacher], images, self.has_classes)
