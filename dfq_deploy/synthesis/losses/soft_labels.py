"""Label finished images with the teacher's answers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics, relative_distance
from dfq_deploy.twin import Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["with_soft_labels"]


@torch.no_grad()
def with_soft_labels(
    teachers: Sequence[Twin], images: Tensor, classified: bool
) -> tuple[Tensor | None, dict[str, float]]:
    """The teachers' mean softmax (N, K), None where they do not classify, and the mean distance of their statistics."""
    with autocast(images.device):
        found = [FeatureStatistics(teacher).run(images) for teacher in teachers]
    distance = sum(relative_distance(layers) for _, layers in found) / len(found)
    if not classified:
        return None, {"statistics_distance": distance}
    soft = torch.stack([torch.softmax(scores.flatten(1).float(), 1) for scores, _ in found]).mean(0)
    return soft, {"statistics_distance": distance}
