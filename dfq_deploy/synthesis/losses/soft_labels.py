"""Soft labels from the outputs of the teachers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics, relative_distance
from dfq_deploy.twin import Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["soft_labels_and_distance"]


@torch.no_grad()
def soft_labels_and_distance(
    teachers: Sequence[Twin], images: Tensor, has_classes: bool
) -> tuple[Tensor | None, dict[str, float]]:
    """The mean softmax (N, K) of the teachers, None without classes, and the mean distance of the batch statistics."""
    with autocast(images.device):
        results = [FeatureStatistics(teacher).run(images) for teacher in teachers]
    distance = sum(relative_distance(layers) for _, layers in results) / len(results)
    if not has_classes:
        return None, {"statistics_distance": distance}
    labels = torch.stack([torch.softmax(scores.flatten(1).float(), 1) for scores, _ in results]).mean(0)
    return labels, {"statistics_distance": distance}
