"""DeepInversion: images found by descending on the pixels (Yin et al., CVPR 2020, arXiv 1912.08795)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.contracts import Synthesizer
from dfq_deploy.errors import ModelError, SamplesError
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples import Samples
from dfq_deploy.synthesis.losses import competition, image_norm, total_variation
from dfq_deploy.synthesis.precision import autocast
from dfq_deploy.synthesis.request import SynthesisRequest
from dfq_deploy.synthesis.statistics import FeatureStatistics, feature_distance, relative_distance
from dfq_deploy.twin import Twin

__all__ = ["DeepInversion", "Inversion", "Stage"]


@dataclass(frozen=True)
class Stage:
    """A run of iterations at one resolution.

    Args:
        iterations: number of Adam steps.
        shrink: the images are averaged over shrink x shrink pixels before the teacher sees them.
        jitter: largest shift in pixels of the shrunk image, along each axis.
    """

    iterations: int
    shrink: int
    jitter: int


@dataclass(frozen=True)
class DeepInversion(Synthesizer):
    """Adam on the pixels of a batch, against class scores, feature statistics and image priors.

    ``loss = class_weight * CE + feature_weight * R_feature + tv_l2 * TV_l2 + tv_l1 * TV_l1 + l2 * ||x||
    + competition * (1 - JS)``, on images that are shifted and flipped at random in each iteration; the
    learning rate warms up and falls along a cosine in every stage, and the images are clipped to what
    pixels can be. Fields that are None take the paper's value for the image's size: those of its
    ImageNet runs from 64 pixels on, those of its CIFAR-10 runs below.

    Args:
        schedule: ``paper`` has the paper's 2,000 iterations (and 1,000 more at full resolution for large
            images); ``short`` has the same losses and a tenth of the iterations, for CPUs, and on small images
            a feature weight of 1 instead of 10: the statistics come as close, and the class scores as far
            apart as on real images (measured on resnet20_kd and CIFAR-10 training images); ``auto`` is
            ``paper`` on a GPU and ``short`` elsewhere.
        iterations: overrides the schedule's number; large images spend two thirds at half resolution.
        batch: largest number of images that are inverted together.
        learning_rate: Adam's, at the top of the cosine.
        class_weight: of the cross-entropy with the target classes.
        feature_weight: of the distance of the feature statistics.
        first_multiplier: how many times the first layer's statistics count.
        tv_l2, tv_l1, l2: weights of the image priors.
        jitter: largest shift in pixels at full resolution.
        flip: mirror the batch in every other iteration, at random.
        competition: weight of adaptive competition with the second teacher (0.2 in the paper).
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

    summary: ClassVar[str] = "descent on the pixels against BatchNormalization statistics (Yin et al., CVPR 2020)"
    needs_statistics: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.schedule not in ("auto", "paper", "short"):
            raise SamplesError(f"deepinversion: schedule '{self.schedule}' is none of auto, paper, short")
        for name in ("iterations", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SamplesError(f"deepinversion: {name}={value} must be at least 1")

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        """Invert ``request.count`` images in batches of equal size, classes spread evenly.

        The first teacher is inverted; a second one, where given, is what ``competition`` competes with.

        Raises:
            ModelError: the first teacher has no BatchNormalization.
            SamplesError: the images became NaN.
        """
        teacher = teachers[0]
        settings = self.settled(request)
        if not FeatureStatistics(teacher).names:
            raise ModelError(
                "deepinversion needs BatchNormalization, and none is left in the model (exporters fold it); give "
                "the same network with it kept as --teacher, or use --synth procedural"
            )
        generator = torch.Generator().manual_seed(request.seed)
        targets = _targets(request, generator)
        sizes = _batch_sizes(request.count, settings.batch or request.count)
        stages = _usable(settings.stages(request), teacher, request)
        progress.start("deepinversion", len(sizes) * sum(stage.iterations for stage in stages))
        images: list[NDArray[np.float32]] = []
        labels: list[NDArray[np.float32] | None] = []
        distances: list[float] = []
        for chosen in torch.split(targets, sizes) if targets is not None else [None] * len(sizes):
            run = Inversion(settings, teachers, request, generator, chosen, sizes[len(images)])
            for stage in stages:
                run.descend(stage, progress)
            found, soft, distance = run.finish()
            images.append(found)
            labels.append(soft)
            distances.append(distance)
        figures = {"statistics_distance": float(np.mean(distances))}
        if targets is not None:
            soft_labels = np.concatenate([label for label in labels if label is not None])
            figures["target_hit"] = float((soft_labels.argmax(1) == targets.numpy()).mean())
            return Samples(np.concatenate(images), soft_labels, figures=figures)
        return Samples(np.concatenate(images), figures=figures)

    def settled(self, request: SynthesisRequest) -> "DeepInversion":
        """Every None replaced by the paper's value for the size of the image."""
        large = min(request.shape[-2:]) >= 64 if len(request.shape) == 3 else False
        schedule = self.schedule
        if schedule == "auto":
            schedule = "paper" if request.device.startswith("cuda") else "short"
        paper: dict[str, Any] = _PAPER_LARGE if large else _PAPER_SMALL
        if schedule == "short" and not large:
            paper = {**paper, "feature_weight": 1.0}
        values = {name: getattr(self, name) if getattr(self, name) is not None else v for name, v in paper.items()}
        return replace(self, schedule=schedule, **values)

    def stages(self, request: SynthesisRequest) -> list[Stage]:
        """The stages of one batch, coarse to fine."""
        jitter = self.jitter or 0
        large = len(request.shape) == 3 and min(request.shape[-2:]) >= 64
        total = self.iterations or (3000 if large else 2000) // (1 if self.schedule == "paper" else 10)
        if not large or total < 2:
            return [Stage(total, 1, jitter)]
        coarse = total * 2 // 3
        return [Stage(coarse, 2, jitter // 2), Stage(total - coarse, 1, jitter)]


_PAPER_LARGE = {"batch": 84, "learning_rate": 0.25, "feature_weight": 0.01, "tv_l2": 1e-4, "l2": 1e-5, "jitter": 30}
_PAPER_SMALL = {"batch": 256, "learning_rate": 0.1, "feature_weight": 10.0, "tv_l2": 1e-3, "l2": 0.0, "jitter": 2}


def _targets(request: SynthesisRequest, generator: torch.Generator) -> Tensor | None:
    """Classes (N,): each appears floor(N / K) or ceil(N / K) times, in random order."""
    if request.classes is None:
        return None
    rounds = math.ceil(request.count / request.classes)
    spread = torch.cat([torch.randperm(request.classes, generator=generator) for _ in range(rounds)])
    return spread[: request.count]


def _batch_sizes(count: int, largest: int) -> list[int]:
    """Batches of equal size (to one), since the statistics of a small last batch would mean little."""
    batches = math.ceil(count / largest)
    return [count // batches + (index < count % batches) for index in range(batches)]


@torch.no_grad()
def _usable(stages: list[Stage], teacher: Twin, request: SynthesisRequest) -> list[Stage]:
    """The stages, at full resolution where the graph refuses a shrunk image (a fixed Reshape, say)."""
    if all(stage.shrink == 1 for stage in stages):
        return stages
    channels, height, width = request.shape
    shrink = max(stage.shrink for stage in stages)
    try:
        teacher(torch.zeros(1, channels, height // shrink, width // shrink, device=request.device))
    except RuntimeError:
        return [replace(stage, shrink=1, jitter=stages[-1].jitter) for stage in stages]
    return stages


class Inversion:
    """One batch on its way from noise to images."""

    def __init__(
        self,
        settings: DeepInversion,
        teachers: Sequence[Twin],
        request: SynthesisRequest,
        generator: torch.Generator,
        targets: Tensor | None,
        size: int,
    ) -> None:
        self.settings = settings
        self.teacher = teachers[0]
        self.rival = teachers[1] if settings.competition and len(teachers) > 1 else None
        self.generator = generator
        self.device = torch.device(request.device)
        self.targets = None if targets is None else targets.to(self.device)
        self.statistics = FeatureStatistics(self.teacher)
        start = torch.randn(size, *request.shape, generator=generator)
        layout = torch.channels_last if start.ndim == 4 else torch.contiguous_format
        self.images = start.to(self.device, memory_format=layout).requires_grad_()
        self.bounds = _pixel_bounds(request, self.device)

    def descend(self, stage: Stage, progress: Progress) -> None:
        """Run one stage; each has its own Adam and its own cosine."""
        peak = self.settings.learning_rate or 0.0
        optimizer = torch.optim.Adam([self.images], lr=peak, betas=(0.5, 0.9), eps=1e-8, fused=True)
        for rate in _learning_rates(stage.iterations, peak):
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
            loss, figures = self._loss(stage)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            self._clip()
            progress.advance(1, **figures)
        if not torch.isfinite(self.images).all():
            raise SamplesError("deepinversion: the images became NaN; lower learning_rate or feature_weight")

    def _loss(self, stage: Stage) -> tuple[Tensor, dict[str, float]]:
        settings = self.settings
        seen = self._augmented(stage)
        with autocast(self.device):
            scores, layers = self.statistics.run(seen)
        feature = feature_distance(layers, settings.first_multiplier)
        l1, l2 = total_variation(seen)
        loss = (settings.feature_weight or 0) * feature + (settings.tv_l2 or 0) * l2 + settings.tv_l1 * l1
        figures = {"feature": float(feature.detach()), "distance": relative_distance(layers)}
        if settings.l2:
            loss = loss + settings.l2 * image_norm(seen)
        if self.targets is not None:
            cross_entropy = torch.nn.functional.cross_entropy(_logits(scores), self.targets)
            loss = loss + settings.class_weight * cross_entropy
            figures["class"] = float(cross_entropy.detach())
        if self.rival is not None:
            with autocast(self.device):
                rival_scores = _first(self.rival(seen))
            loss = loss + settings.competition * competition(_logits(rival_scores), _logits(scores))
        return loss, figures

    def _augmented(self, stage: Stage) -> Tensor:
        images = self.images
        if images.ndim != 4:
            return images
        if stage.shrink > 1:
            images = torch.nn.functional.avg_pool2d(images, stage.shrink)
        if stage.jitter:
            down, right = torch.randint(-stage.jitter, stage.jitter + 1, (2,), generator=self.generator).tolist()
            images = torch.roll(images, (down, right), dims=(2, 3))
        if self.settings.flip and torch.rand((), generator=self.generator) < 0.5:
            images = images.flip(3)
        return images

    @torch.no_grad()
    def _clip(self) -> None:
        if self.bounds is not None:
            self.images.clamp_(*self.bounds)

    @torch.no_grad()
    def finish(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, float]:
        """The images, their soft labels and the distance of their statistics."""
        with autocast(self.device):
            scores, layers = self.statistics.run(self.images)
        soft = None if self.targets is None else torch.softmax(_logits(scores), 1).cpu().numpy()
        return self.images.detach().contiguous().cpu().numpy(), soft, relative_distance(layers)


def _first(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def _logits(scores: Tensor) -> Tensor:
    """(N, K) float32 of whatever shape and type the scores have."""
    return scores.flatten(1).float()


def _pixel_bounds(request: SynthesisRequest, device: torch.device) -> tuple[Tensor, Tensor] | None:
    if request.preprocess is None or len(request.shape) != 3:
        return None
    low, high = (
        torch.from_numpy(bound)[:, None, None].to(device) for bound in request.preprocess.bounds(request.shape[0])
    )
    return low, high


def _learning_rates(iterations: int, peak: float) -> Iterator[float]:
    """Linear warm-up over 100 iterations (a tenth of short stages), then a cosine to zero."""
    warm = min(100, iterations // 10)
    for step in range(iterations):
        cosine = 0.5 * (1 + math.cos(math.pi * max(step - warm, 0) / max(iterations - warm, 1)))
        yield peak * (min(1.0, (step + 1) / warm) if warm else 1.0) * cosine
