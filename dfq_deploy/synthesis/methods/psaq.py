"""PSAQ-ViT: images with diverse patch similarities (Li et al., ECCV 2022).

PSAQ-ViT: images with a high entropy of the patch similarities in attention (Li et al., ECCV 2022, arXiv 2203.02250).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from dfq_deploy.errors import ModelError
from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.plugins.options import check_options, is_paper
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.inversion.batches import (
    BatchPlan,
    balanced_targets,
    collect,
    invert_batches,
    split_into_batches,
)
from dfq_deploy.synthesis.inversion.loop import Inversion, Loss, Objective, Stage, work_of
from dfq_deploy.synthesis.inversion.optimizers import Cosine, Pixels, noise, pixel_bounds
from dfq_deploy.synthesis.losses.attention import as_tokens, attention_outputs
from dfq_deploy.synthesis.losses.image_priors import total_variation_l2
from dfq_deploy.twin import Hook, Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["Psaq", "PsaqObjective", "entropy", "similarities"]

POINTS = 10
"""Number of points in the range of the similarities at which their density is estimated."""

PAPER = 32 * 3 * 224 * 224
"""Number of values of a batch in the paper, for which its total variation is specified."""


@dataclass(frozen=True)
class Psaq(Synthesizer):
    """Optimizes pixels with Adam for the entropy of patch similarities, class scores and a target total variation.

    ``loss = -patch_weight * sum over the layers of H + class_weight * CE + tv_weight * |TV_l2 - target|``. H is the
    differential entropy of the cosine similarities of all pairs of patches in the attention outputs: in noise all
    patches are similar, in an image they are not. No BatchNormalization is needed. The target is drawn from tv_low to
    tv_high for each batch, for the paper's 32 colour images of 224 pixels; the total variation of other batches is
    scaled by the square root of the ratio of the numbers of values. Kernel width (Silverman's rule) and the position of
    the 10 points (evenly spaced from the smallest to the largest similarity) are chosen here.

    Args:
        schedule: ``paper`` has 2 x 500 iterations, with a shift of 15 and then of 30 pixels at 224; ``short`` a fifth
            (chosen for CPUs); ``auto`` is ``paper`` on a GPU, else ``short``.
        iterations: overrides the number of the schedule.
        batch: maximum number of images in a batch (32 in the paper).
        learning_rate: peak learning rate of Adam (0.20 for DeiT in the paper, 0.25 for Swin).
        patch_weight, class_weight, tv_weight: weights of the terms.
        tv_low, tv_high: range from which the target of the total variation is drawn.
        flip: flip the batch horizontally with probability 0.5 in each iteration.
    """

    schedule: str = "auto"
    iterations: int | None = None
    batch: int = 32
    learning_rate: float = 0.2
    patch_weight: float = 1.0
    class_weight: float = 1.0
    tv_weight: float = 0.05
    tv_low: float = 2500.0
    tv_high: float = 3000.0
    flip: bool = True

    summary: ClassVar[str] = "patches that attention tells apart, without BatchNormalization (PSAQ-ViT, ECCV 2022)"
    needs_statistics: ClassVar[bool] = False
    needs_twin: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options("psaq", self.schedule, iterations=self.iterations, batch=self.batch)

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Synthesize ``request.count`` images for the first teacher, with balanced classes.

        Raises:
            ModelError: the input is not an image, or the model has no attention.
            SamplesError: the images became NaN.
        """
        teacher = teachers[0]
        layers = attention_outputs(teacher)
        if not layers or len(request.shape) != 3:
            reason = "has none (no Softmax between two MatMuls)" if not layers else "takes no images (C, H, W)"
            raise ModelError(f"psaq needs attention on image patches, and the model {reason}; use --synth procedural")
        generator = torch.Generator().manual_seed(request.seed)
        plans = split_into_batches(request.count, self.batch, balanced_targets(request, generator))
        stages, bounds = self.stages(request), pixel_bounds(request)

        def start(plan: BatchPlan) -> Inversion:
            pixels = Pixels(noise(plan.size, request, generator), partial(Cosine, self.learning_rate), BETAS, bounds)
            targets = None if plan.targets is None else plan.targets.to(request.device)
            fraction = float(torch.rand((), generator=generator))
            variation = self.tv_low + (self.tv_high - self.tv_low) * fraction
            objective = PsaqObjective(self, teacher, layers, targets, variation)
            return Inversion("psaq", pixels, objective, stages, generator)

        progress.start("psaq", len(plans) * work_of(stages))
        return collect(request, invert_batches(plans, start, progress, request))

    def stages(self, request: SynthesisRequest) -> list[Stage]:
        """Two stages of equal length, the second with twice the shift."""
        total = self.iterations or (1000 if is_paper(self.schedule, request) else 200)
        jitter = round(min(request.shape[-2:]) * 15 / 224)
        first = Stage(total // 2, 1, jitter, self.flip)
        return [*([first] if first.iterations else []), Stage(total - total // 2, 1, 2 * jitter, self.flip)]


BETAS = (0.5, 0.9)


class PsaqObjective(Objective):
    """PSAQ-ViT's loss.

    Args:
        layers: names of the attention outputs.
        targets: classes int64 (N,), on the device; None if the teacher does not classify.
        variation: target of the total variation, for the paper's number of values.
    """

    def __init__(
        self, settings: Psaq, teacher: Twin, layers: Sequence[str], targets: Tensor | None, variation: float
    ) -> None:
        self.settings, self.teacher, self.layers, self.targets = settings, teacher, layers, targets
        self.target_variation = variation

    def loss(self, images: Tensor, generator: torch.Generator) -> Loss:
        """The loss of the images as they are passed to the teacher."""
        with autocast(images.device):
            scores, attended = self._run(images)
        patch_entropy = torch.stack([entropy(similarities(as_tokens(values))).mean() for values in attended]).sum()
        # A norm grows with the square root of the number of values.
        variation = total_variation_l2(images) * math.sqrt(PAPER / images.numel())
        settings = self.settings
        variation_error = (variation - self.target_variation).abs()
        total = settings.tv_weight * variation_error - settings.patch_weight * patch_entropy
        terms = {"entropy": patch_entropy, "variation": variation}
        if self.targets is not None:
            terms["class"] = torch.nn.functional.cross_entropy(scores.flatten(1).float(), self.targets)
            total = total + settings.class_weight * terms["class"]
        return Loss(total, lambda: {name: float(value.detach()) for name, value in terms.items()})

    @torch.no_grad()
    def evaluate(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """The softmax of the teacher, and the mean entropy of the layers."""
        scores, attended = self._run(images)
        patch_entropy = torch.stack([entropy(similarities(as_tokens(values))).mean() for values in attended]).mean()
        labels = None if self.targets is None else torch.softmax(scores.flatten(1).float(), 1)
        return labels, {"patch_entropy": float(patch_entropy)}

    def _run(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        attended: dict[str, Tensor] = {}

        def recorder(name: str) -> Hook:
            def record(values: Tensor) -> Tensor:
                attended[name] = values
                return values

            return record

        feeds = {self.teacher.input_names[0]: images}
        outputs = self.teacher.run(feeds, hooks={name: recorder(name) for name in self.layers})
        return outputs[self.teacher.output_names[0]], [attended[name] for name in self.layers]


def similarities(tokens: Tensor) -> Tensor:
    """Cosine similarities of all pairs of different tokens (N, T, D), as (N, T * (T - 1) / 2)."""
    unit = torch.nn.functional.normalize(tokens.float(), dim=-1)
    cosines = unit @ unit.transpose(1, 2)
    rows, columns = torch.triu_indices(tokens.shape[1], tokens.shape[1], offset=1, device=tokens.device)
    return cosines[:, rows, columns]


def entropy(values: Tensor) -> Tensor:
    """Differential entropy in nats, (N,), of each row of (N, M), from a Gaussian kernel density estimate at 10 points.

    ``-integral of f log f`` by the trapezoidal rule from the smallest to the largest value; Silverman's kernel width.
    """
    count = values.shape[1]
    spread = values.std(1).clamp_min(1e-4)
    width = (1.06 * spread * count**-0.2)[:, None, None]
    low, high = values.amin(1).detach(), values.amax(1).detach()
    steps = torch.linspace(0, 1, POINTS, device=values.device)
    points = low[:, None] + (high - low).clamp_min(1e-4)[:, None] * steps
    kernels = torch.exp(-((points[:, :, None] - values[:, None]) / width).square() / 2) / (
        width * math.sqrt(2 * math.pi)
    )
    density = kernels.mean(2)
    return -torch.trapezoid(density * (density + 1e-12).log(), points, dim=1)
