"""Crops of a ramp tell where they were taken."""

import torch

from dfq_deploy.synthesis.inversion.image_augmentation import random_crops


def test_crops_are_boxes_of_the_image_at_full_size() -> None:
    # Two channels hold the coordinates of each pixel's centre, 0 to 1.
    side = 40
    centres = (torch.arange(side) + 0.5) / side
    ramp = torch.stack([centres[:, None].expand(side, side), centres.expand(side, side)])[None]
    crops = random_crops(ramp.repeat(200, 1, 1, 1), 0.4, torch.Generator().manual_seed(0))
    assert crops.shape == (200, 2, side, side)
    middle = slice(5, side - 5)  # away from the edge, where a ramp is held
    down = crops[:, 0, middle, 0].diff(dim=1).mean(1) * side
    right = crops[:, 1, 0, middle].diff(dim=1).mean(1) * side
    height, width = down, right.abs()
    area, ratio = height * width, width / height
    assert 0.36 < area.min() < 0.45
    assert 0.9 < area.max() <= 1.001
    assert ratio.min() > 0.74
    assert ratio.max() < 1.34
    assert ratio.min() < 0.8
    mirrored = (right < 0).float().mean()
    assert 0.4 < mirrored < 0.6
    assert crops.min() >= 0
    assert crops.max() <= 1


def test_gradients_pass() -> None:
    images = torch.rand(3, 1, 8, 8, requires_grad=True)
    random_crops(images, 0.4, torch.Generator().manual_seed(0)).sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert (images.grad.sum((1, 2, 3)) > 60).all()  # 64 output pixels each draw on the image
