"""Data mixing (MixMix, Li et al., ICCV 2021)."""

import torch
from torch import Tensor

__all__ = ["mix", "random_box"]


def random_box(height: int, width: int, generator: torch.Generator) -> tuple[slice, slice]:
    """Rows and columns of a random box, whose area is drawn from [0, 1] of the image's and its centre from the image.

    The box is cropped to the image. The MixMix paper does not specify how boxes are drawn; these are CutMix's (Yun et
    al., ICCV 2019) with alpha 1.
    """
    area, row, column = torch.rand(3, generator=generator).tolist()
    side = area**0.5
    return _interval(height, row, side), _interval(width, column, side)


def _interval(length: int, centre: float, side: float) -> slice:
    middle, half = int(centre * length), round(side * length / 2)
    return slice(max(middle - half, 0), min(middle + half, length))


def mix(images: Tensor, targets: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Paste a box of another image of the batch, drawn at random, into each image; the box is the same for all.

    Args:
        images: (N, C, H, W); gradients flow to both images.
        targets: probabilities (N, K); they are mixed in proportion to the areas.
    """
    order = torch.randperm(len(images), generator=generator).to(images.device)
    rows, columns = random_box(images.shape[2], images.shape[3], generator)
    inside = torch.zeros(images.shape[2:], dtype=torch.bool, device=images.device)
    inside[rows, columns] = True
    mixed = torch.where(inside, images[order], images)
    if targets is None:
        return mixed, None
    area = (rows.stop - rows.start) * (columns.stop - columns.start) / inside.numel()
    return mixed, (1 - area) * targets + area * targets[order]
