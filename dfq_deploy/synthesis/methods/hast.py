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
    """Adam on the pixels, against a class loss that counts most where the teacher is unsure, and the statistics.

    ``loss = class_weight * mean((1 - p) ** hard * CE) + mean over the layers of MSE(mean) + MSE(var)``; images from 64
    pixels on are cropped and mirrored in every other iteration. The rate falls to a tenth whenever the loss stands
    still. The images are clipped to what pixels can be where that is known, which the paper does not do. Fields that
    are None take the paper's value for the image's size: of its ImageNet runs from 64 pixels on, of CIFAR-10's below.

    Args:
        schedule: ``paper`` has 1,000 iterations and a patience of 50; ``short`` 200 and 20 (chosen for CPUs: with 10
            the rate falls before the statistics have come near); ``auto`` is ``paper`` on a GPU, else ``short``.
        iterations: overrides the schedule's number.
        batch: largest number of images that are inverted together (the paper's 256; 64 of large ones in ``short``).
        learning_rate: Adam's first (the paper's 0.5).
        class_weight: the paper's beta, 0.1 and 10.
        hard: the paper's gamma, 0.5 and 2.
        crop: least share of the area that a crop keeps (the paper's 0.4 on ImageNet); 1 crops nothing.
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
        """Invert ``request.count`` images of the first teacher, classes spread evenly.

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

        def start(part: BatchPlan) -> Inversion:
            pixels = Pixels(noise(part.size, request, generator), rate, (0.9, 0.999), bounds, space)
            targets = None if part.targets is None else part.targets.to(device)
            objective = self.objective(teachers[0], request, targets)
            return Inversion("hast", pixels, objective, [Stage(iterations)], generator)

        batch = self.batch or (256 if paper or not is_large(request) else 64)
        parts = split_into_batches(request.count, batch, balanced_targets(request, generator))
        progress.start("hast", len(parts) * iterations)
        return collect(request, invert_batches(parts, start, progress, request), single_teacher_note("hast", teachers))

    def objective(self, teacher: Twin, request: SynthesisRequest, targets: Tensor | None) -> "HastObjective":
        """What one batch minimises: every None replaced by the paper's value for the size of the image."""
        paper = (0.1, 0.5, 0.4) if is_large(request) else (10.0, 2.0, 1.0)
        given = (self.class_weight, self.hard, self.crop)
        weight, hard, crop = (value if known is None else known for known, value in zip(given, paper, strict=True))
        return HastObjective(teacher, targets, weight, hard, crop)


class HastObjective(Objective):
    """HAST's loss.

    Args:
        targets: classes int64 (N,), on the device; None where the teacher does not classify.
        class_weight, hard, crop: as :class:`Hast` has them.
    """

    def __init__(self, teacher: Twin, targets: Tensor | None, class_weight: float, hard: float, crop: float) -> None:
        self.teacher, self.targets = teacher, targets
        self.class_weight, self.hard, self.crop = class_weight, hard, crop
        self.statistics = FeatureStatistics(teacher)

    def loss(self, seen: Tensor, generator: torch.Generator) -> Loss:
        """Of the images, or of crops of them."""
        if self.crop < 1 and torch.rand((), generator=generator) < 0.5:
            seen = random_crops(seen, self.crop, generator)
        with autocast(seen.device):
            scores, layers = self.statistics.run(seen)
        total = mean_squares(layers)
        terms = {"statistics": total}
        if self.targets is not None:
            terms["class"] = class_loss(scores.flatten(1).float(), self.targets, self.hard)
            total = total + self.class_weight * terms["class"]
        return Loss(total, lambda: {name: float(term.detach()) for name, term in terms.items()})

    def evaluate(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """The teacher's softmax, and the distance of the batch's statistics."""
        return soft_labels_and_distance([self.teacher], images, self.targets is not None)
