"""Mean, variance and bounds of a tensor's channels in closed form."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "joined", "linear", "pooled", "product", "through", "total"]

POINTS = 1025
"""Of the grid on which a normal distribution is passed through a function; the clipped normal's mean comes out to
1e-5 of the standard deviation."""

REACH = 8.0
"""Standard deviations that the grid spans on either side."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What is known of each channel.

    Args:
        mean, var: float64 (C,).
        low, high: float64 (C,), between which the channel's values are taken to lie.
    """

    mean: Tensor
    var: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def normal(cls, mean: Tensor, var: Tensor, reach: float) -> "Moments":
        """A normal distribution that ends at ``reach`` standard deviations: beta +- n * gamma in the paper."""
        wide, spread = mean.double(), reach * var.double().sqrt()
        return cls(wide, var.double(), wide - spread, wide + spread)

    def __len__(self) -> int:
        return len(self.mean)

    def mixed(self) -> "Moments":
        """All channels as one, (1,): where it is no longer known which values belong to which channel."""
        mean = self.mean.mean()
        var = self.var.mean() + (self.mean - mean).square().mean()
        return Moments(*(value.reshape(1) for value in (mean, var, self.low.min(), self.high.max())))

    def broadcast_to(self, channels: int) -> "Moments":
        """(C,), of one channel or of C; of any other number the mixture is taken."""
        if len(self) == channels:
            return self
        one = self if len(self) == 1 else self.mixed()
        return Moments(*(value.expand(channels) for value in (one.mean, one.var, one.low, one.high)))

    def repeated(self, times: int) -> "Moments":
        """Each channel ``times`` times in a row, as Flatten lays out its pixels."""
        return Moments(*(value.repeat_interleave(times) for value in (self.mean, self.var, self.low, self.high)))

    def within(self, low: Tensor, high: Tensor) -> "Moments":
        """With ends that are no wider than ``low`` and ``high``."""
        return Moments(self.mean, self.var, self.low.maximum(low), self.high.minimum(high))


def through(moments: Moments, function: Callable[[Tensor], Tensor]) -> Moments:
    """``moments`` after an elementwise function, by a grid over normal distributions that are cut off at their ends.

    For ReLU the mean is that of the clipped normal distribution (Nagel et al. 2019, appendix C).

    Args:
        function: values of any shape to values of that shape.
    """
    steps = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64)[:, None]
    weight = torch.exp(-steps.square() / 2)
    weight = weight / weight.sum()
    values = moments.mean + moments.var.sqrt() * steps
    passed = function(values.maximum(moments.low).minimum(moments.high).float()).double()
    mean = (weight * passed).sum(0)
    reached = function((moments.low + (moments.high - moments.low) * torch.linspace(0, 1, POINTS)[:, None]).float())
    ends = reached.double().amin(0), reached.double().amax(0)
    return Moments(mean, (weight * (passed - mean).square()).sum(0), *ends)


def total(first: Moments, second: Moments, reach: float) -> Moments:
    """The sum of two that are taken to be independent; its ends are the sums of theirs, or ``reach`` deviations."""
    channels = max(len(first), len(second))
    first, second = first.broadcast_to(channels), second.broadcast_to(channels)
    bound = Moments.normal(first.mean + second.mean, first.var + second.var, reach)
    return bound.within(first.low + second.low, first.high + second.high)


def product(first: Moments, second: Moments) -> Moments:
    """The product of two that are taken to be independent."""
    channels = max(len(first), len(second))
    first, second = first.broadcast_to(channels), second.broadcast_to(channels)
    squares = (first.var + first.mean.square()) * (second.var + second.mean.square())
    mean = first.mean * second.mean
    corners = torch.stack([a * b for a in (first.low, first.high) for b in (second.low, second.high)])
    return Moments(mean, (squares - mean.square()).clamp_min(0), corners.amin(0), corners.amax(0))


def joined(parts: list[Moments]) -> Moments:
    """The channels of all, one after the other."""
    return Moments(*(torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "var", "low", "high")))


def linear(moments: Moments, weight: Tensor, bias: Tensor | None, reach: float) -> Moments:
    """After a linear layer whose inputs are taken to be independent.

    Args:
        moments: of its inputs, (I,), in G groups that lie one after the other.
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


def pooled(moments: Moments, size: int, reach: float) -> Moments:
    """After the mean over ``size`` positions, whose variance is taken to fall as if the square root of them were
    independent (neighbours in features are alike).
    """
    bound = Moments.normal(moments.mean, moments.var / math.sqrt(max(size, 1)), reach)
    return bound.within(moments.low, moments.high)
