"""Mean, variance and bounds of a tensor's channels in closed form."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "add", "apply_elementwise", "average", "concatenate", "linear", "multiply"]

POINTS = 1025
"""Number of points of the grid on which a function of a normal distribution is evaluated; the mean of a clipped normal
distribution is accurate to 1e-5 of the standard deviation."""

REACH = 8.0
"""Standard deviations that the grid covers on either side of the mean."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean, variance and bounds of each channel of a tensor.

    Args:
        mean, var: float64 (C,).
        low, high: float64 (C,), assumed bounds of the values of the channel.
    """

    mean: Tensor
    var: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def normal(cls, mean: Tensor, var: Tensor, reach: float) -> "Moments":
        """A normal distribution truncated at ``reach`` standard deviations: beta +- n * gamma in the paper."""
        mean64, spread = mean.double(), reach * var.double().sqrt()
        return cls(mean64, var.double(), mean64 - spread, mean64 + spread)

    def __len__(self) -> int:
        return len(self.mean)

    def mixture(self) -> "Moments":
        """The mixture of all channels as one channel, (1,)."""
        mean = self.mean.mean()
        var = self.var.mean() + (self.mean - mean).square().mean()
        return Moments(*(value.reshape(1) for value in (mean, var, self.low.min(), self.high.max())))

    def broadcast_to(self, channels: int) -> "Moments":
        """Expand to ``channels`` channels; another number of channels than that or 1 is replaced by the mixture."""
        if len(self) == channels:
            return self
        single = self if len(self) == 1 else self.mixture()
        return Moments(*(value.expand(channels) for value in (single.mean, single.var, single.low, single.high)))

    def repeat(self, times: int) -> "Moments":
        """Repeat each channel ``times`` times in a row, as Flatten arranges its pixels."""
        return Moments(*(value.repeat_interleave(times) for value in (self.mean, self.var, self.low, self.high)))

    def clamp(self, low: Tensor, high: Tensor) -> "Moments":
        """Restrict the bounds to ``low`` and ``high``."""
        return Moments(self.mean, self.var, self.low.maximum(low), self.high.minimum(high))


def apply_elementwise(moments: Moments, function: Callable[[Tensor], Tensor]) -> Moments:
    """Apply an elementwise function, evaluated on a grid over the normal distributions clipped to their bounds.

    For ReLU the mean is that of the clipped normal distribution (Nagel et al. 2019, appendix C).

    Args:
        function: values of any shape to values of that shape.
    """
    steps = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64)[:, None]
    weight = torch.exp(-steps.square() / 2)
    weight = weight / weight.sum()
    values = moments.mean + moments.var.sqrt() * steps
    results = function(values.maximum(moments.low).minimum(moments.high).float()).double()
    mean = (weight * results).sum(0)
    image = function((moments.low + (moments.high - moments.low) * torch.linspace(0, 1, POINTS)[:, None]).float())
    bounds = image.double().amin(0), image.double().amax(0)
    return Moments(mean, (weight * (results - mean).square()).sum(0), *bounds)


def add(first: Moments, second: Moments, reach: float) -> Moments:
    """The sum of two independent tensors; its bounds are the sums of theirs, restricted to ``reach`` deviations."""
    channels = max(len(first), len(second))
    first, second = first.broadcast_to(channels), second.broadcast_to(channels)
    bound = Moments.normal(first.mean + second.mean, first.var + second.var, reach)
    return bound.clamp(first.low + second.low, first.high + second.high)


def multiply(first: Moments, second: Moments) -> Moments:
    """The product of two independent tensors."""
    channels = max(len(first), len(second))
    first, second = first.broadcast_to(channels), second.broadcast_to(channels)
    squares = (first.var + first.mean.square()) * (second.var + second.mean.square())
    mean = first.mean * second.mean
    corners = torch.stack([a * b for a in (first.low, first.high) for b in (second.low, second.high)])
    return Moments(mean, (squares - mean.square()).clamp_min(0), corners.amin(0), corners.amax(0))


def concatenate(parts: list[Moments]) -> Moments:
    """Concatenate the channels of several tensors."""
    return Moments(*(torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "var", "low", "high")))


def linear(moments: Moments, weight: Tensor, bias: Tensor | None, reach: float) -> Moments:
    """The output of a linear layer with independent inputs.

    Args:
        moments: moments of its inputs, (I,), in G consecutive groups.
        weight: (O, I / G, positions); the first O / G rows belong to the first group.
        bias: (O,).
    """
    rows, width = weight.shape[:2]
    inputs = moments.broadcast_to(len(moments) if len(moments) > 1 else width)
    groups = max(1, len(inputs) // width)
    split = weight.double().reshape(groups, rows // groups, width, -1)
    mean = torch.einsum("grip,gi->gr", split, inputs.mean.reshape(groups, width)).reshape(-1)
    var = torch.einsum("grip,gi->gr", split.square(), inputs.var.reshape(groups, width)).reshape(-1)
    shift = 0.0 if bias is None else bias.double()
    return Moments.normal(mean + shift, var, reach)


def average(moments: Moments, size: int, reach: float) -> Moments:
    """The mean over ``size`` positions, of which sqrt(``size``) are assumed to be independent (neighbouring features
    are correlated).
    """
    bound = Moments.normal(moments.mean, moments.var / math.sqrt(max(size, 1)), reach)
    return bound.clamp(moments.low, moments.high)
