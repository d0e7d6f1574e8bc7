"""HAST: images that the teacher finds hard (Li et al., CVPR 2023).

HAST's synthesis: images that the teacher finds hard (Li et al., CVPR 2023).
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
from dfq_deploy.synthesis.inversion.batches import (
    BatchPlan,
    balanced_targets,
    collect,
    invert_batches,
    split_into_batches,
)
from dfq_deploy.synthesis.inversion.image_augmentation import random_crops
from dfq_deploy.synthesis.inversion.loop import Inversion, Loss, Objective, Stage
from dfq_deploy.synthesis.inversion.optimizers import Pixels, Plateau, noise, pixel_bounds
from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics, mean_squares
from dfq_deploy.synthesis.losses.image_priors import class_loss
from dfq_deploy.synthesis.losses.per_image_statistics import image_space
from dfq_deploy.synthesis.losses.soft_labels import soft_labels_and_distance
from dfq_deploy.twin import Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["Hast", "HastObjective"]


@dataclass(frozen=True)
class Hast(Synthesizer):
    """Optimizes pixels with Adam for the statistics and a class loss that emphasises images the teacher is unsure of.

    ``loss = class_weight * mean((1 - p) ** hard * CE) + mean over the layers of MSE(mean) + MSE(var)``; images from 64
    pixels on are cropped and flipped with probability 0.5 in each iteration. The learning rate is divided by ten when
    the loss reaches a plateau. Unlike in the paper, the images are clamped to valid pixel values if the preprocess is
    known. Options that are None take the paper's value for the image size: that of its ImageNet runs from 64 pixels on,
    that of its CIFAR-10 runs below.

    Args:
        schedule: ``paper`` has 1,000 iterations and a patience of 50; ``short`` 200 and 20 (chosen for CPUs: with 10
            the rate falls before the statistics are matched); ``auto`` is ``paper`` on a GPU, else ``short``.
        iterations: overrides the number of the schedule.
        batch: maximum number of images in a batch (256 in the paper; 64 for large images in ``short``).
        learning_rate: initial learning rate of Adam (0.5 in the paper).
        class_weight: beta of the paper, 0.1 (ImageNet) and 10 (CIFAR-10).
        hard: gamma of the paper, 0.5 (ImageNet) and 2 (CIFAR-10).
        crop: minimum share of the area that a crop keeps (0.4 on ImageNet in the paper); 1 disables crops.
    """

    schedule: str = "auto"
    iterations: int | None = None
    batch: int | None = None
    learning_rate: float = 0.5
    class_weight: float | None = None
    hard: float | None = None
    crop: float | None = None

    summary: ClassVar[str] = "pixels against statistics and a class loss for hard samples (HAST, Li et al., CVPR 2023)"
    needs_statistics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options("hast", self.schedule, iterations=self.iterations, batch=self.batch)

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Invert the first teacher into ``request.count`` images with balanced classes.

        Raises:
            ModelError: the teacher has no BatchNormalization.
            SamplesError: the images became NaN.
        """
        require_batch_norm("hast", teachers[:1])
        generator = torch.Generator().manual_seed(request.seed)
        paper, device, bounds = is_paper(self.schedule, request), torch.device(request.device), pixel_bounds(request)
        iterations = self.iterations or (1000 if paper else 200)
        space = image_space(request)

        def rate(_: int) -> Plateau:
            return Plateau(self.learning_rate, 50 if paper else 20, 1e-4, device)

        def start(plan: BatchPlan) -> Inversion:
            pixels = Pixels(noise(plan.size, request, generator), rate, (0.9, 0.999), bounds, space)
            targets = None if plan.targets is None else plan.targets.to(device)
            objective = self.objective(teachers[0], request, targets)
            return Inversion("hast", pixels, objective, [Stage(iterations)], generator)

        batch = self.batch or (256 if paper or not is_large(request) else 64)
        plans = split_into_batches(request.count, batch, balanced_targets(request, generator))
        progress.start("hast", len(plans) * iterations)
        return collect(request, invert_batches(plans, start, progress, request), single_teacher_note("hast", teachers))

    def objective(self, teacher: Twin, request: SynthesisRequest, targets: Tensor | None) -> "HastObjective":
        """The objective of one batch; every None is replaced by the paper's value for the image size."""
        defaults = (0.1, 0.5, 0.4) if is_large(request) else (10.0, 2.0, 1.0)
        options = (self.class_weight, self.hard, self.crop)
        weight, hard, crop = (
            default if option is None else option for option, default in zip(options, defaults, strict=True)
        )
        return HastObjective(teacher, targets, weight, hard, crop)


class HastObjective(Objective):
    """HAST's loss.

    Args:
        targets: classes int64 (N,), on the device; None if the teacher does not classify.
        class_weight, hard, crop: as in :class:`Hast`.
    """

    def __init__(self, teacher: Twin, targets: Tensor | None, class_weight: float, hard: float, crop: float) -> None:
        self.teacher, self.targets = teacher, targets
        self.class_weight, self.hard, self.crop = class_weight, hard, crop
        self.statistics = FeatureStatistics(teacher)

    def loss(self, images: Tensor, generator: torch.Generator) -> Loss:
        """The loss of the images, or of crops of them."""
        if self.crop < 1 and torch.rand((), generator=generator) < 0.5:
            images = random_crops(images, self.crop, generator)
        with autocast(images.device):
            scores, layers = self.statistics.run(images)
        total = mean_squares(layers)
        terms = {"statistics": total}
        if self.targets is not None:
            terms["class"] = class_loss(scores.flatten(1).float(), self.targets, self.hard)
            total = total + self.class_weight * terms["class"]
        return Loss(total, lambda: {name: float(term.detach()) for name, term in terms.items()})

    def evaluate(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """The softmax of the teacher, and the distance of the batch statistics."""
        return soft_labels_and_distance([self.teacher], images, self.targets is not None)
