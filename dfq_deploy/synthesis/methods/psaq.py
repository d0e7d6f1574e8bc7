"""PSAQ-ViT: images with diverse patch similarities (Li et al., ECCV 2022).

PSAQ-ViT: images whose patches attention tells apart (Li et al., ECCV 2022, arXiv 2203.02250).
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
from dfq_deploy.synthesis.inversion.loop import Inversion, Loss, Objective, Stage
from dfq_deploy.synthesis.inversion.optimizers import Cosine, Pixels, noise, pixel_bounds
from dfq_deploy.synthesis.losses.attention import as_tokens, attention_outputs
from dfq_deploy.synthesis.losses.image_priors import total_variation
from dfq_deploy.twin import Hook, Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["Psaq", "PsaqObjective", "entropy", "similarities"]

POINTS = 10
"""Of the similarities' range, at which their density is estimated."""

PAPER = 32 * 3 * 224 * 224
"""Values of a batch in the paper, for which its total variation is given."""


@dataclass(frozen=True)
class Psaq(Synthesizer):
    """Adam on the pixels, against the entropy of patch similarities, class scores and a total variation to be met.

    ``loss = -patch_weight * sum over the layers of H + class_weight * CE + tv_weight * |TV_l2 - target|``. H is the
    differential entropy of the cosine similarities of all pairs of patches in what attention writes: in noise all
    patches are alike, in a picture they are not. No BatchNormalization is needed. The target is drawn from tv_low to
    tv_high for each batch, for the paper's 32 colour pictures of 224 pixels; other batches are counted as many times
    as the root of their number of values is larger. Kernel width (Silverman's rule) and the place of the 10 points
    (evenly from the least to the largest similarity) are chosen here.

    Args:
        schedule: ``paper`` has 2 x 500 iterations, with a shift of 15 and then of 30 pixels at 224; ``short`` a fifth
            (chosen for CPUs); ``auto`` is ``paper`` on a GPU, else ``short``.
        iterations: overrides the schedule's number.
        batch: largest number of images that are made together (the paper's 32).
        learning_rate: Adam's, at the top of the cosine (0.20 for DeiT in the paper, 0.25 for Swin).
        patch_weight, class_weight, tv_weight: of the terms.
        tv_low, tv_high: between which the target of the total variation is drawn.
        flip: mirror the batch in every other iteration, at random.
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
        """Make ``request.count`` images for the first teacher, classes spread evenly.

        Raises:
            ModelError: the model takes no images, or does not attend.
            SamplesError: the images became NaN.
        """
        teacher = teachers[0]
        layers = attention_outputs(teacher)
        if not layers or len(request.shape) != 3:
            lacks = "attends nowhere (no Softmax between two MatMuls)" if not layers else "takes no images (C, H, W)"
            raise ModelError(f"psaq looks at attention on patches, and the model {lacks}; use --synth procedural")
        generator = torch.Generator().manual_seed(request.seed)
        parts = split_into_batches(request.count, self.batch, balanced_targets(request, generator))
        stages, bounds = self.stages(request), pixel_bounds(request)

        def start(part: BatchPlan) -> Inversion:
            pixels = Pixels(noise(part.size, request, generator), partial(Cosine, self.learning_rate), BETAS, bounds)
            targets = None if part.targets is None else part.targets.to(request.device)
            drawn = float(torch.rand((), generator=generator))
            wanted = self.tv_low + (self.tv_high - self.tv_low) * drawn
            return Inversion("psaq", pixels, PsaqObjective(self, teacher, layers, targets, wanted), stages, generator)

        progress.start("psaq", len(parts) * sum(stage.iterations for stage in stages))
        return collect(request, invert_batches(parts, start, progress, request))

    def stages(self, request: SynthesisRequest) -> list[Stage]:
        """Two of equal length, the second with twice the shift."""
        total = self.iterations or (1000 if is_paper(self.schedule, request) else 200)
        jitter = round(min(request.shape[-2:]) * 15 / 224)
        first = Stage(total // 2, 1, jitter, self.flip)
        return [*([first] if first.iterations else []), Stage(total - total // 2, 1, 2 * jitter, self.flip)]


BETAS = (0.5, 0.9)


class PsaqObjective(Objective):
    """PSAQ-ViT's loss.

    Args:
        layers: names of what attention writes.
        targets: classes int64 (N,), on the device; None where the teacher does not classify.
        wanted: total variation, for the paper's number of values.
    """

    def __init__(
        self, settings: Psaq, teacher: Twin, layers: Sequence[str], targets: Tensor | None, wanted: float
    ) -> None:
        self.settings, self.teacher, self.layers, self.targets, self.wanted = settings, teacher, layers, targets, wanted

    def loss(self, seen: Tensor, generator: torch.Generator) -> Loss:
        """Of the images as the teacher sees them."""
        with autocast(seen.device):
            scores, attended = self._run(seen)
        told_apart = torch.stack([entropy(similarities(as_tokens(values))).mean() for values in attended]).sum()
        # A norm grows with the root of the number of values.
        variation = total_variation(seen)[1] * math.sqrt(PAPER / seen.numel())
        settings = self.settings
        missed = (variation - self.wanted).abs()
        total = settings.tv_weight * missed - settings.patch_weight * told_apart
        terms = {"entropy": told_apart, "variation": variation}
        if self.targets is not None:
            terms["class"] = torch.nn.functional.cross_entropy(scores.flatten(1).float(), self.targets)
            total = total + settings.class_weight * terms["class"]
        return Loss(total, lambda: {name: float(value.detach()) for name, value in terms.items()})

    @torch.no_grad()
    def evaluate(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """The teacher's softmax, and the mean entropy of the layers."""
        scores, attended = self._run(images)
        found = torch.stack([entropy(similarities(as_tokens(values))).mean() for values in attended]).mean()
        soft = None if self.targets is None else torch.softmax(scores.flatten(1).float(), 1)
        return soft, {"patch_entropy": float(found)}

    def _run(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        attended: dict[str, Tensor] = {}

        def noting(name: str) -> Hook:
            def note(values: Tensor) -> Tensor:
                attended[name] = values
                return values

            return note

        feeds = {self.teacher.input_names[0]: images}
        outputs = self.teacher.run(feeds, hooks={name: noting(name) for name in self.layers})
        return outputs[self.teacher.output_names[0]], [attended[name] for name in self.layers]


def similarities(tokens: Tensor) -> Tensor:
    """Cosines of all pairs of different tokens (N, T, D), in (N, T * (T - 1) / 2)."""
    unit = torch.nn.functional.normalize(tokens.float(), dim=-1)
    cosines = unit @ unit.transpose(1, 2)
    rows, columns = torch.triu_indices(tokens.shape[1], tokens.shape[1], offset=1, device=tokens.device)
    return cosines[:, rows, columns]


def entropy(values: Tensor) -> Tensor:
    """Differential entropy in nats, (N,), of each row of (N, M), by a Gaussian kernel density at 10 points.

    ``-integral of f log f`` by the trapezoid rule from the least to the largest value; Silverman's kernel width.
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
