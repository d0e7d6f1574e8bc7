"""Random crops of images during inversion."""

import torch
from torch import Tensor

__all__ = ["random_crops"]


def random_crops(images: Tensor, minimum_area: float, generator: torch.Generator) -> Tensor:
    """Crop a random box of each image (N, C, H, W), resize it to the full size, and flip it with probability 0.5.

    A box has ``minimum_area`` to 1 of the area and an aspect ratio of 3/4 to 4/3 of the image's (uniform in the
    logarithm), and lies anywhere within the image. The interpolation is bilinear and differentiable.
    """
    area, ratio, down, right, mirrored = torch.rand(5, len(images), generator=generator)
    area = minimum_area + (1 - minimum_area) * area
    stretch = ((2 * ratio - 1) * 0.5 * torch.log(torch.tensor(4 / 3))).exp()
    height, width = (area.sqrt() / stretch).clamp_max(1), (area.sqrt() * stretch).clamp_max(1)
    # Affine maps from the output's square [-1, 1] x [-1, 1] to the input's.
    maps = torch.zeros(len(images), 2, 3)
    maps[:, 0, 0] = torch.where(mirrored < 0.5, -width, width)
    maps[:, 1, 1] = height
    maps[:, 0, 2], maps[:, 1, 2] = (2 * right - 1) * (1 - width), (2 * down - 1) * (1 - height)
    grid = torch.nn.functional.affine_grid(maps.to(images.device), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
