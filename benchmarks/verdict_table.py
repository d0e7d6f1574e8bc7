"""The figures of benchmarks.verdict: what is measured, the fit, the table."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from dfq_deploy.evaluation.metrics import Scores
from dfq_deploy.verdict.agreement.held_out import BY_RULE, PHOTOGRAPHS
from dfq_deploy.verdict.agreement.prediction import Prediction, predict, regressors
from dfq_deploy.verdict.judge import class_level

__all__ = ["FIT", "Measured", "Real", "coefficients", "table"]

FIT = frozenset({"resnet20", "resnet20_kd", "mobilenet_v1", "digits"})
"""Networks that coefficients and thresholds were chosen on; the others check them."""

USABLE = 50.0
"""Files that keep fewer of float's answers, in percent, are left out of the fit: how broken they are matters little."""

FLOOR = 0.002
"""Changed classes of 2,000 images cannot be told more finely: 4 images."""


@dataclass(frozen=True)
class Real:
    """A file against float on real images.

    Args:
        agreement: percent; drop: points of top-1.
    """

    model: str
    setting: str
    images: int
    agreement: float
    drop: float


@dataclass(frozen=True)
class Measured:
    """A file against float on one kind of held-out inputs, figures as :class:`dfq_deploy.evaluation.metrics.Scores`.

    Args:
        snr: of the output, in dB.
    """

    model: str
    setting: str
    kind: str
    count: int
    agreement: float
    variation: float
    confidence: float
    snr: float

    @property
    def scores(self) -> Scores:
        """As the prediction takes it."""
        return Scores(self.agreement, 0.0, confidence=self.confidence, variation=self.variation)


@dataclass(frozen=True)
class Pair:
    """Both of one pair; kind -> figures."""

    real: Real
    kinds: dict[str, Measured]

    @property
    def predicted(self) -> Prediction:
        """Of the agreement on real inputs."""
        found = predict({kind: entry.scores for kind, entry in self.kinds.items()})
        assert found is not None
        return found

    @property
    def fitted(self) -> bool:
        """Whether it is one of those that decided the coefficients."""
        return self.real.model in FIT


def pairs_of(truths: Sequence[Real], figures: Sequence[Measured]) -> list[Pair]:
    """Those that have both."""
    found = []
    for real in truths:
        kinds = {entry.kind: entry for entry in figures if (entry.model, entry.setting) == (real.model, real.setting)}
        if kinds:
            found.append(Pair(real, kinds))
    return found


def coefficients(truths: Sequence[Real], figures: Sequence[Measured], leave_out: Collection[str]) -> Iterator[str]:
    """A line for each kind of input: offset, variation, doubt and spread."""
    for kind in (PHOTOGRAPHS, BY_RULE):
        usable = [pair for pair in pairs_of(truths, figures) if kind in pair.kinds and pair.real.agreement >= USABLE]
        pairs = [pair for pair in usable if pair.real.setting not in leave_out]
        rows = np.array([_row(pair.kinds[kind]) for pair in pairs])
        odds = np.array([_log_odds(1 - pair.real.agreement / 100) for pair in pairs])
        fitted = np.array([pair.fitted for pair in pairs])
        solved = np.linalg.lstsq(rows[fitted], odds[fitted], rcond=None)[0]
        residuals = odds - rows @ solved
        spread = 2 * float(np.sqrt(np.square(residuals[~fitted] if (~fitted).any() else residuals).mean()))
        yield f"{kind}: Coefficients({', '.join(f'{value:.2f}' for value in solved)}, {spread:.2f})"


def _row(entry: Measured) -> tuple[float, float, float]:
    return 1.0, *regressors(entry.scores)


def _log_odds(part: float) -> float:
    part = min(max(part, FLOOR), 1 - FLOOR)
    return math.log(part / (1 - part))


def table(truths: Sequence[Real], figures: Sequence[Measured], leave_out: Collection[str]) -> str:
    """Markdown: the pairs, and how good prediction and verdict are, apart for networks that were fitted and others."""
    pairs = pairs_of(truths, figures)
    lines = [
        "| network | setting | real drop | real agreement | predicted | moved | photographs | procedural | verdict |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for pair in sorted(pairs, key=lambda p: (not p.fitted, p.real.model, p.real.drop)):
        real, found = pair.real, pair.predicted
        cells = [f"{pair.kinds[kind].agreement:.1f}" for kind in (PHOTOGRAPHS, BY_RULE)]
        lines.append(
            f"| {real.model} | {real.setting} | {real.drop:.2f} | {real.agreement:.1f} | {found.value:.1f} | "
            f"{found.variation:.3f} | {' | '.join(cells)} | {class_level(found)} |"
        )
    judged = [pair for pair in pairs if pair.real.setting not in leave_out]
    summaries = {"fitted": [p for p in judged if p.fitted], "others": [p for p in judged if not p.fitted]}
    return "\n".join([*lines, "", *(_summary(name, chosen) for name, chosen in summaries.items() if chosen)])


def _summary(name: str, pairs: Sequence[Pair]) -> str:
    errors = {pair.real: abs(pair.predicted.value - pair.real.agreement) for pair in pairs}
    off, near = mean(errors.values()), mean(error for real, error in errors.items() if real.agreement >= 80)
    lost = [pair for pair in pairs if pair.real.drop > 3]
    kept = [pair for pair in pairs if pair.real.drop < 0.5]
    missed = sum(class_level(pair.predicted) == "OK" for pair in lost)
    alarms = sum(class_level(pair.predicted) != "OK" for pair in kept)
    return (
        f"{name}: {len(pairs)} pairs, predicted agreement {off:.2f} points off in the mean "
        f"({near:.2f} where real agreement is 80 % or more); of {len(lost)} that lose "
        f"more than 3 points {missed} are called OK, of {len(kept)} that lose less than 0.5 {alarms} are not\n"
    )
