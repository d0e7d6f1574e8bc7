"""Pictures by rule that descend on class scores, anchored by the statistics of the first layers.

Made for files without BatchNormalization. Pictures without a class excite the last layers too little. DeepInversion's
class loss (Yin et al., CVPR 2020) makes up for that; statistics measured on the pictures themselves take the place of
those of BatchNormalization, in the first layers only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.graph.operators import is_op
from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.plugins.options import check_options, is_large
from dfq_deploy.plugins.registry import synthesizer_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.inversion.batches import BatchPlan, balanced_targets, collect, invert_batches
from dfq_deploy.synthesis.inversion.batches import split_into_batches as split
from dfq_deploy.synthesis.inversion.loop import Inversion, Loss, Objective, Stage
from dfq_deploy.synthesis.inversion.optimizers import Cosine, Pixels, pixel_bounds
from dfq_deploy.synthesis.losses.batch_norm_statistics import (
    LayerStatistics,
    batch_moments,
    feature_distance,
    relative_distance,
)
from dfq_deploy.synthesis.losses.image_priors import total_variation_l2
from dfq_deploy.synthesis.losses.per_image_statistics import Space, wide_image_space
from dfq_deploy.twin import Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["Anchored", "AnchoredObjective"]

Moments = dict[str, tuple[Tensor, Tensor]]
"""Mean and variance (C,) by name of the tensor."""

MEASURED = (1024, 64)
"""Number of small and of large pictures whose statistics are the anchor."""

MEASURED_SEED = 104_729
"""Added to the seed of these pictures: they are others than those that descend."""

BETAS = (0.5, 0.9)
"""Of Adam, those of DeepInversion."""


@dataclass(frozen=True)
class Anchored(Synthesizer):
    """Starts from pictures and optimizes their pixels with Adam for class scores.

    ``loss = class_weight * CE + anchor_weight * R + tv_l2 * TV_l2``. R is the distance of mean and variance, channel by
    channel, at the outputs of the first convolutions, from those of other pictures of the same kind: so the pictures
    keep the spectrum and the edges that they had. Targets are balanced over the classes.

    Args:
        pictures: the method that draws the pictures, e.g. ``procedural`` or ``photographs``.
        iterations: of the descent.
        batch: maximum number of images in a batch; None is 112 small or 16 large ones.
        learning_rate: peak learning rate of Adam, for images with a standard deviation of about 1; inputs of a wider
            range, such as 0 to 255, are normalised first.
        anchor: part of the convolutions, from the first on, whose statistics are kept; between 0 and 1.
        class_weight, anchor_weight, tv_l2: weights of the terms.
    """

    pictures: str = "procedural"
    iterations: int = 30
    batch: int | None = None
    learning_rate: float = 0.05
    anchor: float = 0.3
    class_weight: float = 1.0
    anchor_weight: float = 1.0
    tv_l2: float = 1e-3

    summary: ClassVar[str] = "pictures by rule that descend on class scores, for models with no BatchNormalization left"
    needs_statistics: ClassVar[bool] = False
    needs_twin: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options("anchored", "short", iterations=self.iterations, batch=self.batch)
        if not 0 <= self.anchor <= 1:
            raise OptionError(f"anchored: anchor={self.anchor:g} is a part of the convolutions, between 0 and 1")
        if synthesizer_of(self.pictures).needs_statistics:
            raise OptionError(f"anchored: pictures={self.pictures} needs BatchNormalization; take procedural")

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Move ``request.count`` pictures towards balanced classes of the first teacher.

        Raises:
            ModelError: the input is not an image, or the model does not classify.
            SamplesError: the images became NaN.
        """
        teacher = teachers[0]
        if len(request.shape) != 3 or request.classes is None:
            reason = "classifies nothing" if request.classes is None else "takes no images (C, H, W)"
            raise ModelError(f"anchored moves images towards classes, and the model {reason}; use --synth procedural")
        generator = torch.Generator().manual_seed(request.seed)
        largest = self.batch or (16 if is_large(request) else 112)
        plans = split(request.count, largest, balanced_targets(request, generator))
        other = replace(request, count=MEASURED[is_large(request)], seed=request.seed + MEASURED_SEED)
        moments = measured(teacher, _first_layers(teacher, self.anchor), self._drawn(teachers, other), largest)
        pictures = self._drawn(teachers, replace(request, journal=None))
        starts = torch.split(pictures, [plan.size for plan in plans])
        bounds, space = pixel_bounds(request), wide_image_space(request)
        stages = [Stage(self.iterations, jitter=max(1, min(request.shape[1:]) // 16), flip=True)]

        def start(plan: BatchPlan) -> Inversion:
            first = starts[plan.index].clone(memory_format=torch.channels_last)
            first = first if space is None else (first - space[0]) / space[1]
            pixels = Pixels(first, partial(Cosine, self.learning_rate), BETAS, bounds, space)
            assert plan.targets is not None
            objective = AnchoredObjective(self, teacher, moments, plan.targets.to(request.device), space)
            return Inversion("anchored", pixels, objective, stages, generator)

        progress.start("anchored", len(plans) * self.iterations)
        return collect(request, invert_batches(plans, start, progress, request))

    def _drawn(self, teachers: Sequence[Twin], request: SynthesisRequest) -> Tensor:
        """Pictures (N, C, H, W) on the device of the request."""
        method = synthesizer_of(self.pictures)
        images = method.synthesize(teachers if method.needs_twin else (), request).images
        return torch.from_numpy(images).to(request.device, memory_format=torch.channels_last)


class AnchoredObjective(Objective):
    """The loss of :class:`Anchored`.

    Args:
        settings: its weights.
        moments: those that are kept.
        targets: classes int64 (N,), on the device.
        space: mean and standard deviation that the images are normalised by before their variation is measured; None
            for no normalisation.
    """

    def __init__(
        self, settings: Anchored, teacher: Twin, moments: Moments, targets: Tensor, space: Space | None = None
    ) -> None:
        self.settings, self.teacher, self.moments, self.targets = settings, teacher, moments, targets
        self.space = space

    def loss(self, images: Tensor, generator: torch.Generator) -> Loss:
        """The loss of the images as they are passed to the teacher."""
        settings = self.settings
        with autocast(images.device):
            scores, layers = self._run(images)
        terms = {"class": torch.nn.functional.cross_entropy(scores, self.targets)}
        normalised = images if self.space is None else (images - self.space[0]) / self.space[1]
        total = settings.class_weight * terms["class"] + settings.tv_l2 * total_variation_l2(normalised)
        if layers:
            terms["anchor"] = feature_distance(layers, 1.0)
            total = total + settings.anchor_weight * terms["anchor"]
        return Loss(total, lambda: {name: float(term.detach()) for name, term in terms.items()})

    @torch.no_grad()
    def evaluate(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """The softmax of the teacher, and the distance of the anchored statistics."""
        scores, layers = self._run(images)
        return torch.softmax(scores, 1), {"anchor_distance": relative_distance(layers)} if layers else {}

    def _run(self, images: Tensor) -> tuple[Tensor, list[LayerStatistics]]:
        """The logits (N, K), and the statistics of the anchored layers."""
        output = self.teacher.output_names[0]
        results = self.teacher.run({self.teacher.input_names[0]: images}, keep=list(self.moments))
        layers = [
            LayerStatistics(name, *kept, *batch_moments(results[name])[1:]) for name, kept in self.moments.items()
        ]
        return results[output].flatten(1).float(), layers


def _first_layers(teacher: Twin, share: float) -> list[str]:
    """Names of the outputs of the first convolutions; at least one is left out, so that classes can be reached."""
    names = [step.outputs[0] for step in teacher.steps if is_op(step, ("Conv", "ConvTranspose"))]
    return names[: min(round(share * len(names)), len(names) - 1)] if names else []


@torch.no_grad()
def measured(teacher: Twin, names: Sequence[str], pictures: Tensor, batch: int) -> Moments:
    """Mean and variance of tensors over pictures (N, C, H, W), ``batch`` of them at a time."""
    sums: dict[str, list[Tensor]] = {name: [] for name in names}
    for part in torch.split(pictures, batch):
        results = teacher.run({teacher.input_names[0]: part}, keep=names)
        for name in names:
            rows = results[name].double().flatten(2) if results[name].ndim > 2 else results[name].double()[..., None]
            sums[name].append(torch.stack([rows.sum((0, 2)), rows.square().sum((0, 2)), _count(rows)]))
    moments: Moments = {}
    for name, parts in sums.items():
        total, squares, count = torch.stack(parts).sum(0)
        mean = total / count
        moments[name] = (mean.float(), (squares / count - mean.square()).clamp_min(0).float())
    return moments


def _count(rows: Tensor) -> Tensor:
    """Number of values of each channel of (N, C, P), as (C,)."""
    return torch.full((rows.shape[1],), rows.shape[0] * rows.shape[2], dtype=rows.dtype, device=rows.device)
