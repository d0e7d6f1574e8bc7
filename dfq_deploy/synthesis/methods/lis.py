"""Learning in School: several teachers invert one set (Li et al., 2020).

Learning in School: several teachers invert one set together (Li et al., arXiv 2011.09899; MixMix, ICCV 2021).
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
from dfq_deploy.synthesis.inversion.loop import Inversion
from dfq_deploy.synthesis.inversion.objective import DeepInversionObjective
from dfq_deploy.synthesis.inversion.optimizers import Cosine, Pixels, noise, pixel_bounds
from dfq_deploy.synthesis.losses.per_image_statistics import wide_image_space
from dfq_deploy.synthesis.methods.deepinversion import BETAS, DeepInversion, usable
from dfq_deploy.synthesis.teacher_hierarchy import draw, hierarchy, profile
from dfq_deploy.twin import Twin

__all__ = ["Lis"]


@dataclass(frozen=True)
class Lis(Synthesizer):
    """DeepInversion's descent with several teachers: the statistics and the class loss of those drawn are averaged.

    ``loss = mean over the drawn teachers of (class_weight * CE + feature_weight * R_feature) + image priors``. Each
    batch draws its teachers from a hierarchy of courses (:mod:`dfq_deploy.synthesis.teacher_hierarchy` has the rule),
    from similar ones to diverse ones, and some iterations mix data: a box of pixels of one trainable image is pasted
    into another, and the labels are mixed by its area. The papers name no numbers of teachers, weights or iterations;
    what is not said below to be chosen otherwise is DeepInversion's, for the size of the image. With one teacher it is
    DeepInversion with mixed data.

    Tried with ResNet-20, ResNet-56 and WRN-16-1 for another ResNet-20, W4A4 with biases corrected, 256 images, the
    ``short`` schedule, seeds 0 and 1, on CIFAR-10 training images: 6.2 dB signal to noise with two teachers a batch and
    mixing, 6.1 without mixing, 6.1 with three teachers, 5.9 with one, 6.0 with batches of 128; each teacher's own set
    6.3, 6.4 and 5.7 dB (the last for one seed), the model's own 5.0. So a set of several is as good as the mean of
    theirs; it spares the choice.

    Args:
        schedule, iterations, learning_rate: as ``deepinversion`` has them; ``paper`` and ``short`` are its schedules.
        class_weight, feature_weight, first_multiplier, tv_l2, l2: the same.
        jitter, flip, hard: the same.
        batch: largest number of images that are inverted together: 64, or 32 large ones, so that a small set draws
            teachers several times (chosen for that, not by experiment).
        together: largest number of teachers of a batch; 2 takes twice the time of one.
        mixing: share of the iterations that mix; no clear gain was seen, and it is in MixMix.
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
        """Invert ``request.count`` images, classes spread evenly; the labels are the drawn teachers' mean softmax.

        Raises:
            ModelError: a teacher has no BatchNormalization.
            SamplesError: the images became NaN.
        """
        require_batch_norm("lis", teachers)
        base = self._base(request)
        weights = replace(base.weights(request), mixing=self.mixing)
        peak: float = base.settings(request)["learning_rate"]
        generator = torch.Generator().manual_seed(request.seed)
        parts = split_into_batches(request.count, base.settings(request)["batch"], balanced_targets(request, generator))
        stages = usable(base.stages(request), teachers, request)
        levels = hierarchy([profile(teacher) for teacher in teachers])
        bounds, space = pixel_bounds(request), wide_image_space(request)

        def start(part: BatchPlan) -> Inversion:
            drawn = [teachers[index] for index in draw(levels, part.index, len(parts), self.together, generator)]
            pixels = Pixels(noise(part.size, request, generator), partial(Cosine, peak), BETAS, bounds, space)
            targets = None
            if part.targets is not None and request.classes is not None:
                whole = torch.nn.functional.one_hot(part.targets, request.classes) if self.mixing else part.targets
                targets = (whole.float() if self.mixing else whole).to(request.device)
            return Inversion(
                "lis", pixels, DeepInversionObjective(weights, drawn, targets, None, space), stages, generator
            )

        progress.start("lis", len(parts) * sum(stage.iterations for stage in stages))
        return collect(request, invert_batches(parts, start, progress, request))

    def _base(self, request: SynthesisRequest) -> DeepInversion:
        """The descent that this is one of, with its options."""
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
