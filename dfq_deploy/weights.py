"""Encodings of weights."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType

__all__ = ["Bounds", "encoding_of_weight", "extremes", "room_for_bias"]

Floats: TypeAlias = NDArray[np.floating[Any]]

Bounds: TypeAlias = Callable[[Floats, QuantType], tuple[Floats, Floats]]
"""Weights (channels, n) and their type -> the lower and the upper bound of each channel, shape (channels,)."""

LARGEST_BIAS = 2**30
"""Of an int32 bias: the other half of the accumulator is left to the products that it is added to."""


def extremes(weights: Floats, _: QuantType) -> tuple[Floats, Floats]:
    """Least and greatest value of each row of (channels, n): nothing is clipped."""
    return weights.min(axis=1), weights.max(axis=1)


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
