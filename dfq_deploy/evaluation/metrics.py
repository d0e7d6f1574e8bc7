"""Agreement, top-1 and signal-to-noise ratio, accumulated slice by slice."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "OutputDistance",
    "OutputTally",
    "ScoreTally",
    "Scores",
    "finite",
    "judged_outputs",
    "log_probabilities",
    "signal_to_noise",
]

Floats = NDArray[np.floating[Any]]

MOST_KEPT = 1024
"""Samples whose scores are kept for what needs them all at once."""


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

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; an infinite SNR is null."""
        shown = {} if self.shown == 1 else {"shown": self.shown}
        offset = {} if self.offset == 0 else {"offset": self.offset}
        figures = {"snr_db": finite(self.snr), "max_abs_difference": finite(self.largest)}
        return {"name": self.name, **figures, **shown, **offset}


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
    values: int = 0
    spreads: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, reference: NDArray[Any], found: NDArray[Any], *, rows: bool = False) -> None:
        """Count one slice; both have the same shape, with a row for each sample if ``rows``."""
        exact, given = reference.astype(np.float64), found.astype(np.float64)
        error = exact - given
        self.signal += float(np.square(exact).sum())
        self.noise += float(np.square(error).sum())
        self.largest = max(self.largest, float(np.abs(error).max(initial=0.0)))
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
        width, offset = self.values // count, self._offset()
        signal = self.signal - self.values * offset**2
        snr = signal_to_noise(signal, self.noise)
        powers = signal / count, self.noise / count
        return OutputDistance(name, snr, self.largest, shown, invented, *powers, self.integers, offset, width)

    def _offset(self) -> float:
        """The mean that hides what the values tell; 0 where it does not."""
        if self.integers or self.span is not None or not 0 < self.values <= FEW_VALUES * self.count:
            return 0.0
        mean = self.total / self.values
        deviation = math.sqrt(max(self.signal / self.values - mean**2, 0.0))
        return mean if CONSTANT * abs(mean) < deviation < LITTLE * abs(mean) else 0.0

    def _shown(self) -> tuple[float, float]:
        """In which part of the samples float shows something, and only the quantized model does."""
        if not self.spreads:
            return 1.0, 0.0
        exact, given = np.concatenate(self.spreads, axis=1)
        least = SOMETHING * (exact.max() if self.span is None else self.span)
        shown, found = ((spread >= least) & (spread > 0) for spread in (exact, given))
        return float(shown.mean()), float((found & ~shown).mean())


@dataclass(frozen=True)
class Scores:
    """Figures of two classifiers on the same samples; percentages are of the samples.

    Args:
        agreement: percentage for which both put the same class first.
        divergence: mean KL(float, quantized) of the softmaxes, in nats.
        float_top1, quantized_top1: percentage of right predictions; None without labels.
        drop_error: standard error of ``float_top1 - quantized_top1`` as a paired difference, in points.
        confidence: mean of the float model's largest class probability, 0 to 1.
        variation: mean total variation distance of the class probabilities, ``sum |p - q| / 2``, 0 to 1.
        rows: logarithms of the class probabilities (N, K) of both models, of the first :data:`MOST_KEPT` samples.
        lost, won: samples that only the float model has right, and only the quantized one; None without labels.
        classes: how many there are.
        below_label, above_label: percentage for which float puts the class before the label's first, and the one behind
            it; None without labels.
    """

    agreement: float
    divergence: float
    float_top1: float | None = None
    quantized_top1: float | None = None
    drop_error: float | None = None
    confidence: float = math.nan
    variation: float = math.nan
    lost: int | None = None
    won: int | None = None
    classes: int = 0
    below_label: float | None = None
    above_label: float | None = None
    rows: tuple[Floats, Floats] | None = field(default=None, repr=False, compare=False)

    @property
    def drop(self) -> float | None:
        """Drop of top-1 by quantization, in points."""
        if self.float_top1 is None or self.quantized_top1 is None:
            return None
        return self.float_top1 - self.quantized_top1

    def to_json(self) -> dict[str, float | None]:
        """A plain mapping."""
        return {
            "agreement": self.agreement,
            "kl_nats": finite(self.divergence),
            "float_top1": self.float_top1,
            "quantized_top1": self.quantized_top1,
            "drop": self.drop,
            "drop_standard_error": self.drop_error,
        }


@dataclass
class ScoreTally:
    """Counts for :class:`Scores`.

    Args:
        activation: what turned logits into the scores (:func:`log_probabilities`).
    """

    activation: str = ""
    same: list[NDArray[np.bool_]] = field(default_factory=list)
    gained: list[NDArray[np.int64]] = field(default_factory=list)
    float_right: int = 0
    below: int = 0
    above: int = 0
    divergence: float = 0.0
    confidence: float = 0.0
    variation: float = 0.0
    classes: int = 0
    kept: list[tuple[Floats, Floats]] = field(default_factory=list)
    count: int = 0

    def add(self, reference: Floats, found: Floats, labels: NDArray[np.int64] | None) -> None:
        """Count one slice: scores or probabilities (N, K) of both, and the classes (N,) where known."""
        expected, given = (log_probabilities(scores, self.activation) for scores in (reference, found))
        self.classes = reference.shape[1]
        self.divergence += float((np.exp(expected) * (expected - given)).sum())
        self.confidence += float(np.exp(expected.max(axis=1)).sum())
        self.variation += float(np.abs(np.exp(expected) - np.exp(given)).sum()) / 2
        room = max(0, MOST_KEPT - self.count)
        self.kept.append((expected[:room].astype(np.float32), given[:room].astype(np.float32)))
        self.count += len(expected)
        first, second = reference.argmax(axis=1), found.argmax(axis=1)
        self.same.append(first == second)
        if labels is not None:
            right = first == labels
            self.float_right += int(right.sum())
            self.below += int((first == labels - 1).sum())
            self.above += int((first == labels + 1).sum())
            self.gained.append((second == labels).astype(np.int64) - right)

    def scores(self) -> Scores:
        """The scores that the counts give."""
        same = np.concatenate(self.same)
        agreement, divergence = 100 * float(same.mean()), self.divergence / len(same)
        confidence, variation = self.confidence / len(same), self.variation / len(same)
        expected, given = (np.concatenate(column) for column in zip(*self.kept, strict=True))
        plain = Scores(
            agreement, divergence, confidence=confidence, variation=variation, classes=self.classes,
            rows=(expected, given),
        )  # fmt: skip
        if not self.gained:
            return plain
        gained = np.concatenate(self.gained)
        top1 = 100 * self.float_right / len(same)
        error = 100 * float(gained.std()) / math.sqrt(len(gained))
        lost, won = int((gained < 0).sum()), int((gained > 0).sum())
        quantized = top1 + 100 * float(gained.mean())
        below, above = (100 * hits / len(same) for hits in (self.below, self.above))
        return replace(
            plain, float_top1=top1, quantized_top1=quantized, drop_error=error, lost=lost, won=won, below_label=below,
            above_label=above,
        )  # fmt: skip


FLOOR = 1e-6
"""The smallest probability: quantized ones are often 0, and the floor keeps the divergence finite."""


def log_probabilities(scores: Floats, activation: str = "") -> NDArray[np.float64]:
    """Logarithms of the class probabilities of scores (N, K): the log-softmax of the logits.

    Args:
        activation: what turned the logits into the scores, ``Softmax``, ``LogSoftmax`` or ``Sigmoid``; "" is nothing,
            or not known: rows that are probabilities are then used as they are.
    """
    exact = scores.astype(np.float64)
    if activation == "Softmax":
        exact = np.log(np.maximum(exact, FLOOR))
    elif activation == "Sigmoid":
        shares = np.clip(exact, FLOOR, 1 - FLOOR)
        exact = np.log(shares) - np.log1p(-shares)
    elif not activation and (exact >= 0).all() and np.allclose(exact.sum(axis=1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(exact, FLOOR)), np.float64)
    shifted = exact - exact.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)


def signal_to_noise(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)`` of two sums of squares, in dB; infinite without noise."""
    if noise == 0:
        return math.inf
    if not math.isfinite(noise):  # a mask of -inf among float's values, which no integer holds
        return -math.inf if math.isfinite(signal) else math.nan
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def finite(value: float) -> float | None:
    """``value``, or None if it is infinite or NaN, which JSON does not have."""
    return value if math.isfinite(value) else None
