"""How far one output of a quantized model is from float's, accumulated slice by slice."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.evaluation.metrics import finite, signal_to_noise

__all__ = ["OutputDistance", "OutputTally", "judged_outputs"]

FEW_VALUES = 16
"""An output of at most so many values for each sample holds quantities, whose offset may hide all that they tell."""

LITTLE, CONSTANT = 0.25, 1e-5
"""Deviation of values as a part of their mean: below the first an offset is most of the signal, below the second the
values do not vary."""

SOMETHING = 0.1
"""Part of its span by which the values of an output have to differ within a sample for it to show something: the map
of a text detector reaches 1 on text and 0.001 elsewhere."""


@dataclass(frozen=True)
class OutputDistance:
    """One output, float against quantized, over all samples.

    Args:
        name: of the output in the float model.
        snr: signal to noise in dB, ``10 log10(sum (f - c)^2 / sum (f - q)^2)``, c = ``offset``; infinite if they are
            equal.
        largest: largest absolute difference.
        shown: part of the samples, 0 to 1, in which float's values differ by a tenth of the output's span or more: 1 if
            they are probabilities, else the largest difference within a sample. 1 for an output with one value for each
            sample, or without a row for each.
        invented: part of the samples in which only the quantized model's do.
        signal, noise: mean over the samples of the sum of squares of float's values about ``offset``, and of the
            differences.
        integers: its values are classes, places or counts (32 or 64 bits, or bool), whose differences are no noise; an
            image of bytes is none.
        offset: mean of the values of an output of few, where they vary by less than a quarter of it: 293 kelvin, say; 0
            otherwise.
        width: values of one sample; 0 for an output without a row for each.
        moved: mean absolute difference of an output of one probability for each sample, where these differ from sample
            to sample (by a deviation of 0.1 or more); None for others.
    """

    name: str
    snr: float
    largest: float
    shown: float = 1.0
    invented: float = 0.0
    signal: float = 0.0
    noise: float = 0.0
    integers: bool = False
    offset: float = 0.0
    width: int = 0
    moved: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; an infinite SNR is null."""
        shown = {} if self.shown == 1 else {"shown": self.shown}
        offset = {} if self.offset == 0 else {"offset": self.offset}
        moved = {} if self.moved is None else {"moved": self.moved}
        figures = {"snr_db": finite(self.snr), "max_abs_difference": finite(self.largest)}
        return {"name": self.name, **figures, **shown, **offset, **moved}


def judged_outputs(outputs: Iterable[OutputDistance]) -> tuple[OutputDistance, ...]:
    """Those whose noise tells how good a model is: not integers, unless there is nothing else.

    Places of the largest scores, say, change where two scores are nearly equal; the scores show how near.
    """
    given = tuple(outputs)
    return tuple(output for output in given if not output.integers) or given


@dataclass
class OutputTally:
    """Sums for an :class:`OutputDistance`, in float64.

    Args:
        span: how far apart two values can be, where that is known.
    """

    span: float | None = None
    signal: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    count: int = 0
    integers: bool = False
    total: float = 0.0
    change: float = 0.0
    values: int = 0
    spreads: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, reference: NDArray[Any], found: NDArray[Any], *, rows: bool = False) -> None:
        """Count one slice; both have the same shape, with a row for each sample if ``rows``."""
        exact, given = reference.astype(np.float64), found.astype(np.float64)
        error = exact - given
        self.signal += float(np.square(exact).sum())
        self.noise += float(np.square(error).sum())
        self.largest = max(self.largest, float(np.abs(error).max(initial=0.0)))
        self.change += float(np.abs(error).sum())
        self.count += len(exact) if exact.ndim else 1
        self.total += float(exact.sum())
        self.values += exact.size if rows else 0
        self.integers = reference.dtype.kind == "b" or reference.dtype in (np.int32, np.int64)
        if rows and len(exact) and exact.size > len(exact):
            self.spreads.append(np.stack([np.ptp(values.reshape(len(exact), -1), axis=1) for values in (exact, given)]))

    def distance(self, name: str) -> OutputDistance:
        """The distance that the sums give."""
        shown, invented = self._shown()
        count = max(self.count, 1)
        width, offset, moved = self.values // count, self._offset(), self._moved()
        signal = self.signal - self.values * offset**2
        snr = signal_to_noise(signal, self.noise)
        powers = signal / count, self.noise / count
        return OutputDistance(name, snr, self.largest, shown, invented, *powers, self.integers, offset, width, moved)

    def _moved(self) -> float | None:
        """How far one probability for each sample moves, where it tells samples apart."""
        if self.span != 1 or self.values != self.count or not self.count:
            return None
        return self.change / self.count if self._deviation() >= SOMETHING else None

    def _deviation(self) -> float:
        """Of float's values about their mean."""
        return math.sqrt(max(self.signal / self.values - (self.total / self.values) ** 2, 0.0))

    def _offset(self) -> float:
        """The mean that hides what the values tell; 0 where it does not."""
        if self.integers or self.span is not None or not 0 < self.values <= FEW_VALUES * self.count:
            return 0.0
        mean = self.total / self.values
        return mean if CONSTANT * abs(mean) < self._deviation() < LITTLE * abs(mean) else 0.0

    def _shown(self) -> tuple[float, float]:
        """In which part of the samples float shows something, and only the quantized model does."""
        if not self.spreads:
            return 1.0, 0.0
        exact, given = np.concatenate(self.spreads, axis=1)
        least = SOMETHING * (exact.max() if self.span is None else self.span)
        shown, found = ((spread >= least) & (spread > 0) for spread in (exact, given))
        return float(shown.mean()), float((found & ~shown).mean())
