"""Distance to the running statistics, per image."""

from typing import TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.generators.networks import InputSpace

__all__ = [
    "Space",
    "image_distance",
    "image_moments",
    "image_space",
    "squared_distance",
    "standard_deviation",
    "wide_image_space",
]

WIDE = 2.0
"""An input space is wide if the standard deviation of photographs in it is larger than this."""

Space: TypeAlias = tuple[Tensor, Tensor]
"""Mean and standard deviation of images in a model's input space, both float32 (C, 1, 1)."""


class _ImageMoments(torch.autograd.Function):
    """Return the features unchanged, and mean and biased variance per image and channel.

    A single node in the autograd graph. It computes in float32 on the channels-last layout, where bfloat16 kernels
    that broadcast over pixels, and torch.var_mean, take 10 to 30 times as long; and in place, because allocating memory
    costs as much as the arithmetic.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pixels = _pixels_by_channel(features).to(torch.float32, copy=True)
        mean = pixels.mean(1)
        var = pixels.sub_(mean[:, None]).square_().mean(1)
        ctx.save_for_backward(features, mean)
        return features.view_as(features), mean, var

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor, grad_mean: Tensor, grad_var: Tensor) -> Tensor:
        features, mean = ctx.saved_tensors  # type: ignore[attr-defined]
        pixels = _pixels_by_channel(features).float()
        # d mean / d x = 1 / n and d var / d x = 2 (x - mean) / n, per image and channel.
        slope = 2 * grad_var / pixels.shape[1]
        offset = grad_mean / pixels.shape[1] - slope * mean
        result = torch.addcmul(offset[:, None], pixels, slope[:, None]).add_(_pixels_by_channel(grad))
        shape = (features.shape[0], *features.shape[2:], features.shape[1])
        return result.reshape(shape).movedim(-1, 1).to(features.dtype)


def _pixels_by_channel(features: Tensor) -> Tensor:
    """Reshape (N, C, ...) to (N, pixels, C), without a copy if the layout is channels-last."""
    return features.movedim(1, -1).flatten(1, -2) if features.ndim > 2 else features[:, None]


def image_moments(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The features (N, C, ...) themselves, and float32 (N, C) mean and biased variance with gradients."""
    passed, mean, var = _ImageMoments.apply(features)  # type: ignore[no-untyped-call]
    return passed, mean, var


def standard_deviation(var: Tensor) -> Tensor:
    """Standard deviation of a variance; 1e-6 is added to keep the gradient finite at 0."""
    return (var + 1e-6).sqrt()


def squared_distance(values: Tensor, reference: Tensor) -> Tensor:
    """Mean over the images of the squared Euclidean distance between values (N, C) and a reference (C,)."""
    distances: Tensor = (values - reference).square().sum(1)
    return distances.mean()


def image_space(request: SynthesisRequest) -> Space | None:
    """Mean and standard deviation of photographs in the input space; None if the input is not an image.

    They are 0 and 1 if the input is normalised by the statistics of its own data, as in the papers
    (:class:`InputSpace` has the criterion).
    """
    if len(request.shape) != 3:
        return None
    space = InputSpace(request.preprocess, request.shape[0]).to(request.device)
    return space.centre, space.spread


def wide_image_space(request: SynthesisRequest) -> Space | None:
    """:func:`image_space` if the input space is so wide (raw pixels, 0 to 255) that steps and priors for normalised
    images would have no effect; else None."""
    space = image_space(request)
    return space if space is not None and float(space[1].max()) > WIDE else None


def image_distance(images: Tensor, space: Space | None) -> Tensor:
    """Squared distance of the statistics of each image (N, C, H, W), normalised by ``space``, from mean 0 and standard
    deviation 1; averaged over the images. 0 without a space."""
    if space is None:
        return torch.zeros((), device=images.device)
    _, mean, var = image_moments((images - space[0]) / space[1])
    return squared_distance(mean, torch.zeros_like(mean[0])) + squared_distance(
        standard_deviation(var), torch.ones_like(mean[0])
    )
