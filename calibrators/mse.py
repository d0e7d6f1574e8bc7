"""Mean squared error calibration: the range with the smallest sum of rounding and clipping errors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType, Range

from .histogram import Histogram
from .streaming import HistogramCalibrator

__all__ = ["MeanSquaredError", "squared_errors"]

Floats: TypeAlias = NDArray[np.float64]

SMALLEST_BINS = 16
"""Smallest width in bins of a range that is tried: the histogram is too coarse for smaller ones."""

COARSE = (40, 16)
"""Steps of the first, geometric grid for one free end and for two."""

FINE = (17, 9)
"""Steps of each finer grid between the neighbors of the best point so far."""

REFINEMENTS = 3

BLOCK = 8
"""Number of candidates that are evaluated at a time: their arrays fit into a second-level cache."""


@dataclass(frozen=True)
class MeanSquaredError(HistogramCalibrator):
    """Minimizes the expected squared quantization error of a tensor, computed on its histogram.

    The error is that of the exact integer grid, with the zero point rounded. Both ends of an asymmetric range are
    searched independently, on a geometric grid and on finer grids around the best point.

    Source: Sung et al., "Resiliency of Deep Neural Networks under Quantization", 2015, section 3 (the L2 error as the
    criterion); Nagel et al., "A White Paper on Neural Network Quantization", 2021, section 3.1, equation 23.
    """

    summary: ClassVar[str] = "smallest squared error of rounding and clipping (Nagel et al. 2021)"

    def range_of(self, histogram: Histogram, qtype: QuantType) -> Range:
        """Compute the range of a tensor from its histogram; it never exceeds the measured values."""
        low, high = histogram.low, histogram.high
        if low == high:
            return Range(low, high)
        two_ended = low < 0 < high and not qtype.symmetric
        ends = np.array([-min(low, 0.0), max(high, 0.0)])
        if not two_ended:
            ends = ends.max(keepdims=True)

        def range_at(point: Floats) -> tuple[Floats, Floats]:
            return np.maximum(-point[:, 0], min(low, 0.0)), np.minimum(point[:, -1], max(high, 0.0))

        best = _search(histogram, qtype, ends, range_at)
        lower, upper = (float(bound[0]) for bound in range_at(best[None]))
        # Zero is added to every range anyway: a tensor that never reaches it keeps its own smallest value.
        return Range(min(max(lower, low), upper), max(min(upper, high), lower))


def squared_errors(histogram: Histogram, qtype: QuantType, lows: Floats, highs: Floats) -> Floats:
    """Compute the expected squared error of a value for each range ``[lows[i], highs[i]]``; float64 (ranges,).

    Values are assumed to be distributed evenly within their bin, so bins may be wider than a step; exact zeros have no
    error.
    """
    counts = histogram.counts.astype(np.float64)
    if histogram.zeros:
        counts[0] = 0
    encoding = Encoding.of_bounds(lows, highs, qtype, axis=0)
    scale = encoding.scale.astype(np.float64)[:, None]
    zero_point = encoding.zero_point[:, None]
    edges = histogram.edges
    errors = [
        np.diff(_integral(edges, scale[block], qtype.qmin - zero_point[block], qtype.qmax - zero_point[block])) @ counts
        for block in (slice(start, start + BLOCK) for start in range(0, len(lows), BLOCK))
    ]
    expected: Floats = np.concatenate(errors) / (histogram.width * histogram.total)
    return expected


def _integral(x: Floats, scale: Floats, qmin: NDArray[np.int32], qmax: NDArray[np.int32]) -> Floats:
    """Compute an antiderivative of ``(x - Q(x))^2`` at ``x``, for each scale; integers are relative to the zero point.

    With ``n`` the integer of ``x`` and ``r = x / s - n`` the rounding or clipping error in steps, it is
    ``s^3 (n / 12 + r^3 / 3)``: each whole step adds ``s^3 / 12``.
    """
    steps = x / scale
    integer = np.rint(steps)
    np.clip(integer, qmin, qmax, out=integer)
    steps -= integer
    cubed = steps * steps
    cubed *= steps
    cubed *= 4
    cubed += integer
    cubed *= scale**3 / 12
    return cubed


def _search(
    histogram: Histogram, qtype: QuantType, ends: Floats, range_at: Callable[[Floats], tuple[Floats, Floats]]
) -> Floats:
    """Find the point (one magnitude per free end, at most ``ends``) whose range has the smallest error."""

    def errors_at(points: Floats) -> Floats:
        return squared_errors(histogram, qtype, *range_at(points))

    smallest = np.minimum(SMALLEST_BINS * histogram.width, ends)
    ratio = (ends / smallest) ** (1 / (COARSE[len(ends) - 1] - 1))
    points = _grid([np.geomspace(*span, COARSE[len(ends) - 1]) for span in zip(smallest, ends, strict=True)])
    # Of equal ranges the widest is selected.
    best: Floats = points[::-1][int(np.argmin(errors_at(points)[::-1]))]
    lower, upper = np.maximum(best / ratio, smallest), np.minimum(best * ratio, ends)
    for _ in range(REFINEMENTS):
        axes = [np.linspace(*span, FINE[len(ends) - 1]) for span in zip(lower, upper, strict=True)]
        points = np.concatenate([_grid(axes), best[None]])
        best = points[::-1][int(np.argmin(errors_at(points)[::-1]))]
        step = (upper - lower) / (FINE[len(ends) - 1] - 1)
        lower, upper = np.maximum(best - step, smallest), np.minimum(best + step, ends)
    return best


def _grid(axes: list[Floats]) -> Floats:
    """Return all points of a grid, (points, axes)."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
