"""Add augmented and procedural images where few samples are given."""

import numpy as np
import torch
from torch import Tensor

from dfq_deploy.samples.augmentation import Augmentation
from dfq_deploy.synthesis.methods.procedural import Procedural

__all__ = ["with_more_samples"]


def with_more_samples(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """At least ``count`` samples: the given ones, and where they are pictures as many more as are missing.

    Half of those are the given ones, augmented; the others are made by rule, as bright as the given ones.
    """
    missing = count - len(images)
    if images.ndim != 4 or missing <= 0:
        return images
    augmented = Augmentation.suited_to(tuple(images.shape[1:]))
    parts = [images]
    while sum(map(len, parts)) < count - missing // 2:
        parts.append(augmented(images, None, generator)[0][: count - missing // 2 - sum(map(len, parts))])
    low, high = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
    rng, rule = np.random.default_rng(int(torch.randint(2**31, (), generator=generator))), Procedural()
    channels, height, width = images.shape[1:]
    for _ in range(missing // 2):
        parts.append(torch.from_numpy(rule.picture(channels, height, width, rng)) * (high - low) + low)
    return torch.cat(parts).contiguous(memory_format=torch.channels_last)
