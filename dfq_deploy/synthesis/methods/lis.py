"""Learning in School: several teachers invert one set (Li et al., 2020).

Learning in School: one set is inverted from several teachers (Li et al., arXiv 2011.09899; MixMix, ICCV 2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch

from dfq_deploy.errors import OptionError
from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.plugins.options import check_options, is_large, require_batch_norm
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.inversion.batches import (
    BatchPlan,
    balanced_targets,
    collect,
    invert_batches,
    split_into_batches,
)
from dfq_deploy.synthesis.inversion.loop import Inversion, work_of
from dfq_deploy.synthesis.inversion.objective import DeepInversionObjective
from dfq_deploy.synthesis.inversion.optimizers import Cosine, Pixels, noise, pixel_bounds
from dfq_deploy.synthesis.losses.per_image_statistics import wide_image_space
from dfq_deploy.synthesis.methods.deepinversion import BETAS, DeepInversion, usable
from dfq_deploy.synthesis.teacher_hierarchy import draw_teachers, hierarchy, profile
from dfq_deploy.twin import Twin

__all__ = ["Lis"]


@dataclass(frozen=True)
class Lis(Synthesizer):
    """DeepInversion with several teachers, whose statistics losses and class losses are averaged.

    ``loss = mean over the drawn teachers of (class_weight * CE + feature_weight * R_feature) + image priors``. The
    teachers of each batch are drawn from a hierarchy (:mod:`dfq_deploy.synthesis.teacher_hierarchy` has the rules),
    from similar to diverse ones, and some iterations mix data: a box of pixels of one trainable image is pasted
    into another, and the labels are mixed by its area. The papers do not state the number of teachers, the weights or
    the iterations; unless noted below, they are DeepInversion's for the image size. With one teacher the method is
    DeepInversion with mixed data.

    Tried with ResNet-20, ResNet-56 and WRN-16-1 for another ResNet-20, W4A4 with biases corrected, 256 images, the
    ``short`` schedule, seeds 0 and 1, on CIFAR-10 training images: 6.2 dB signal to noise with two teachers a batch and
    mixing, 6.1 without mixing, 6.1 with three teachers, 5.9 with one, 6.0 with batches of 128; each teacher's own set
    6.3, 6.4 and 5.7 dB (the last for one seed), the model's own 5.0. So a set from several teachers is as good as the
    mean of the sets from each of them, without the need to choose one.

    Args:
        schedule, iterations, learning_rate: as in ``deepinversion``; ``paper`` and ``short`` are its schedules.
        class_weight, feature_weight, first_multiplier, tv_l2, l2: as in ``deepinversion``.
        jitter, flip, hard: as in ``deepinversion``.
        batch: maximum number of images in a batch: 64, or 32 for large images, so that teachers are drawn several
            times for a small set (chosen for that, not by experiment).
        together: maximum number of teachers of a batch; 2 takes twice the time of one.
        mixing: share of the iterations that mix data; it showed no clear gain, and is part of MixMix.
    """

    schedule: str = "auto"
    iterations: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    class_weight: float = 1.0
    feature_weight: float | None = None
    first_multiplier: float = 10.0
    tv_l2: float | None = None
    l2: float | None = None
    jitter: int | None = None
    flip: bool = True
    hard: float = 0.0
    together: int = 2
    mixing: float = 0.5

    summary: ClassVar[str] = "several teachers invert one set together (Learning in School / MixMix, ICCV 2021)"
    needs_statistics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options("lis", self.schedule, iterations=self.iterations, batch=self.batch, together=self.together)
        if not 0 <= self.mixing <= 1:
            raise OptionError(f"lis: mixing={self.mixing:g} must be a share from 0 to 1")

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Synthesize ``request.count`` images with balanced classes; the labels are the mean softmax of the teachers.

        Raises:
            ModelError: a teacher has no BatchNormalization.
            SamplesError: the images became NaN.
        """
        require_batch_norm("lis", teachers)
        base = self._base(request)
        weights = replace(base.weights(request), mixing=self.mixing)
        peak: float = base.settings(request)["learning_rate"]
        generator = torch.Generator().manual_seed(request.seed)
        plans = split_into_batches(request.count, base.settings(request)["batch"], balanced_targets(request, generator))
        stages = usable(base.stages(request), teachers, request)
        levels = hierarchy([profile(teacher) for teacher in teachers])
        bounds, space = pixel_bounds(request), wide_image_space(request)

        def start(plan: BatchPlan) -> Inversion:
            drawn = [
                teachers[index] for index in draw_teachers(levels, plan.index, len(plans), self.together, generator)
            ]
            pixels = Pixels(noise(plan.size, request, generator), partial(Cosine, peak), BETAS, bounds, space)
            targets = None
            if plan.targets is not None and request.classes is not None:
                one_hot = torch.nn.functional.one_hot(plan.targets, request.classes).float()
                targets = (one_hot if self.mixing else plan.targets).to(request.device)
            return Inversion(
                "lis", pixels, DeepInversionObjective(weights, drawn, targets, None, space), stages, generator
            )

        progress.start("lis", len(plans) * work_of(stages))
        return collect(request, invert_batches(plans, start, progress, request))

    def _base(self, request: SynthesisRequest) -> DeepInversion:
        """DeepInversion with the options of this method."""
        return DeepInversion(
            schedule=self.schedule,
            iterations=self.iterations,
            batch=self.batch or (32 if is_large(request) else 64),
            learning_rate=self.learning_rate,
            class_weight=self.class_weight,
            feature_weight=self.feature_weight,
            first_multiplier=self.first_multiplier,
            tv_l2=self.tv_l2,
            l2=self.l2,
            jitter=self.jitter,
            flip=self.flip,
            hard=self.hard,
        )
