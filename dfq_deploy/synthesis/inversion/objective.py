"""DeepInversion's loss: class scores, BatchNormalization statistics, image priors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from dfq_deploy.synthesis.inversion.loop import Loss, Objective
from dfq_deploy.synthesis.inversion.mixing import mix
from dfq_deploy.synthesis.losses.batch_norm_statistics import (
    FeatureStatistics,
    LayerStatistics,
    feature_distance,
    relative_distance,
)
from dfq_deploy.synthesis.losses.image_priors import class_loss, competition, image_norm, total_variation
from dfq_deploy.synthesis.losses.per_image_statistics import Space
from dfq_deploy.synthesis.losses.soft_labels import with_soft_labels
from dfq_deploy.twin import Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["Competitor", "Matching", "Weights", "first_scores"]

Competitor: TypeAlias = Callable[[Tensor], Tensor]
"""Images (N, ...) to logits (N, K), with gradient to the images."""


@dataclass(frozen=True)
class Weights:
    """How much each term counts.

    Args:
        class_weight: cross-entropy with the targets, mean over the teachers.
        feature_weight: distance of the feature statistics, mean over the teachers.
        first_multiplier: how many times the first layer's statistics count.
        tv_l2, tv_l1, l2: priors of the images.
        competition: with the rival.
        hard: exponent of HAST's weight (1 - p) on the cross-entropy of each image; 0 is the plain one.
        mixing: share of the iterations in which a box of each image is taken from another one.
    """

    class_weight: float
    feature_weight: float
    first_multiplier: float
    tv_l2: float
    tv_l1: float
    l2: float
    competition: float = 0.0
    hard: float = 0.0
    mixing: float = 0.0


class Matching(Objective):
    """``class_weight * CE + feature_weight * R_feature + priors + competition * (1 - JS)``.

    Args:
        teachers: all of them see the same images; their terms are averaged.
        targets: classes int64 (N,), or float (N, K) where images are mixed, on the device; None where the teachers do
            not classify.
        rival: what competes with the first teacher.
        space: mean and standard deviation of images where the priors are to see them in units of those.
    """

    def __init__(
        self,
        weights: Weights,
        teachers: Sequence[Twin],
        targets: Tensor | None,
        rival: Competitor | None = None,
        space: Space | None = None,
    ) -> None:
        self.space = space
        self.weights, self.teachers, self.targets, self.rival = weights, teachers, targets, rival
        self.statistics = [FeatureStatistics(teacher) for teacher in teachers]

    def loss(self, seen: Tensor, generator: torch.Generator) -> Loss:
        """Of the images as the teachers see them."""
        weights, targets = self.weights, self.targets
        if weights.mixing and torch.rand((), generator=generator) < weights.mixing:
            seen, targets = mix(seen, targets, generator)
        found = self._run(seen)
        feature = _mean([feature_distance(layers, weights.first_multiplier) for _, layers in found])
        plain = seen if self.space is None else (seen - self.space[0]) / self.space[1]
        l1, l2 = total_variation(plain)
        total = weights.feature_weight * feature + weights.tv_l2 * l2 + weights.tv_l1 * l1
        terms = {"feature": feature}
        if weights.l2:
            total = total + weights.l2 * image_norm(plain)
        if targets is not None:
            terms["class"] = _mean([class_loss(scores, targets, weights.hard) for scores, _ in found])
            total = total + weights.class_weight * terms["class"]
        if self.rival is not None:
            total = total + weights.competition * competition(self.rival(seen), found[0][0])

        def figures() -> dict[str, float]:
            distance = sum(relative_distance(layers) for _, layers in found) / len(found)
            return {name: float(term.detach()) for name, term in terms.items()} | {"distance": distance}

        return Loss(total, figures)

    def judge(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """The teachers' mean softmax, and the distance of their statistics."""
        return with_soft_labels(self.teachers, images, self.targets is not None)

    def _run(self, seen: Tensor) -> list[tuple[Tensor, list[LayerStatistics]]]:
        with autocast(seen.device):
            found = [statistics.run(seen) for statistics in self.statistics]
        return [(scores.flatten(1).float(), layers) for scores, layers in found]


def first_scores(twin: Twin) -> Competitor:
    """A twin as a rival: its first output, (N, K)."""

    def run(seen: Tensor) -> Tensor:
        with autocast(seen.device):
            outputs = twin(seen)
        scores: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
        return scores.flatten(1).float()

    return run


def _mean(terms: Sequence[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).mean(0)
