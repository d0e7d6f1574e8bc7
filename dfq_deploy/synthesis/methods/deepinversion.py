"""DeepInversion: gradient descent on the pixels (Yin et al., CVPR 2020).

DeepInversion: images optimized by gradient descent on the pixels (Yin et al., CVPR 2020, arXiv 1912.08795).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar

import torch

from dfq_deploy.errors import ModelError
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
from dfq_deploy.synthesis.inversion.loop import Inversion, Stage, work_of
from dfq_deploy.synthesis.inversion.objective import CompetingModel, DeepInversionObjective, LossWeights, first_output
from dfq_deploy.synthesis.inversion.optimizers import Cosine, Pixels, noise, pixel_bounds
from dfq_deploy.synthesis.losses.per_image_statistics import wide_image_space
from dfq_deploy.twin import Twin

__all__ = ["BETAS", "DeepInversion", "usable"]


@dataclass(frozen=True)
class DeepInversion(Synthesizer):
    """Optimizes the pixels of a batch with Adam for class scores, feature statistics and image priors.

    ``loss = class_weight * CE + feature_weight * R_feature + tv_l2 * TV_l2 + tv_l1 * TV_l1 + l2 * ||x||
    + competition * (1 - JS)``, on images that are shifted and flipped at random in each iteration. The
    learning rate of every stage has a warm-up and cosine annealing, and the images are clamped to valid
    pixel values. Options that are None take the paper's value for the image size: that of its
    ImageNet runs from 64 pixels on, that of its CIFAR-10 runs below.

    Args:
        schedule: ``paper`` has the paper's 2,000 iterations (and 1,000 more at full resolution for large
            images); ``short`` has the same losses and a tenth of the iterations, for CPUs, and on small images
            a feature weight of 1 instead of 10: the statistics are matched as closely, and the class scores
            are as distinct as on real images (measured on resnet20_kd and CIFAR-10 training images);
            ``auto`` is ``paper`` on a GPU and ``short`` elsewhere.
        iterations: overrides the number of the schedule; large images use two thirds of them at half resolution.
        batch: maximum number of images in a batch.
        learning_rate: peak learning rate of Adam.
        class_weight: weight of the cross-entropy with the target classes.
        feature_weight: weight of the distance of the feature statistics.
        first_multiplier: factor on the statistics of the first layer.
        tv_l2, tv_l1, l2: weights of the image priors.
        jitter: maximum shift in pixels at full resolution.
        flip: flip the batch horizontally with probability 0.5 in each iteration.
        competition: weight of adaptive competition (0.2 in the paper): with the second teacher if there is one, else
            with the quantized network.
        hard: exponent of HAST's weight on images that are not yet classified with confidence (0: none).
    """

    schedule: str = "auto"
    iterations: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    class_weight: float = 1.0
    feature_weight: float | None = None
    first_multiplier: float = 10.0
    tv_l2: float | None = None
    tv_l1: float = 0.0
    l2: float | None = None
    jitter: int | None = None
    flip: bool = True
    competition: float = 0.0
    hard: float = 0.0

    summary: ClassVar[str] = "descent on the pixels against BatchNormalization statistics (Yin et al., CVPR 2020)"
    needs_statistics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options("deepinversion", self.schedule, iterations=self.iterations, batch=self.batch)

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Invert the first teacher into ``request.count`` images, in batches of equal size with balanced classes.

        ``competition`` uses the second teacher if it is given, else the quantized student of the request.

        Raises:
            ModelError: the first teacher has no BatchNormalization, or ``competition`` has no model to compete with.
            SamplesError: the images became NaN.
        """
        teacher = teachers[0]
        require_batch_norm("deepinversion", [teacher])
        competitor = self._competitor(teachers, request)
        weights, settings = self.weights(request), self.settings(request)
        generator = torch.Generator().manual_seed(request.seed)
        plans = split_into_batches(request.count, settings["batch"], balanced_targets(request, generator))
        stages = usable(self.stages(request), [teacher], request)
        bounds, space = pixel_bounds(request), wide_image_space(request)

        def start(plan: BatchPlan) -> Inversion:
            first = noise(plan.size, request, generator)
            pixels = Pixels(first, partial(Cosine, settings["learning_rate"]), BETAS, bounds, space)
            targets = None if plan.targets is None else plan.targets.to(request.device)
            return Inversion(
                "deepinversion",
                pixels,
                DeepInversionObjective(weights, [teacher], targets, competitor, space),
                stages,
                generator,
            )

        progress.start("deepinversion", len(plans) * work_of(stages))
        notes = single_teacher_note("deepinversion", teachers[:1] if self.competition else teachers)
        return collect(request, invert_batches(plans, start, progress, request), notes)

    def _competitor(self, teachers: Sequence[Twin], request: SynthesisRequest) -> CompetingModel | None:
        if not self.competition:
            return None
        if len(teachers) > 1:
            return first_output(teachers[1])
        if request.student is None:
            raise ModelError(
                f"deepinversion: competition={self.competition:g} needs a network to compete with, and no quantized "
                "one is available; give the model and then the competitor as --teacher, or leave competition out"
            )
        return request.student()

    def weights(self, request: SynthesisRequest) -> LossWeights:
        """The weights of the loss; every None is replaced by the value for the image size."""
        settings = self.settings(request)
        names = [field.name for field in fields(LossWeights) if field.name in settings]
        return LossWeights(**{name: settings[name] for name in names})

    def stages(self, request: SynthesisRequest) -> list[Stage]:
        """The stages of one batch, from coarse to fine."""
        jitter: int = self.settings(request)["jitter"]
        paper = is_paper(self.schedule, request)
        total = self.iterations or (3000 if is_large(request) else 2000) // (1 if paper else 10)
        if not is_large(request) or total < 2:
            return [Stage(total, 1, jitter, self.flip)]
        coarse = total * 2 // 3
        return [Stage(coarse, 2, jitter // 2, self.flip), Stage(total - coarse, 1, jitter, self.flip)]

    def settings(self, request: SynthesisRequest) -> dict[str, Any]:
        """All options by name; every None is replaced by the value for the image size."""
        paper: dict[str, Any] = dict(_PAPER_LARGE if is_large(request) else _PAPER_SMALL)
        if not is_paper(self.schedule, request) and not is_large(request):
            paper["feature_weight"] = 1.0
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: paper[name] if value is None and name in paper else value for name, value in options.items()}


BETAS = (0.5, 0.9)
"""Of Adam, in all runs of the paper with clipping."""

_PAPER_LARGE = {"batch": 84, "learning_rate": 0.25, "feature_weight": 0.01, "tv_l2": 1e-4, "l2": 1e-5, "jitter": 30}
_PAPER_SMALL = {"batch": 256, "learning_rate": 0.1, "feature_weight": 10.0, "tv_l2": 1e-3, "l2": 0.0, "jitter": 2}


@torch.no_grad()
def usable(stages: list[Stage], teachers: Sequence[Twin], request: SynthesisRequest) -> list[Stage]:
    """The stages, changed to full resolution if a teacher cannot run downscaled images (e.g. a fixed Reshape)."""
    if all(stage.shrink == 1 for stage in stages):
        return stages
    channels, height, width = request.shape
    shrink = max(stage.shrink for stage in stages)
    try:
        for teacher in teachers:
            teacher(torch.zeros(1, channels, height // shrink, width // shrink, device=request.device))
    except torch.OutOfMemoryError:  # not caused by the graph
        raise
    except RuntimeError:
        return [replace(stage, shrink=1, jitter=stages[-1].jitter) for stage in stages]
    return stages
