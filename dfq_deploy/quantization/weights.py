"""Compute the encodings of weights, and raise scales where biases or sums would overflow."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.runtime.processor import LARGEST_SUM, neighbor_sums

__all__ = [
    "LARGEST_BIAS",
    "Bounds",
    "best_bounds",
    "encoding_of_weight",
    "extremes",
    "least_squares",
    "raise_scale_for_bias",
    "raise_scale_for_sums",
    "saturates_in_sums",
]

Floats: TypeAlias = NDArray[np.floating[Any]]

Bounds: TypeAlias = Callable[[Floats, QuantType], tuple[Floats, Floats]]
"""Maps weights (channels, n) and their type to the lower and the upper bound of each channel, shape (channels,)."""

CANDIDATES = 100

SMALLEST_FRACTION = 0.2
"""Smallest fraction of a channel's extremes that is tried: clipping more never helps, even at 2 bits."""

LARGEST_BIAS = 2**30
"""Largest int32 bias: the other half of the accumulator is left for the products that it is added to."""


def extremes(weights: Floats, _: QuantType) -> tuple[Floats, Floats]:
    """Return the smallest and largest value of each row of (channels, n): no value is clipped."""
    return weights.min(axis=1), weights.max(axis=1)


def least_squares(weights: Floats, qtype: QuantType) -> tuple[Floats, Floats]:
    """Scale each row's extremes, in steps of 1 %, to minimize the sum of rounding and clipping errors."""
    low, high = (bound.astype(np.float64) for bound in extremes(weights, qtype))
    best, best_error = np.ones(len(weights)), np.full(len(weights), np.inf)
    for fraction in np.arange(CANDIDATES, dtype=np.float64)[::-1] / CANDIDATES + 1 / CANDIDATES:
        if fraction < SMALLEST_FRACTION:
            break
        encoding = Encoding.of_bounds(low * fraction, high * fraction, qtype, 0)
        error = np.square(encoding.fake_quantize(weights) - weights, dtype=np.float64).sum(axis=1)
        better = error < best_error
        best[better], best_error[better] = fraction, error[better]
    return low * best, high * best


def best_bounds(weights: Floats, qtype: QuantType) -> tuple[Floats, Floats]:
    """Return the extremes at 8 bits, where clipping costs more than it gains, and least squares below."""
    return (extremes if qtype.bits >= 8 else least_squares)(weights, qtype)


def encoding_of_weight(weight: Floats, qtype: QuantType, axis: int | None, bounds: Bounds = extremes) -> Encoding:
    """Compute the encoding of one weight, per channel of ``axis``, or per tensor if that is None.

    A channel of zeros gets the smallest scale of the others, since its bias is stored in steps of that scale.
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


def raise_scale_for_bias(weight: Encoding, bias: Floats, activation: Encoding) -> Encoding:
    """Raise the scales of ``weight`` where the int32 bias, of scale s_x * s_w, would overflow.

    This happens in channels that BatchNormalization folding has almost switched off: weights of 1e-10 and a bias of 1.
    """
    magnitude = np.abs(bias.astype(np.float64)).reshape(-1)
    needed = magnitude / (float(activation.scale) * LARGEST_BIAS)
    needed = needed.max(initial=0.0) if weight.axis is None else needed
    if np.all(needed <= weight.scale):
        return weight
    return replace(weight, scale=np.maximum(weight.scale, needed).astype(np.float32))


def saturates_in_sums(qtype: QuantType) -> bool:
    """True for the type of weights whose products some kernels add in 16 bits: s8."""
    return (qtype.bits, qtype.signed, qtype.floating) == (8, True, False)


def raise_scale_for_sums(weight: Encoding, values: Floats, node: ir.Node) -> Encoding:
    """Raise the scales of ``weight`` until no sum of two products of ``node`` saturates on any x86 processor.

    Twice as large a scale is the most that it takes, where two neighbors are the largest weights of a channel; at
    random it is a fifth. Types other than s8 keep their scale (:mod:`dfq_deploy.runtime.processor`).

    Args:
        weight: the encoding, which maps the largest weight of a channel to 127 or less.
        values: the weights.
        node: the product that reads them.
    """
    if not saturates_in_sums(weight.qtype):
        return weight
    sums = neighbor_sums(node, values)
    if sums is None:
        return weight
    needed = (sums if weight.axis is not None else sums.max()) / (LARGEST_SUM - 1)  # each may be rounded up by half
    if np.all(needed <= weight.scale):
        return weight
    return replace(weight, scale=np.maximum(weight.scale, needed).astype(np.float32))
