"""Confidence intervals of agreement and of the top-1 drop."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["CONFIDENCE", "Interval", "agreement_interval", "drop_interval", "samples_needed"]

CONFIDENCE = 0.95

BISECTIONS = 50
"""Halvings of [0, 1]: to the precision of a double."""


@dataclass(frozen=True)
class Interval:
    """A figure in percent (or points) and the bounds between which its true value lies with 95 % confidence.

    Args:
        value: what was measured.
        low, high: the bounds; ``low <= value <= high``.
        count: how many samples it was measured on.
    """

    value: float
    low: float
    high: float
    count: int

    def to_json(self) -> dict[str, float | int]:
        """A plain mapping."""
        return {"value": self.value, "low": self.low, "high": self.high, "count": self.count}

    def __str__(self) -> str:
        """For people, e.g. ``98.4 % of 64 (91.6 to 100.0)``."""
        return f"{self.value:.1f} % of {self.count} ({self.low:.1f} to {self.high:.1f})"


def agreement_interval(same: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """The exact two-sided interval of a proportion (Clopper and Pearson 1934), in percent.

    8 of 8 are at least 63.1 %.

    Args:
        same: in how many samples both models put the same class first.
        count: number of samples.

    Raises:
        ValueError: ``same`` does not lie in 0 to ``count``, or there are no samples.
    """
    if count < 1 or not 0 <= same <= count:
        raise ValueError(f"interval: {same} of {count} is no proportion; 0 <= same <= count and count >= 1 are needed")
    tail = (1 - confidence) / 2
    low = 0.0 if same == 0 else _root(lambda p: _at_least(same, count, p) - tail)
    high = 1.0 if same == count else _root(lambda p: tail - _at_most(same, count, p))
    return Interval(100 * same / count, 100 * low, 100 * high, count)


def drop_interval(lost: int, gained: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of the top-1 drop of two classifiers on the same samples, in points.

    The normal interval of a paired difference with half a sample added to each of the four cells (Agresti and Min
    2005), which is as wide as it has to be where none is lost.

    Args:
        lost: samples that float has right and the quantized model has wrong.
        gained: the other way round.
        count: number of samples.

    Raises:
        ValueError: the counts do not fit together.
    """
    if min(lost, gained) < 0 or count < 1 or lost + gained > count:
        raise ValueError(f"interval: {lost} lost and {gained} gained of {count} do not fit together")
    drop, centre, total = (lost - gained) / count, (lost - gained) / (count + 2), count + 2
    variance = (lost + gained + 1) / total - centre**2
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(variance / total)
    low, high = max(-1.0, centre - reach), min(1.0, centre + reach)
    return Interval(100 * drop, 100 * min(low, drop), 100 * max(high, drop), count)


def samples_needed(lost: int, gained: int, count: int, kept: float) -> int:
    """How many samples show that more than ``kept`` points are lost, if each loses what these ``count`` lose.

    Rounded up to a multiple of 50.

    Raises:
        ValueError: they do not lose more than ``kept`` points, so no number shows it.
    """
    if 100 * (lost - gained) <= kept * count:
        raise ValueError(f"interval: {lost} lost and {gained} gained of {count} are no loss of more than {kept} points")
    needed = 50 * (count // 50 + 1)
    while drop_interval(round(lost * needed / count), round(gained * needed / count), needed).low <= kept:
        needed += 50
    return needed


def _root(rising: Callable[[float], float]) -> float:
    """Where a function that rises from a negative value at 0 to a positive one at 1 is zero."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _at_least(successes: int, count: int, p: float) -> float:
    """P(X >= successes) of a binomial X."""
    return float(np.exp(_log_terms(np.arange(successes, count + 1), count, p)).sum())


def _at_most(successes: int, count: int, p: float) -> float:
    return float(np.exp(_log_terms(np.arange(successes + 1), count, p)).sum())


def _log_terms(successes: NDArray[np.int64], count: int, p: float) -> NDArray[np.float64]:
    """Logarithms of the binomial probabilities."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    choose = factorials[count] - factorials[successes] - factorials[count - successes]
    terms: NDArray[np.float64] = choose + successes * math.log(p) + (count - successes) * math.log1p(-p)
    return terms
