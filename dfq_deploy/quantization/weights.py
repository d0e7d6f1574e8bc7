"""Encode weights, and raise their scales where the int32 bias would overflow."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType

__all__ = [
    "LARGEST_BIAS",
    "Bounds",
    "best_bounds",
    "encoding_of_weight",
    "extremes",
    "least_squares",
    "room_for_bias",
]

Floats: TypeAlias = NDArray[np.floating[Any]]

Bounds: TypeAlias = Callable[[Floats, QuantType], tuple[Floats, Floats]]
"""Weights (channels, n) and their type -> the lower and the upper bound of each channel, shape (channels,)."""

CANDIDATES = 100

SMALLEST_PART = 0.2
"""Of a channel's extremes: nothing is gained by clipping more, at 2 bits either."""

LARGEST_BIAS = 2**30
"""Of an int32 bias: the other half of the accumulator is left to the products that it is added to."""


def extremes(weights: Floats, _: QuantType) -> tuple[Floats, Floats]:
    """Least and greatest value of each row of (channels, n): nothing is clipped."""
    return weights.min(axis=1), weights.max(axis=1)


def least_squares(weights: Floats, qtype: QuantType) -> tuple[Floats, Floats]:
    """The part of each row's extremes whose rounding and clipping errors together are smallest, in steps of 1 %."""
    low, high = (bound.astype(np.float64) for bound in extremes(weights, qtype))
    best, best_error = np.ones(len(weights)), np.full(len(weights), np.inf)
    for part in np.arange(CANDIDATES, dtype=np.float64)[::-1] / CANDIDATES + 1 / CANDIDATES:
        if part < SMALLEST_PART:
            break
        encoding = Encoding.of_bounds(low * part, high * part, qtype, 0)
        error = np.square(encoding.fake_quantize(weights) - weights, dtype=np.float64).sum(axis=1)
        better = error < best_error
        best[better], best_error[better] = part, error[better]
    return low * best, high * best


def best_bounds(weights: Floats, qtype: QuantType) -> tuple[Floats, Floats]:
    """Extremes at 8 bits, where clipping costs more than it gains, and least squares below."""
    return (extremes if qtype.bits >= 8 else least_squares)(weights, qtype)


def encoding_of_weight(weight: Floats, qtype: QuantType, axis: int | None, bounds: Bounds = extremes) -> Encoding:
    """The encoding of one weight, per channel of ``axis``, or per tensor where that is None.

    A channel of zeros takes the smallest scale of the others, since its bias is stored in steps of that scale.
    """
    rows = weight if axis is None else np.moveaxis(weight, axis, 0)
    rows = rows.reshape(1 if axis is None else len(rows), -1)
    low, high = bounds(rows, qtype)
    if axis is None:
        return Encoding.of_bounds(np.asarray(low[0]), np.asarray(high[0]), qtype, None)
    encoding = Encoding.of_bounds(low, high, qtype, axis)
    used = rows.any(axis=1)
    if used.all() or not used.any():
        return encoding
    return replace(encoding, scale=np.where(used, encoding.scale, encoding.scale[used].min()).astype(np.float32))


def room_for_bias(weight: Encoding, bias: Floats, activation: Encoding) -> Encoding:
    """``weight`` with its scales raised where the int32 bias, of scale s_x * s_w, would overflow.

    That happens to channels that folding has all but switched off: weights of 1e-10 beside a bias of 1.
    """
    size = np.abs(bias.astype(np.float64)).reshape(-1)
    needed = size / (float(activation.scale) * LARGEST_BIAS)
    needed = needed.max(initial=0.0) if weight.axis is None else needed
    if np.all(needed <= weight.scale):
        return weight
    return replace(weight, scale=np.maximum(weight.scale, needed).astype(np.float32))
