"""Generator networks for images of any size."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from dfq_deploy.errors import ModelError
from dfq_deploy.samples.preprocess import Preprocess

__all__ = ["ClassNorm", "Geometry", "ImageGenerator", "InputSpace"]

LARGEST_START = 64
"""Maximum side of the first feature map; larger images are upsampled more than twice."""


class _Bounded(torch.autograd.Function):
    """Clamp that passes the gradient outside the bounds if a step along it leads back inside (projected descent).

    A plain clamp has no gradient outside the bounds: pixels that are out of range once would stay out of range.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(values, low, high)
        return values.clamp(low, high)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        values, low, high = ctx.saved_tensors  # type: ignore[attr-defined]
        stuck = ((values < low) & (grad > 0)) | ((values > high) & (grad < 0))
        return grad.masked_fill(stuck, 0.0), None, None


class InputSpace(nn.Module):
    """Maps channels of mean 0 and variance 1 to the input space of a model, and clamps them to valid pixel values.

    GDFQ and Qimera pass such channels to the model unchanged, because its input is normalised by the mean and the
    standard deviation of its data. The same is done here if ``preprocess`` looks like such a normalisation (mean 0.1 to
    0.9 and standard deviation 0.05 to 0.35 in units of pixel / 255) or is None; for another one, such as raw pixels,
    the channels get the mean 0.45 and the standard deviation 0.25 of photographs. Chosen for this project.

    Args:
        preprocess: the normalisation of pixels to the input; None leaves the images unbounded.
        channels: number of channels of the image.
    """

    low: Tensor
    high: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, preprocess: Preprocess | None, channels: int) -> None:
        super().__init__()
        zero = torch.zeros(channels)
        low, high, centre, spread = zero - torch.inf, zero + torch.inf, zero, zero + 1
        if preprocess is not None:
            low, high = (torch.from_numpy(bound.copy()) for bound in preprocess.bounds(channels))
            if not all(0.1 <= mean <= 0.9 for mean in preprocess.mean) or not all(
                0.05 <= std <= 0.35 for std in preprocess.std
            ):
                centre, spread = low + 0.45 * (high - low), 0.25 * (high - low)
        for name, value in (("low", low), ("high", high), ("centre", centre), ("spread", spread)):
            self.register_buffer(name, value[:, None, None].contiguous())
        self.bounded = preprocess is not None

    def forward(self, channels: Tensor) -> Tensor:
        """Map (N, C, H, W) to the input space, float32."""
        images = torch.addcmul(self.centre, channels.float(), self.spread)
        if not self.bounded:
            return images
        return _Bounded.apply(images, self.low, self.high)  # type: ignore[no-untyped-call,no-any-return]


class ClassNorm(nn.Module):
    """Class-conditional batch normalisation: a gain and an offset per class (Dumoulin et al., ICLR 2017).

    A soft label uses the mean of the gains and offsets, weighted by the label.

    Args:
        channels: number of channels of the features.
        classes: number of classes; None for one gain and offset shared by all.
        eps: added to the variance.
    """

    def __init__(self, channels: int, classes: int | None, eps: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=eps, affine=classes is None)
        self.gains = None if classes is None else nn.Parameter(torch.ones(classes, channels))
        self.offsets = None if classes is None else nn.Parameter(torch.zeros(classes, channels))

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """(N, C, H, W) and soft labels (N, K) to (N, C, H, W)."""
        normal: Tensor = self.norm(features)
        if self.gains is None or self.offsets is None:
            return normal
        if labels is None:
            raise ValueError("a class-conditional generator needs labels")
        gain, offset = (labels @ table for table in (self.gains, self.offsets))
        return torch.addcmul(offset[:, :, None, None], normal, gain[:, :, None, None])


@dataclass(frozen=True)
class Geometry:
    """The dimensions of a generator.

    Args:
        latent: length of the latent vectors.
        shape: shape of an image, (C, H, W).
        channels: number of channels of its feature maps; half of them in the last one.
        classes: number of classes if the normalisations are class-conditional, else None.
    """

    latent: int
    shape: tuple[int, ...]
    channels: int = 128
    classes: int | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3:
            raise ModelError(
                f"a generator makes images (C, H, W), and the model's input is {self.shape}; use another method, "
                "e.g. --synth deepinversion"
            )

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of the feature maps in order: upsampled twice, or more often if the first would exceed 64 pixels."""
        height, width = self.shape[1:]
        steps = max(2, math.ceil(math.log2(max(height, width) / LARGEST_START)))
        return [(-(-height // 2**k), -(-width // 2**k)) for k in range(steps, -1, -1)]


class ImageGenerator(nn.Module):
    """The generator of GDFQ (Xu et al., ECCV 2020) and Qimera, for images of any size and number of channels.

    Linear to feature maps of a quarter of the image size; BatchNorm; then, each after upsampling by two (nearest
    neighbour), Conv3x3, BatchNorm with epsilon 0.8 and LeakyReLU 0.2; Conv3x3 to the image channels; Tanh; BatchNorm
    without affine parameters; :class:`InputSpace`. At 32 and 224 pixels these are the papers' networks. For other sizes
    the sizes of the feature maps are rounded up, and images above 256 pixels are upsampled more often (chosen here,
    because the linear layer would grow with their area).
    """

    def __init__(self, geometry: Geometry, preprocess: Preprocess | None) -> None:
        super().__init__()
        channels, classes, self.sizes = geometry.channels, geometry.classes, geometry.sizes
        self.channels = channels
        height, width = self.sizes[0]
        self.start = nn.Linear(geometry.latent, channels * height * width)
        self.norm = ClassNorm(channels, classes, eps=1e-5)
        widths = [channels] * (len(self.sizes) - 1) + [max(channels // 2, 1)]
        self.convolutions = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths))
        self.norms = nn.ModuleList(ClassNorm(after, classes, eps=0.8) for after in widths[1:])
        self.last = nn.Conv2d(widths[-1], geometry.shape[0], 3, padding=1)
        self.whiten = nn.BatchNorm2d(geometry.shape[0], affine=False)
        self.space = InputSpace(preprocess, geometry.shape[0])

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (N, L), and soft labels (N, K) if the network is conditional, to images (N, C, H, W)."""
        features = self.start(latents).unflatten(1, (*self.sizes[0], self.channels)).permute(0, 3, 1, 2)
        features = self.norm(features, labels)
        for size, convolution, norm in zip(self.sizes[1:], self.convolutions, self.norms, strict=True):
            features = nn.functional.interpolate(features, size, mode="nearest-exact")
            features = nn.functional.leaky_relu(norm(convolution(features), labels), 0.2)
        images: Tensor = self.space(self.whiten(torch.tanh(self.last(features)).float()))
        return images
