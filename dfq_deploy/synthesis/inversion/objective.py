"""DeepInversion's loss: class scores, BatchNormalization statistics, image priors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from dfq_deploy.synthesis.inversion.loop import Loss, Objective
from dfq_deploy.synthesis.inversion.mixing import mix
from dfq_deploy.synthesis.inversion.parts import BatchStatistics, part_note, part_sizes, with_gradient
from dfq_deploy.synthesis.losses.batch_norm_statistics import (
    FeatureStatistics,
    LayerStatistics,
    feature_distance,
    relative_distance,
)
from dfq_deploy.synthesis.losses.image_priors import (
    class_loss,
    competition,
    image_norm,
    squared_variation,
    total_variation_l1,
    total_variation_l2,
)
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
        self._sizes: dict[tuple[int, ...], list[int]] = {}
        self._most_parts, self._device = 1, torch.device("cpu")
        self._batch: tuple[BatchStatistics, ...] = ()
        self._shape: tuple[int, ...] = ()

    def loss(self, images: Tensor, generator: torch.Generator) -> Loss:
        """The weighted sum of all terms for the images as they are passed to the teachers.

        A batch whose features do not fit into memory is run in parts
        (:mod:`dfq_deploy.synthesis.inversion.parts`).
        """
        weights, targets = self.weights, self.targets
        if weights.mixing and torch.rand((), generator=generator) < weights.mixing:
            images, targets = mix(images, targets, generator)
        shape = tuple(images.shape)
        if shape not in self._sizes:
            self._sizes[shape] = part_sizes(self._run, self.teachers, images)
            self._most_parts, self._device = max(self._most_parts, len(self._sizes[shape])), images.device
        sizes = self._sizes[shape]
        if len(sizes) > 1:
            return self._loss_in_parts(images, targets, sizes)
        results = self._run(images)
        total, terms = self._network_loss(images, targets, results)
        total = total + self._priors(images)
        return Loss(total, partial(_figures, terms, [layers for _, layers in results]))

    def _loss_in_parts(self, images: Tensor, targets: Tensor | None, sizes: list[int]) -> Loss:
        """The loss of a batch that is run in parts, with its gradient."""
        shape = tuple(images.shape)
        if shape != self._shape:
            shares = [size / len(images) for size in sizes]
            self._shape, self._batch = shape, tuple(BatchStatistics(shares) for _ in self.teachers)
        pieces = torch.split(images.detach(), sizes)
        with torch.no_grad():
            squares = [squared_variation(self._normalised(piece)) for piece in pieces]
            norms = torch.stack(squares).sum(0).sqrt().clamp_min(1e-12)
        several: Sequence[Tensor | None] = [None] * len(sizes) if targets is None else torch.split(targets, sizes)
        value, gradients = self.weights.tv_l2 * norms.sum() / 2, []
        for index, (piece, goals) in enumerate(zip(pieces, several, strict=True)):
            leaf, share = piece.requires_grad_(), len(piece) / len(images)
            results = [
                (scores, batch.combine(index, layers))
                for batch, (scores, layers) in zip(self._batch, self._run(leaf), strict=True)
            ]
            network, terms = self._network_loss(leaf, goals, results, share)
            total = network + self._priors(leaf, share, norms)
            total.backward()  # type: ignore[no-untyped-call]
            assert leaf.grad is not None
            gradients.append(leaf.grad)
            value = value + total.detach()
        # The distance of the statistics is that of the whole batch, and every part has added it.
        value = value - (len(sizes) - 1) * self.weights.feature_weight * terms["feature"].detach()
        figures = partial(_figures, terms, [layers for _, layers in results])
        return Loss(with_gradient(images, value, torch.cat(gradients)), figures)

    def _network_loss(
        self,
        images: Tensor,
        targets: Tensor | None,
        results: Sequence[tuple[Tensor, Sequence[LayerStatistics]]],
        share: float = 1.0,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The terms that depend on the networks; those that are means over images count with ``share``."""
        weights = self.weights
        terms = {"feature": _mean([feature_distance(layers, weights.first_multiplier) for _, layers in results])}
        total = weights.feature_weight * terms["feature"]
        if targets is not None:
            terms["class"] = _mean([class_loss(scores, targets, weights.hard) for scores, _ in results])
            total = total + share * weights.class_weight * terms["class"]
        if self.competitor is not None:
            total = total + share * weights.competition * competition(self.competitor(images), results[0][0])
        return total, terms

    def _priors(self, images: Tensor, share: float = 1.0, norms: Tensor | None = None) -> Tensor:
        """The image priors.

        Args:
            share: of the images in the batch.
            norms: those of the variations of the whole batch (4,), for a part of it; the result then has the gradient
                of the norms, and half their value.
        """
        weights, normalised = self.weights, self._normalised(images)
        if norms is not None:
            total = weights.tv_l2 * (squared_variation(normalised) / (2 * norms)).sum()
        else:
            total = weights.tv_l2 * total_variation_l2(normalised)
        if weights.tv_l1:
            total = total + share * weights.tv_l1 * total_variation_l1(normalised)
        return total + share * weights.l2 * image_norm(normalised) if weights.l2 else total

    def _normalised(self, images: Tensor) -> Tensor:
        return images if self.space is None else (images - self.space[0]) / self.space[1]

    def state(self) -> dict[str, Any]:
        """The statistics of the parts of the batch."""
        return {"shape": self._shape, "batch": [(batch.shares, batch.state()) for batch in self._batch]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the state that :meth:`state` returned."""
        self._shape = tuple(state.get("shape", ()))
        self._batch = tuple(BatchStatistics(shares) for shares, _ in state.get("batch", ()))
        for batch, (_, moments) in zip(self._batch, state.get("batch", ()), strict=True):
            batch.restore(moments)

    def notes(self) -> tuple[str, ...]:
        """That ``--max-memory`` made parts of the batches."""
        sentence = part_note(self._most_parts, self._device)
        return (sentence,) if sentence else ()

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


def _figures(terms: Mapping[str, Tensor], layers: Sequence[Sequence[LayerStatistics]]) -> dict[str, float]:
    """The terms by name, and the mean distance of the statistics."""
    distance = sum(relative_distance(statistics) for statistics in layers) / len(layers)
    return {name: float(term.detach()) for name, term in terms.items()} | {"distance": distance}


def _mean(terms: Sequence[Tensor]) -> Tensor:
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).mean(0)
