"""Predicted agreement on real data, from inputs that are not.

Photographs of another kind than a network was trained on lie near the borders between its classes, and few classes get
most of them. Three estimates of how many real answers change are averaged, since they err in different ways; the last
counts half as much as each of the others (:data:`WEIGHTS`)::

    log(d / (1 - d)) = a + b log(c / (1 - c))
    log(d / (1 - d)) = e + f log(m / (1 - m)) + g (1 - v) log(1 - p)
    log(d / (1 - d)) = h + k log(w / (1 - w))

with d the part of real inputs whose class changes, c the part of the held-out inputs whose class does, m the part that
changes at larger margins (:func:`dfq_deploy.verdict.agreement.margins.part_changed`), p the mean largest probability of
the float model, v the mean total variation distance between the class probabilities of both models, averaged over the
classes (how sure the float model is matters less the farther the probabilities move), and w that distance on procedural
inputs, each counting the same. Where classes are lost, d is at least their part of the answers. The coefficients of
each kind of input minimize the absolute error over pairs of network and setting; docs/verdict.md has the pairs, and the
error on networks that are not among them.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.evaluation.metrics import Scores
from dfq_deploy.verdict.agreement.held_out import BY_RULE, PHOTOGRAPHS
from dfq_deploy.verdict.agreement.margins import balanced, part_changed, part_lost

__all__ = [
    "COEFFICIENTS",
    "MEASURED",
    "WEIGHTS",
    "Coefficients",
    "Features",
    "Prediction",
    "features_of",
    "log_odds",
    "predict",
    "sampling_error",
]

Floats = NDArray[np.floating[Any]]

MEASURED = 64
"""From so many real inputs on their own agreement is taken, and nothing is predicted."""

WEIGHTS = (2.0, 2.0, 1.0)
"""Of the estimates in their mean: the last one looks at no answer."""

LEAST = 2e-3
"""No part is taken to be smaller, which keeps the logarithms finite: 256 inputs cannot show less."""


@dataclass(frozen=True)
class Features:
    """What one kind of input says about both models, from 0 to 1.

    Args:
        counted: part of the answers that change.
        changed: part of the answers that change at larger margins, each class counting the same.
        by_class: mean total variation distance of the class probabilities, each class counting the same.
        confidence: mean largest probability of the float model.
        variation: mean total variation distance, each input counting the same.
        lost: part of the answers that change in classes that are lost
            (:func:`dfq_deploy.verdict.agreement.margins.part_lost`).
        moved: ``variation`` on procedural inputs, where there are some.
    """

    counted: float
    changed: float
    by_class: float
    confidence: float
    variation: float
    lost: float = 0.0
    moved: float = 0.0

    @property
    def regressors(self) -> tuple[tuple[float, ...], ...]:
        """What each estimate multiplies with its coefficients, 1 for the offset first."""
        doubt = (1 - self.by_class) * math.log(max(1 - self.confidence, LEAST))
        return (1.0, log_odds(self.counted)), (1.0, log_odds(self.changed), doubt), (1.0, log_odds(self.moved))


@dataclass(frozen=True)
class Coefficients:
    """Of one kind of input.

    Args:
        counted: a and b of the formula.
        margins: e, f and g of the formula.
        moved: h and k of the formula.
        spread: half the width of a 95 % interval, in log-odds: the error that 19 of 20 pairs of the fit stay below if
            the other networks predict them.
    """

    counted: tuple[float, float]
    margins: tuple[float, float, float]
    moved: tuple[float, float]
    spread: float

    def log_odds(self, features: Features) -> float:
        """The log-odds that the class of a real input changes, by the mean of the estimates."""
        pairs = zip((self.counted, self.margins, self.moved), features.regressors, strict=True)
        part = float(np.average([_part(float(np.dot(own, values))) for own, values in pairs], weights=WEIGHTS))
        return math.log(part / (1 - part))


def log_odds(part: float) -> float:
    """``log(part / (1 - part))``, finite."""
    inside = min(max(part, LEAST), 1 - LEAST)
    return math.log(inside / (1 - inside))


def _part(odds: float) -> float:
    """The part whose log-odds they are."""
    return 1 / (1 + math.exp(-odds))


COEFFICIENTS: Mapping[str, Coefficients] = {
    PHOTOGRAPHS: Coefficients((-1.17, 1.24), (0.76, 0.94, 1.95), (-0.52, 1.65), 1.34),
    BY_RULE: Coefficients((-1.13, 1.46), (0.91, 0.88, 2.34), (-0.68, 1.50), 1.65),
}
"""Kind of input -> its coefficients, the better predictor first; ``python -m benchmarks.verdict --fit`` fits them."""


def features_of(scores: Mapping[str, Scores]) -> dict[str, Features]:
    """The features of each kind of input that predicts.

    Procedural inputs, half as many as photographs at most, are added to these for ``counted`` and ``changed``: they
    have other classes. On them alone probabilities that move are the third estimate.

    Args:
        scores: kind of input -> figures of both models on it.
    """
    rows = {kind: figures.rows for kind, figures in scores.items() if figures.rows is not None}
    found = {}
    for kind in COEFFICIENTS:
        if kind in rows:
            expected, given = rows[kind]
            if kind == PHOTOGRAPHS and BY_RULE in rows:
                half = len(expected) // 2
                expected = np.concatenate([expected, rows[BY_RULE][0][:half]])
                given = np.concatenate([given, rows[BY_RULE][1][:half]])
            moved = scores[BY_RULE if BY_RULE in rows else kind].variation
            found[kind] = _features(scores[kind], rows[kind], (expected, given), moved)
    return found


def _features(scores: Scores, own: tuple[Floats, Floats], rows: tuple[Floats, Floats], on_drawn: float) -> Features:
    """Features of one kind's ``own`` scores, and of ``rows`` that have other classes too."""
    expected, given = own
    moved = np.abs(np.exp(expected) - np.exp(given)).sum(axis=1) / 2
    counted = float(np.mean(rows[0].argmax(axis=1) != rows[1].argmax(axis=1)))
    return Features(
        counted, part_changed(*rows), balanced(expected, moved), scores.confidence, scores.variation, part_lost(*rows),
        on_drawn,
    )  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """Agreement on real data, in percent.

    Args:
        value: what to expect.
        low, high: bounds that hold for 19 of 20 pairs like those that were measured.
        kind: the inputs that it is predicted from; ``data`` where it was measured.
        variation: how far the class probabilities move on them, 0 to 1.
        lost: part of the answers, 0 to 1, that change in classes of which the quantized model keeps less than half.
    """

    value: float
    low: float
    high: float
    kind: str
    variation: float
    lost: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return asdict(self)

    def __str__(self) -> str:
        """For people, e.g. ``98.4 % (96.1 to 99.4)``."""
        return f"{self.value:.1f} % ({self.low:.1f} to {self.high:.1f})"


def predict(features: Mapping[str, Features]) -> Prediction | None:
    """Agreement on real data from the features of the best kind of input that there is; None where none predicts."""
    for kind, coefficients in COEFFICIENTS.items():
        if kind in features:
            odds, spread, own = coefficients.log_odds(features[kind]), coefficients.spread, features[kind]
            value, low, high = (min(_agreement(odds + step), 100 * (1 - own.lost)) for step in (0.0, spread, -spread))
            return Prediction(value, low, high, kind, own.variation, own.lost)
    return None


def sampling_error(expected: Prediction, changed: float, count: int) -> float:
    """Points of standard error that a prediction has since ``count`` inputs are few, by the answers that change.

    That of their log-odds, times the slope of the estimate that they make: the other one varies less.

    Args:
        changed: part of the inputs whose class changes, 0 to 1.
    """
    if expected.kind not in COEFFICIENTS:
        return 0.0
    part, inside = 1 - expected.value / 100, min(max(changed, 0.5 / count), 1 - 0.5 / count)
    slope = COEFFICIENTS[expected.kind].counted[1] * part * (1 - part)
    return 100 * slope / math.sqrt(count * inside * (1 - inside))


def _agreement(odds: float) -> float:
    """Percent of inputs whose class stays, from the log-odds that it changes."""
    return 100 * _part(-odds)
