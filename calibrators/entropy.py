"""Entropy: the range that keeps the most information, by Kullback-Leibler divergence."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import QuantType, Range
from dfq_deploy.errors import OptionError

from .histogram import Histogram
from .streaming import HistogramCalibrator

__all__ = ["Entropy", "best_length", "divergences"]

SIDES = 4
"""Sweeps over a range with two free ends at most: high, low, and both once more."""

MOST_CLIPPED = 0.001
"""Largest share of the values other than zero that a candidate may clip at one end. Where most values are clipped into
one bin, P and Q agree and hold nothing; and on heavy tails the divergence alone clips some percent (measured: 15 dB of
the logits of a wide ResNet at 8 bits, which this bound gives back)."""


@dataclass(frozen=True)
class Entropy(HistogramCalibrator):
    """Sweeps the range's end over the histogram and keeps the candidate nearest to the unclipped distribution.

    The reference P is the first m bins with all that lies beyond added to the last of them; the candidate Q is the
    first m bins merged into as many levels as the type has, and each level's count shared among its bins that are
    not empty in P. The m with the smallest KL(P || Q) wins; m is never less than the number of levels. The histogram
    has 2048 to 4096 bins. A type with more levels than there are bins is not clipped.

    Beyond the source: asymmetric types sweep each end for itself, with all their levels. The bin of zero is left out:
    every encoding holds zero exactly, and the number of zeros behind a ReLU would drown all else. Where outliers are
    clipped into a last level that is empty, Q has one value there: an infinite divergence would keep every range that
    ends in the gap before an outlier from being chosen.

    Source: Migacz, "8-bit Inference with TensorRT", GTC 2017, slides 19 to 38.

    Args:
        candidates: most ends that are tried in a sweep; fewer is faster and coarser.
    """

    candidates: int = 512

    summary: ClassVar[str] = "smallest Kullback-Leibler divergence (Migacz 2017, as in TensorRT)"

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise OptionError(f"Entropy: candidates={self.candidates} leaves nothing to choose from; give at least 2")

    def range_of(self, histogram: Histogram, qtype: QuantType) -> Range:
        """The range of a tensor, from its histogram; never wider than what was seen."""
        low, high = histogram.low, histogram.high
        zero = -histogram.first
        counts = histogram.counts.copy()
        counts[zero] = 0
        if not counts.any():
            return Range(low, high)
        if qtype.symmetric:
            middle = 0 if qtype.signed else 2 ** (qtype.bits - 1)
            magnitudes = replace(histogram, counts=counts).magnitudes()
            kept = best_length(magnitudes.counts, qtype.qmax - middle + 1, self.candidates)
            upper = float(magnitudes.edges[kept])
            lower = -upper
        else:
            start, stop = self._two_ends(counts, zero + 1, qtype.qmax - qtype.qmin + 1)
            lower, upper = float(histogram.edges[start]), float(histogram.edges[stop])
        # The outermost edges lie beyond what was seen, and a tensor that never reaches zero keeps its own near end.
        return Range(min(max(low, lower), upper), max(min(high, upper), lower))

    def _two_ends(self, counts: NDArray[np.int64], zero: int, levels: int) -> tuple[int, int]:
        """First bin and end of the bins to keep; ``zero`` is the edge at the value zero, which stays inside."""
        start, stop = 0, len(counts)
        for side in range(SIDES):
            before = start, stop
            if side % 2 == 0:
                # What the other end clips stands in the bin at that end, as in P.
                row = _clipped(counts, start)
                stop = start + best_length(row, levels, self.candidates, max(zero - start, 1))
            else:
                row = _clipped(counts[::-1], len(counts) - stop)
                start = stop - best_length(row, levels, self.candidates, max(stop - zero, 1))
            if side and (start, stop) == before:
                break  # the next sweep would find what the one before this found
        return start, stop


def _clipped(counts: NDArray[np.int64], start: int) -> NDArray[np.int64]:
    """``counts`` from ``start`` on, with all before it added to the first."""
    kept = counts[start:].copy()
    kept[0] += counts[:start].sum()
    return kept


def best_length(counts: NDArray[np.int64], levels: int, candidates: int, least: int = 1) -> int:
    """How many of the first bins to keep, at least ``levels`` and ``least`` where there are so many.

    Args:
        counts: int64 (bins,).
        levels: integers that the range is quantized to.
        candidates: most lengths to try, evenly spread, the whole among them.
        least: shortest length to try.
    """
    least = max(levels, least)
    if least >= len(counts):
        return len(counts)
    lengths = np.unique(np.rint(np.linspace(least, len(counts), candidates)).astype(np.int64))[::-1]
    lengths = lengths[np.cumsum(counts)[lengths - 1] >= (1 - MOST_CLIPPED) * counts.sum()]
    # The longest first among equals: what costs nothing to keep is kept.
    return int(lengths[int(np.argmin(divergences(counts, levels, lengths)))])


def divergences(counts: NDArray[np.int64], levels: int, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """KL(P || Q) in nats of keeping the first ``lengths[i]`` of the bins.

    Within a level Q is constant, so that the sum over its bins needs the level's count and its number of bins that
    are not empty, which running sums give: each candidate costs as many logarithms as there are levels.
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
