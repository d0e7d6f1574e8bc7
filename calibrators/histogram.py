"""Histograms of constant size over streams whose range is not known beforehand. NumPy only.

Every bin has the width ``w = 2^exponent`` and ends at a multiple of it: bin ``k`` counts the values in
``((k - 1) w, k w]``. Where a value falls outside what 4096 bins can hold, the width doubles and pairs of bins
become one, so counts stay exact, and two histograms of parts of a stream add up to the histogram of the whole.

Bin 0 is ``(-w, 0]``: for a tensor that is never negative it holds the exact zeros and nothing else, which lets
the algorithms treat the zeros behind a ReLU as what they are, a value that every encoding represents exactly.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError, SamplesError

__all__ = ["BINS", "Histogram", "HistogramBuilder", "bounds_of"]

BINS = 4096
"""Most bins between the smallest and the largest value (zero included); at least half of them are in use."""

SMALLEST_EXPONENT = -126
"""Width of the finest bins: 2^126 is the largest scale that keeps the arithmetic within float32."""

CHUNK = 65536
"""Elements counted at a time: the work arrays fit a second-level cache."""

# Adding 1.5 * 2^23 leaves an integer in the low bits of a float32, negative ones in two's complement. Every other
# element counts in a second row of bins, since increments of one address wait for each other, and half of what a
# ReLU lets through is one value.
_ROWS = (1.5 * 2**23 + BINS * (np.arange(CHUNK) % 2)).astype(np.float32)


def bounds_of(values: NDArray[Any], name: str) -> tuple[float, float]:
    """The smallest and the largest of ``values`` (float, any shape, not empty).

    Raises:
        ModelError: they are not floats.
        SamplesError: NaN or infinity is among them.
    """
    if values.dtype.kind != "f":
        raise ModelError(
            f"tensor '{name}' is {values.dtype}: only float tensors have a range to calibrate; leave it out"
        )
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SamplesError(
            f"tensor '{name}': NaN or infinity among its values; check samples, preprocess and the weights before it"
        )
    return low, high


def _bin_of(value: float, exponent: int) -> int:
    return math.ceil(math.ldexp(value, -exponent))


def _bins(low: float, high: float, exponent: int) -> int:
    """Number of bins from ``low`` to ``high`` with zero among them, whichever end of a bin counts as in it."""
    return _bin_of(max(high, 0.0), exponent) + _bin_of(max(-low, 0.0), exponent) + 1


def _halved(index: NDArray[np.int64], doublings: int) -> NDArray[np.int64]:
    """The bins that ``index`` falls into when the width has doubled ``doublings`` times."""
    return -(-index >> min(doublings, 62))


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often a tensor takes which values.

    Args:
        low, high: the smallest and the largest value, exact.
        exponent: bins are ``2^exponent`` wide.
        first: index of the first bin; bin ``first + i`` is ``((first + i - 1) w, (first + i) w]``.
        counts: int64 (bins,), at most 4096 bins; they reach from the smaller of ``low`` and zero to the larger of
            ``high`` and zero.
    """

    low: float
    high: float
    exponent: int
    first: int
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"Histogram: [{self.low}, {self.high}] is not finite and ascending")
        spanned = _bin_of(max(self.high, 0.0), self.exponent) - _bin_of(min(self.low, 0.0), self.exponent) + 1
        if self.counts.shape != (spanned,) or _bins(self.low, self.high, self.exponent) > BINS:
            raise ValueError(
                f"Histogram: counts of shape {self.counts.shape} for [{self.low}, {self.high}] in bins of "
                f"2^{self.exponent}, which are {spanned} (fewer than {BINS} are allowed)"
            )
        if self.first != _bin_of(min(self.low, 0.0), self.exponent) or self.counts.sum() < 1:
            raise ValueError(
                f"Histogram: first bin {self.first} with {self.counts.sum()} values starting at {self.low}"
            )

    @classmethod
    def of(cls, values: NDArray[Any], name: str = "values") -> "Histogram":
        """The histogram of an array that is at hand.

        Raises:
            ModelError, SamplesError: as :meth:`HistogramBuilder.add`.
        """
        builder = HistogramBuilder(name)
        builder.add(values)
        return builder.histogram()

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> NDArray[np.float64]:
        """The bins' ends, float64 (bins + 1,), ascending."""
        return np.arange(self.first - 1, self.first + len(self.counts), dtype=np.float64) * self.width

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    @property
    def zeros(self) -> int:
        """Number of exact zeros, where no value is negative (else they cannot be told from their neighbors: 0)."""
        return int(self.counts[0]) if self.low >= 0 else 0

    def quantile(self, fraction: float) -> float:
        """The value that ``fraction`` (0 to 1) of all values do not exceed, interpolated within its bin."""
        below = np.concatenate(([0], np.cumsum(self.counts)))
        value = float(np.interp(fraction * below[-1], below, self.edges))
        return min(max(value, self.low), self.high)

    def magnitudes(self) -> "Histogram":
        """The histogram of the absolute values.

        A negative bin ``[a, b)`` mirrored is ``(-b, -a]`` but for values that lie exactly on an edge, which count one
        bin too far from zero or too near.
        """
        if self.low >= 0:
            return self
        high = max(-self.low, self.high)
        counts = np.zeros(_bin_of(high, self.exponent) + 1, np.int64)
        index = np.arange(self.first, self.first + len(self.counts))
        # Bin k <= 0 mirrors to bin 1 - k; the smallest value may sit on its bin's outer edge.
        np.add.at(counts, np.minimum(np.where(index > 0, index, 1 - index), len(counts) - 1), self.counts)
        return Histogram(0.0, high, self.exponent, 0, counts)

    def merge(self, other: "Histogram") -> "Histogram":
        """The histogram of both streams together."""
        builder = HistogramBuilder()
        builder.absorb(self)
        builder.absorb(other)
        return builder.histogram()


class HistogramBuilder:
    """Counts a stream of arrays in constant memory.

    Args:
        name: of the tensor, for errors.
    """

    def __init__(self, name: str = "values") -> None:
        self.name = name
        self._low = math.inf
        self._high = -math.inf
        self._exponent = SMALLEST_EXPONENT
        # Bin k is held at k modulo BINS, so that a stream may grow to either side without moving anything.
        self._counts: NDArray[np.int64] = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Count ``values``, of any float type and shape; float64 is rounded to float32.

        Raises:
            ModelError, SamplesError: as :func:`bounds_of`.
        """
        flat = values.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            chunk = flat[start : start + CHUNK]
            if chunk.dtype.kind == "f":
                chunk = chunk.astype(np.float32, copy=False)
            low, high = bounds_of(chunk, self.name)
            self._cover(low, high)
            self._counts += self._counted(chunk)

    def absorb(self, histogram: Histogram) -> None:
        """Count all that ``histogram`` counted."""
        self._cover(histogram.low, histogram.high, histogram.exponent)
        index = np.arange(histogram.first, histogram.first + len(histogram.counts))
        moved = _halved(index, self._exponent - histogram.exponent)
        np.add.at(self._counts, moved % BINS, histogram.counts)

    def histogram(self) -> Histogram:
        """Return the histogram of all counted values.

        Raises:
            SamplesError: no value was counted.
        """
        if self._low > self._high:
            raise SamplesError(f"tensor '{self.name}': no values; calibration needs at least one sample")
        index = self._indices()
        return Histogram(self._low, self._high, self._exponent, int(index[0]), self._counts[index % BINS])

    def _indices(self) -> NDArray[np.int64]:
        first = _bin_of(min(self._low, 0.0), self._exponent)
        return np.arange(first, _bin_of(max(self._high, 0.0), self._exponent) + 1)

    def _cover(self, low: float, high: float, exponent: int = SMALLEST_EXPONENT) -> None:
        """Widen the bins, to ``2^exponent`` at least, until ``low`` and ``high`` fall into them."""
        low, high = min(low, self._low), max(high, self._high)
        exponent = max(exponent, self._exponent)
        lower, upper = min(low, 0.0), max(high, 0.0)
        if upper - lower > math.ldexp(BINS - 2, exponent):
            exponent = max(exponent, math.frexp((upper - lower) / BINS)[1] - 1)
        while _bins(lower, upper, exponent) > BINS:
            exponent += 1
        if exponent > self._exponent and self._low <= self._high:
            index = self._indices()
            counts = np.zeros(BINS, np.int64)
            np.add.at(counts, _halved(index, exponent - self._exponent) % BINS, self._counts[index % BINS])
            self._counts = counts
        self._low, self._high, self._exponent = low, high, exponent

    def _counted(self, chunk: NDArray[np.float32]) -> NDArray[np.int64]:
        scaled = chunk * np.float32(math.ldexp(1.0, -self._exponent))
        np.ceil(scaled, out=scaled)
        np.add(scaled, _ROWS[: chunk.size], out=scaled)
        index = scaled.view(np.int32)
        np.bitwise_and(index, 2 * BINS - 1, out=index)
        counts: NDArray[np.int64] = np.bincount(index, minlength=2 * BINS).reshape(2, BINS).sum(axis=0)
        return counts
