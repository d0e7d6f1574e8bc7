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
from dfq_deploy.synthesis.losses.soft_labels import soft_labels_and_distance
from dfq_deploy.twin import Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["CompetingModel", "DeepInversionObjective", "LossWeights", "first_output"]

CompetingModel: TypeAlias = Callable[[Tensor], Tensor]
"""Maps images (N, ...) to logits (N, K), differentiable with respect to the images."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of the loss.

    Args:
        class_weight: of the cross-entropy with the targets, mean over the teachers.
        feature_weight: of the distance of the feature statistics, mean over the teachers.
        first_multiplier: factor on the statistics of the first layer.
        tv_l2, tv_l1, l2: of the image priors.
        competition: of the competition with another model.
        hard: exponent of HAST's weight (1 - p) on the cross-entropy of each image; 0 is plain cross-entropy.
        mixing: probability that a box of each image is replaced by that of another image in an iteration.
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


class DeepInversionObjective(Objective):
    """``class_weight * CE + feature_weight * R_feature + priors + competition * (1 - JS)``.

    Args:
        teachers: all of them are run on the same images; their terms are averaged.
        targets: classes int64 (N,), or float (N, K) if images are mixed, on the device; None if the teachers do not
            classify.
        competitor: the model that competes with the first teacher.
        space: mean and standard deviation that the images are normalised by before the image priors; None for no
            normalisation.
    """

    def __init__(
        self,
        weights: LossWeights,
        teachers: Sequence[Twin],
        targets: Tensor | None,
        competitor: CompetingModel | None = None,
        space: Space | None = None,
    ) -> None:
        self.space = space
        self.weights, self.teachers, self.targets, self.competitor = weights, teachers, targets, competitor
        self.statistics = [FeatureStatistics(teacher) for teacher in teachers]

    def loss(self, images: Tensor, generator: torch.Generator) -> Loss:
        """The weighted sum of all terms for the images as they are passed to the teachers."""
        weights, targets = self.weights, self.targets
        if weights.mixing and torch.rand((), generator=generator) < weights.mixing:
            images, targets = mix(images, targets, generator)
        results = self._run(images)
        feature = _mean([feature_distance(layers, weights.first_multiplier) for _, layers in results])
        normalised = images if self.space is None else (images - self.space[0]) / self.space[1]
        l1, l2 = total_variation(normalised)
        total = weights.feature_weight * feature + weights.tv_l2 * l2 + weights.tv_l1 * l1
        terms = {"feature": feature}
        if weights.l2:
            total = total + weights.l2 * image_norm(normalised)
        if targets is not None:
            terms["class"] = _mean([class_loss(scores, targets, weights.hard) for scores, _ in results])
            total = total + weights.class_weight * terms["class"]
        if self.competitor is not None:
            total = total + weights.competition * competition(self.competitor(images), results[0][0])

        def figures() -> dict[str, float]:
            distance = sum(relative_distance(layers) for _, layers in results) / len(results)
            return {name: float(term.detach()) for name, term in terms.items()} | {"distance": distance}

        return Loss(total, figures)

    def evaluate(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """The mean softmax of the teachers, and the distance of the batch statistics."""
        return soft_labels_and_distance(self.teachers, images, self.targets is not None)

    def _run(self, images: Tensor) -> list[tuple[Tensor, list[LayerStatistics]]]:
        """The logits and the batch statistics of each teacher."""
        with autocast(images.device):
            results = [statistics.run(images) for statistics in self.statistics]
        return [(scores.flatten(1).float(), layers) for scores, layers in results]


def first_output(twin: Twin) -> CompetingModel:
    """A function that returns the first output (N, K) of a twin."""

    def run(images: Tensor) -> Tensor:
        with autocast(images.device):
            outputs = twin(images)
        scores: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
        return scores.flatten(1).float()

    return run


def _mean(terms: Sequence[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).mean(0)
