"""What is said of finished images: the teachers' labels, and how far the statistics are."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dfq_deploy.synthesis.precision import autocast
from dfq_deploy.synthesis.statistics import FeatureStatistics, relative_distance
from dfq_deploy.twin import Twin

__all__ = ["judged"]


@torch.no_grad()
def judged(teachers: Sequence[Twin], images: Tensor, classified: bool) -> tuple[Tensor | None, dict[str, float]]:
    """The teachers' mean softmax (N, K), None where they do not classify, and the mean distance of their statistics."""
    with autocast(images.device):
        found = [FeatureStatistics(teacher).run(images) for teacher in teachers]
    distance = sum(relative_distance(layers) for _, layers in found) / len(found)
    if not classified:
        return None, {"statistics_distance": distance}
    soft = torch.stack([torch.softmax(scores.flatten(1).float(), 1) for scores, _ in found]).mean(0)
    return soft, {"statistics_distance": distance}
