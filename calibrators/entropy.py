"""Entropy calibration: the range with the smallest Kullback-Leibler divergence."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import OptionError

from .histogram import Histogram
from .streaming import HistogramCalibrator

__all__ = ["Entropy", "best_length", "divergences"]

SWEEPS = 4
"""Largest number of sweeps over a range with two free ends: high, low, and both again."""

LARGEST_CLIPPED = 0.001
"""Largest fraction of the non-zero values that a candidate may clip at one end. If most values are clipped into one
bin, P and Q agree but hold no information; and on heavy tails the divergence alone clips some percent (measured: a loss
of 15 dB in the logits of a wide ResNet at 8 bits, which this limit avoids)."""


@dataclass(frozen=True)
class Entropy(HistogramCalibrator):
    """Sweeps the end of the range over the histogram and selects the candidate closest to the unclipped distribution.

    The reference P is the first m bins, with the counts of all later bins added to the last one. The candidate Q is the
    first m bins merged into as many levels as the type has, where the count of each level is distributed evenly among
    its bins that are not empty in P. The m with the smallest KL(P || Q) is selected; m is at least the number of
    levels. The histogram has 2048 to 4096 bins. A type with more levels than bins is not clipped.

    Differences from the source: for asymmetric types each end is swept separately, with all levels. The bin of zero is
    ignored: every encoding represents zero exactly, and the number of zeros after a ReLU would dominate. If outliers
    are clipped into an empty last level, Q has one value there: an infinite divergence would exclude every range that
    ends in the gap before an outlier.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017, slides 19 to 38.

    Args:
        candidates: largest number of ends that are tried in a sweep; fewer is faster and coarser.
    """

    candidates: int = 512

    summary: ClassVar[str] = "smallest Kullback-Leibler divergence (Migacz 2017, as in TensorRT)"

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise OptionError(f"Entropy: candidates={self.candidates} must be at least 2")

    def range_of(self, histogram: Histogram, qtype: QuantType) -> Range:
        """Compute the range of a tensor from its histogram; it never exceeds the measured values."""
        low, high = histogram.low, histogram.high
        zero = -histogram.first
        counts = histogram.counts.copy()
        counts[zero] = 0
        if not counts.any():
            return Range(low, high)
        if qtype.symmetric:
            middle = 0 if qtype.signed else 2 ** (qtype.bits - 1)
            magnitudes = replace(histogram, counts=counts).magnitudes()
            length = best_length(magnitudes.counts, qtype.qmax - middle + 1, self.candidates)
            upper = float(magnitudes.edges[length])
            lower = -upper
        else:
            start, stop = self._two_ends(counts, zero + 1, qtype.qmax - qtype.qmin + 1)
            lower, upper = float(histogram.edges[start]), float(histogram.edges[stop])
        # The outermost edges exceed the measured values; a tensor that never reaches zero keeps the end near zero.
        return Range(min(max(low, lower), upper), max(min(high, upper), lower))

    def _two_ends(self, counts: NDArray[np.int64], zero: int, levels: int) -> tuple[int, int]:
        """Return the first and the end of the bins in the range; ``zero`` is the edge at zero, which stays inside."""
        start, stop = 0, len(counts)
        for side in range(SWEEPS):
            before = start, stop
            if side % 2 == 0:
                # As in P, values that the other end clips count in the bin at that end.
                row = _clipped(counts, start)
                stop = start + best_length(row, levels, self.candidates, max(zero - start, 1))
            else:
                row = _clipped(counts[::-1], len(counts) - stop)
                start = stop - best_length(row, levels, self.candidates, max(stop - zero, 1))
            if side and (start, stop) == before:
                break  # converged
        return start, stop


def _clipped(counts: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    """Return ``counts`` from ``start`` on, with all counts before it added to the first."""
    remaining = counts[start:].copy()
    remaining[0] += counts[:start].sum()
    return remaining


def best_length(counts: NDArray[np.int64], levels: int, candidates: int, shortest: int = 1) -> int:
    """Return the number of bins to keep, at least ``levels`` and ``least`` if there are so many.

    Args:
        counts: int64 (bins,).
        levels: number of integers of the type.
        candidates: largest number of lengths to try, evenly spaced, including the whole length.
        least: shortest length to try.
    """
    shortest = max(levels, shortest)
    if shortest >= len(counts):
        return len(counts)
    lengths = np.unique(np.rint(np.linspace(shortest, len(counts), candidates)).astype(np.int64))[::-1]
    lengths = lengths[np.cumsum(counts)[lengths - 1] >= (1 - LARGEST_CLIPPED) * counts.sum()]
    # Of equal candidates the longest is selected.
    return int(lengths[int(np.argmin(divergences(counts, levels, lengths)))])


def divergences(counts: NDArray[np.int64], levels: int, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute KL(P || Q) in nats for the first ``lengths[i]`` bins.

    Q is constant within a level, so the sum over its bins needs only its count and its number of non-empty bins, which
    cumulative sums provide: each candidate costs as many logarithms as there are levels.
    """
    sums = np.concatenate(([0], np.cumsum(counts)))
    filled = np.concatenate(([0], np.cumsum(counts > 0)))
    own = np.concatenate(([0.0], np.cumsum(_times_log(counts))))
    last = counts[lengths - 1]
    outside = sums[-1] - sums[lengths]
    bounds = np.arange(levels + 1) * lengths[:, None] // levels
    level_sums, level_bins = np.diff(sums[bounds]), np.diff(filled[bounds])
    # P's last bin holds the outliers: it is never empty, and Q must have something there.
    level_bins[:, -1] += (last == 0) & (outside > 0)
    shared = level_sums.copy()
    shared[:, -1] += (level_sums[:, -1] == 0) & (outside > 0)
    log_q = np.log(np.maximum(shared, 1) / np.maximum(level_bins, 1))
    cross = (level_sums * log_q).sum(axis=1) + outside * log_q[:, -1]
    reference = own[lengths] - _times_log(last) + _times_log(last + outside)
    divergence: NDArray[np.float64] = (reference - cross) / sums[-1] + np.log(shared.sum(axis=1) / sums[-1])
    return divergence


def _times_log(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(counts > 0, counts * np.log(np.maximum(counts, 1)), 0.0)
