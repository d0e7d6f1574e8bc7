"""Distance to the running statistics, image by image."""

from typing import TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.generators.networks import InputSpace

__all__ = ["Space", "deviation", "image_distance", "image_moments", "image_space", "squared_distance", "wide_space"]

WIDE = 2.0
"""Standard deviation of photographs in the input space from which on it is wide."""

Space: TypeAlias = tuple[Tensor, Tensor]
"""Mean and standard deviation of images in a model's input space, both float32 (C, 1, 1)."""


class _ImageMoments(torch.autograd.Function):
    """Passes features on and returns mean and biased variance per image and channel.

    One node in the autograd graph. All of it runs in float32 on the channels-last layout, where bfloat16 kernels that
    broadcast over pixels, and torch.var_mean, take 10 to 30 times as long; in place, since new memory costs as much as
    the arithmetic.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = _rows(features).to(torch.float32, copy=True)
        mean = rows.mean(1)
        var = rows.sub_(mean[:, None]).square_().mean(1)
        ctx.save_for_backward(features, mean)
        return features.view_as(features), mean, var

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor, grad_mean: Tensor, grad_var: Tensor) -> Tensor:
        features, mean = ctx.saved_tensors  # type: ignore[attr-defined]
        rows = _rows(features).float()
        # d mean / d x = 1 / n and d var / d x = 2 (x - mean) / n, image by image and channel by channel.
        slope = 2 * grad_var / rows.shape[1]
        offset = grad_mean / rows.shape[1] - slope * mean
        result = torch.addcmul(offset[:, None], rows, slope[:, None]).add_(_rows(grad))
        shape = (features.shape[0], *features.shape[2:], features.shape[1])
        return result.reshape(shape).movedim(-1, 1).to(features.dtype)


def _rows(features: Tensor) -> Tensor:
    """(N, C, ...) to (N, pixels, C): no copy where the layout is channels-last."""
    return features.movedim(1, -1).flatten(1, -2) if features.ndim > 2 else features[:, None]


def image_moments(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The features (N, C, ...) themselves, and float32 (N, C) mean and biased variance with gradients."""
    passed, mean, var = _ImageMoments.apply(features)  # type: ignore[no-untyped-call]
    return passed, mean, var


def deviation(var: Tensor) -> Tensor:
    """The standard deviation; 1e-6 is added to the variance, whose root has no slope at 0."""
    return (var + 1e-6).sqrt()


def squared_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean over the images of the squared Euclidean distance: found (N, C), wanted (C,)."""
    distances: Tensor = (found - wanted).square().sum(1)
    return distances.mean()


def image_space(request: SynthesisRequest) -> Space | None:
    """Mean and standard deviation of photographs in the input space; None where the input is no image.

    They are 0 and 1 where the input is normalised by its own data, as the papers have it (:class:`InputSpace` says
    when that is taken to be so).
    """
    if len(request.shape) != 3:
        return None
    space = InputSpace(request.preprocess, request.shape[0]).to(request.device)
    return space.centre, space.spread


def wide_space(request: SynthesisRequest) -> Space | None:
    """:func:`image_space` where the input is so wide (raw pixels, 0 to 255) that steps and priors that are made for
    normalised images would do nothing; None elsewhere."""
    space = image_space(request)
    return space if space is not None and float(space[1].max()) > WIDE else None


def image_distance(images: Tensor, space: Space | None) -> Tensor:
    """How far the images (N, C, H, W) by themselves are from mean 0 and standard deviation 1, once ``space`` is taken
    off: squared distances, mean over the images. 0 without a space."""
    if space is None:
        return torch.zeros((), device=images.device)
    _, mean, var = image_moments((images - space[0]) / space[1])
    return squared_distance(mean, torch.zeros_like(mean[0])) + squared_distance(
        deviation(var), torch.ones_like(mean[0])
    )
