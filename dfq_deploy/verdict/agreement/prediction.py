"""Predicted agreement on real data, from inputs that are not.

Photographs of another kind than a network was trained on lie near the borders between its classes: more of their
answers change than of real ones. How far the class probabilities move, and how unsure the float model is of these
inputs to begin with, predicts how many real answers change::

    log(d / (1 - d)) = a + b log(v / (1 - v)) + c (1 - v) log(1 - p)

with d the part of real inputs whose class changes, v the mean total variation distance between the class
probabilities of both models, p the mean largest probability of the float model, which matters less the farther the
probabilities move. The coefficients of each kind of input are least squares over pairs of network and setting;
docs/verdict.md has the pairs, and the error on networks that are not among them.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dfq_deploy.evaluation.metrics import Scores

__all__ = ["COEFFICIENTS", "MEASURED", "Coefficients", "Prediction", "predict", "regressors"]

MEASURED = 64
"""From so many real inputs on their own agreement is taken, and nothing is predicted."""

LEAST = 1e-4
"""No distance and no doubt is taken to be smaller, which keeps the logarithms finite."""


@dataclass(frozen=True)
class Coefficients:
    """Of one kind of input.

    Args:
        offset, variation, doubt: a, b and c of the formula.
        spread: half the width of a 95 % interval, in log-odds: twice the root mean square error on networks that were
            not fitted.
    """

    offset: float
    variation: float
    doubt: float
    spread: float

    def changed(self, scores: Scores) -> float:
        """The log-odds that the class of a real input changes."""
        moved, doubt = regressors(scores)
        return self.offset + self.variation * moved + self.doubt * doubt


def regressors(scores: Scores) -> tuple[float, float]:
    """What the formula multiplies with b and with c."""
    moved = min(max(scores.variation, LEAST), 1 - LEAST)
    return math.log(moved / (1 - moved)), (1 - moved) * math.log(max(1 - scores.confidence, LEAST))


COEFFICIENTS: Mapping[str, Coefficients] = {
    "photographs": Coefficients(-0.58, 1.05, 0.91, 1.18),
    "procedural": Coefficients(-0.83, 0.88, 1.24, 2.37),
}
"""Kind of input -> its coefficients, the better predictor first; ``python -m benchmarks.verdict`` fits them."""


@dataclass(frozen=True)
class Prediction:
    """Agreement on real data, in percent.

    Args:
        value: what to expect.
        low, high: bounds that hold for 19 of 20 pairs like those that were measured.
        kind: the inputs that it is predicted from; ``data`` where it was measured.
        variation: how far the class probabilities move on them, 0 to 1.
    """

    value: float
    low: float
    high: float
    kind: str
    variation: float

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        return asdict(self)

    def __str__(self) -> str:
        """For people, e.g. ``98.4 % (96.1 to 99.4)``."""
        return f"{self.value:.1f} % ({self.low:.1f} to {self.high:.1f})"


def predict(scores: Mapping[str, Scores]) -> Prediction | None:
    """Agreement on real data from the figures of the best kind of input that there is.

    Args:
        scores: kind of input -> figures, of kinds that did not calibrate, as far as there are others.

    Returns:
        None where no kind predicts.
    """
    for kind, coefficients in COEFFICIENTS.items():
        if kind in scores:
            odds, spread = coefficients.changed(scores[kind]), coefficients.spread
            low, high = _agreement(odds + spread), _agreement(odds - spread)
            return Prediction(_agreement(odds), low, high, kind, scores[kind].variation)
    return None


def _agreement(odds: float) -> float:
    """Percent of inputs whose class stays, from the log-odds that it changes."""
    return 100 / (1 + math.exp(odds))
