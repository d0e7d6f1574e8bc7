"""Add augmented and procedural images to a small sample set."""

import numpy as np
import torch
from torch import Tensor

from dfq_deploy.samples.augmentation import Augmentation
from dfq_deploy.synthesis.procedural.pictures import Pictures

__all__ = ["with_more_samples"]


def with_more_samples(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Extend images to at least ``count``; other inputs are returned as they are.

    Half of the added images are augmented from ``images``; the others are procedural, scaled to the same range.
    """
    missing = count - len(images)
    if images.ndim != 4 or missing <= 0:
        return images
    augmented = Augmentation.suited_to(tuple(images.shape[1:]))
    batches = [images]
    while sum(map(len, batches)) < count - missing // 2:
        batches.append(augmented(images, None, generator)[0][: count - missing // 2 - sum(map(len, batches))])
    low, high = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
    rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    channels, height, width = images.shape[1:]
    if missing >= 2:
        pictures = Pictures().draw(missing // 2, (channels, height, width), rng)
        batches.append(torch.from_numpy(pictures) * (high - low) + low)
    return torch.cat(batches).contiguous(memory_format=torch.channels_last)
