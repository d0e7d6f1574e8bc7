"""Data mixing (MixMix, Li et al., ICCV 2021)."""

import torch
from torch import Tensor

__all__ = ["mix", "random_box"]


def random_box(height: int, width: int, generator: torch.Generator) -> tuple[slice, slice]:
    """Rows and columns of a box whose share of the area is drawn from [0, 1] and whose centre is drawn from the image.

    What sticks out of the image is cut off. MixMix does not say how it draws boxes; these are CutMix's (Yun et al.,
    ICCV 2019) with alpha 1.
    """
    share, row, column = torch.rand(3, generator=generator).tolist()
    side = share**0.5
    return _span(height, row, side), _span(width, column, side)


def _span(length: int, centre: float, side: float) -> slice:
    middle, half = int(centre * length), round(side * length / 2)
    return slice(max(middle - half, 0), min(middle + half, length))


def mix(images: Tensor, targets: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Paste the same box of another image of the batch, drawn at random, into each.

    Args:
        images: (N, C, H, W); gradients pass to both images.
        targets: probabilities (N, K); the other image's count by the share of its box.
    """
    order = torch.randperm(len(images), generator=generator).to(images.device)
    rows, columns = random_box(images.shape[2], images.shape[3], generator)
    inside = torch.zeros(images.shape[2:], dtype=torch.bool, device=images.device)
    inside[rows, columns] = True
    mixed = torch.where(inside, images[order], images)
    if targets is None:
        return mixed, None
    share = (rows.stop - rows.start) * (columns.stop - columns.start) / inside.numel()
    return mixed, (1 - share) * targets + share * targets[order]
