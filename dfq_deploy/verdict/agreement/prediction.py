"""Predicted agreement on real data, from inputs that are not.

Photographs of another kind than a network was trained on lie near the borders between its classes, and few classes get
most of them. Three figures predict how many real answers change::

    log(d / (1 - d)) = a + b log(m / (1 - m)) + c log(v / (1 - v)) + e (1 - v) log(1 - p)

with d the part of real inputs whose class changes, m the part that changes at larger margins
(:func:`dfq_deploy.verdict.agreement.margins.part_changed`), v the mean total variation distance between the class
probabilities of both models, averaged over the classes, and p the mean largest probability of the float model, which
matters less the farther the probabilities move. Where classes are lost, d is at least their part of the answers. The
coefficients of each kind of input minimize the absolute error over pairs of network and setting; docs/verdict.md has
the pairs, and the error on networks that are not among them.
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
    "Coefficients",
    "Features",
    "Prediction",
    "features_of",
    "log_odds",
    "predict",
    "regressors",
]

Floats = NDArray[np.floating[Any]]

MEASURED = 64
"""From so many real inputs on their own agreement is taken, and nothing is predicted."""

LEAST = 2e-3
"""No part is taken to be smaller, which keeps the logarithms finite: 256 inputs cannot show less."""


@dataclass(frozen=True)
class Features:
    """What one kind of input says about both models, from 0 to 1.

    Args:
        changed: part of the answers that change at larger margins, each class counting the same.
        by_class: mean total variation distance of the class probabilities, each class counting the same.
        confidence: mean largest probability of the float model.
        variation: mean total variation distance, each input counting the same.
        lost: part of the answers that change in classes that are lost
            (:func:`dfq_deploy.verdict.agreement.margins.part_lost`).
    """

    changed: float
    by_class: float
    confidence: float
    variation: float
    lost: float = 0.0


@dataclass(frozen=True)
class Coefficients:
    """Of one kind of input.

    Args:
        offset, changed, by_class, doubt: a, b, c and e of the formula.
        spread: half the width of a 95 % interval, in log-odds: the error that 19 of 20 pairs of the fit stay below if
            the other networks predict them.
    """

    offset: float
    changed: float
    by_class: float
    doubt: float
    spread: float

    def log_odds(self, features: Features) -> float:
        """The log-odds that the class of a real input changes."""
        changed, moved, doubt = regressors(features)
        return self.offset + self.changed * changed + self.by_class * moved + self.doubt * doubt


def regressors(features: Features) -> tuple[float, float, float]:
    """What the formula multiplies with b, c and e."""
    doubt = (1 - features.by_class) * math.log(max(1 - features.confidence, LEAST))
    return log_odds(features.changed), log_odds(features.by_class), doubt


def log_odds(part: float) -> float:
    """``log(part / (1 - part))``, finite."""
    inside = min(max(part, LEAST), 1 - LEAST)
    return math.log(inside / (1 - inside))


COEFFICIENTS: Mapping[str, Coefficients] = {
    PHOTOGRAPHS: Coefficients(0.35, 0.86, 0.21, 1.55, 1.97),
    BY_RULE: Coefficients(1.04, 0.90, 0.0, 2.46, 4.35),
}
"""Kind of input -> its coefficients, the better predictor first; ``python -m benchmarks.verdict --fit`` fits them."""


def features_of(scores: Mapping[str, Scores]) -> dict[str, Features]:
    """The features of each kind of input that predicts.

    Procedural inputs, half as many as photographs, are added to these for ``changed``: they have other classes.

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
            found[kind] = _features(scores[kind], rows[kind], (expected, given))
    return found


def _features(scores: Scores, own: tuple[Floats, Floats], rows: tuple[Floats, Floats]) -> Features:
    """Features of one kind's ``own`` scores, and of ``rows`` that have other classes too."""
    expected, given = own
    moved = np.abs(np.exp(expected) - np.exp(given)).sum(axis=1) / 2
    return Features(
        part_changed(*rows), balanced(expected, moved), scores.confidence, scores.variation, part_lost(*rows)
    )


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


def _agreement(odds: float) -> float:
    """Percent of inputs whose class stays, from the log-odds that it changes."""
    return 100 / (1 + math.exp(odds))
