"""One batch on its way from noise to images, by descent on the pixels."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.errors import SamplesError
from dfq_deploy.progress import Progress
from dfq_deploy.synthesis.losses import competition, image_norm, total_variation
from dfq_deploy.synthesis.precision import autocast
from dfq_deploy.synthesis.request import SynthesisRequest
from dfq_deploy.synthesis.statistics import FeatureStatistics, feature_distance, relative_distance
from dfq_deploy.twin import Twin

__all__ = ["Inversion", "Objective", "Stage"]


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
class Objective:
    """What is minimised, and how fast; ``DeepInversion`` has the terms.

    Args:
        learning_rate: Adam's, at the top of the cosine.
        class_weight, feature_weight, tv_l2, tv_l1, l2, competition: weights of the terms.
        first_multiplier: how many times the first layer's statistics count.
        flip: mirror the batch in every other iteration, at random.
    """

    learning_rate: float
    class_weight: float
    feature_weight: float
    first_multiplier: float
    tv_l2: float
    tv_l1: float
    l2: float
    flip: bool
    competition: float


class Inversion:
    """The images of one batch, their targets and their teacher."""

    def __init__(
        self,
        objective: Objective,
        teachers: Sequence[Twin],
        request: SynthesisRequest,
        generator: torch.Generator,
        targets: Tensor | None,
        size: int,
    ) -> None:
        self.objective = objective
        self.teacher = teachers[0]
        self.rival = teachers[1] if objective.competition and len(teachers) > 1 else None
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
        peak = self.objective.learning_rate
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
        objective = self.objective
        seen = self._augmented(stage)
        with autocast(self.device):
            scores, layers = self.statistics.run(seen)
        feature = feature_distance(layers, objective.first_multiplier)
        l1, l2 = total_variation(seen)
        loss = objective.feature_weight * feature + objective.tv_l2 * l2 + objective.tv_l1 * l1
        figures = {"feature": float(feature.detach()), "distance": relative_distance(layers)}
        if objective.l2:
            loss = loss + objective.l2 * image_norm(seen)
        if self.targets is not None:
            cross_entropy = torch.nn.functional.cross_entropy(_logits(scores), self.targets)
            loss = loss + objective.class_weight * cross_entropy
            figures["class"] = float(cross_entropy.detach())
        if self.rival is not None:
            with autocast(self.device):
                rival_scores = _first(self.rival(seen))
            loss = loss + objective.competition * competition(_logits(rival_scores), _logits(scores))
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
        if self.objective.flip and torch.rand((), generator=self.generator) < 0.5:
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
