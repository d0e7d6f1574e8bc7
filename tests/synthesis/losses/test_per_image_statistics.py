"""Statistics of each image by itself: by hand, and against plain torch in float64."""

import math

import pytest
import torch
from torch import Tensor

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.synthesis.losses.per_image_statistics import (
    image_distance,
    image_moments,
    image_space,
    squared_distance,
    standard_deviation,
)


def test_moments_by_hand() -> None:
    # Two images of one channel: 1, 3 and -2, 2, 4, 4 over the pixels.
    passed, mean, var = image_moments(torch.tensor([[[[1.0, 3.0], [1.0, 3.0]]], [[[-2.0, 2.0], [4.0, 4.0]]]]))
    assert mean.tolist() == [[2], [2]]
    assert var.tolist() == [[1], [(16 + 0 + 4 + 4) / 4]]
    assert passed.shape == (2, 1, 2, 2)


def loss(passed: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """Something of all three whose gradient differs from image to image and from channel to channel."""
    slope = torch.linspace(-1, 2, mean.numel(), dtype=mean.dtype).reshape(mean.shape)
    return (slope * mean).sum() + (slope.flip(0) * (var + 1).sqrt()).sum() + (passed**2).sum() / 100


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (4, 3, 7), (4, 3)])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "bfloat16"])
def test_gradients_are_those_of_torch(shape: tuple[int, ...], layout: str) -> None:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1
    if layout == "bfloat16":
        start = start.bfloat16()
    exact, given = start.double().requires_grad_(), start.clone()
    if layout == "channels last" and len(shape) == 4:
        given = given.to(memory_format=torch.channels_last)
    given.requires_grad_()
    axes = tuple(range(2, len(shape)))
    wanted = (exact, exact.mean(axes), exact.var(axes, correction=0)) if axes else (exact, exact, 0 * exact)
    loss(*wanted).backward()  # type: ignore[no-untyped-call]
    found = image_moments(given)
    loss(*found).backward()  # type: ignore[no-untyped-call]
    assert (found[1].dtype, found[2].dtype) == (torch.float32, torch.float32)
    rtol, atol = (0.02, 0.02) if layout == "bfloat16" else (1e-4, 1e-5)
    for mine, theirs in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(mine.double(), theirs.detach(), rtol=rtol, atol=atol)
    assert given.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(given.grad.double(), exact.grad, rtol=rtol, atol=atol)


def test_the_squared_distance_is_a_mean_over_the_images() -> None:
    # (1 + 4) and (0 + 9).
    assert squared_distance(torch.tensor([[1.0, 2], [0, 3]]), torch.zeros(2)).item() == pytest.approx(7)


def test_a_deviation_has_a_slope_at_zero() -> None:
    var = torch.zeros(1, requires_grad=True)
    standard_deviation(var).sum().backward()  # type: ignore[no-untyped-call]
    assert var.grad is not None
    assert torch.isfinite(var.grad).all()
    assert standard_deviation(torch.tensor(4.0)).item() == pytest.approx(2)


def test_images_are_to_have_mean_0_and_deviation_1() -> None:
    request = SynthesisRequest(1, (2, 2, 2))
    space = image_space(request)
    # Channel one has mean 3 and deviation 1, channel two mean 0 and deviation 2.
    image = torch.tensor([[[[2.0, 4], [2, 4]], [[-2, 2], [2, -2]]]])
    assert image_distance(image, space).item() == pytest.approx(9 + 0 + 0 + 1, rel=1e-4)
    assert image_space(SynthesisRequest(1, (5,))) is None
    assert image_distance(image, None).item() == 0


def test_raw_pixels_are_to_have_those_of_photographs() -> None:
    space = image_space(SynthesisRequest(1, (1, 2, 2), preprocess=PREPROCESSES["raw"]))
    photograph = 255 * (0.45 + 0.25 * torch.tensor([[[[-1.0, 1], [1, -1]]]]))
    assert image_distance(photograph, space).item() == pytest.approx(0, abs=1e-6)
    grey = torch.full((1, 1, 2, 2), 255 * 0.45)
    assert image_distance(grey, space).item() == pytest.approx((1 - math.sqrt(1e-6)) ** 2, rel=1e-3)
