"""Agreement, top-1 and signal-to-noise ratio, accumulated slice by slice."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ScoreTally",
    "Scores",
    "finite",
    "log_probabilities",
    "signal_to_noise",
]

Floats = NDArray[np.floating[Any]]

MOST_KEPT = 1024
"""Samples whose scores are kept for what needs them all at once."""


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
