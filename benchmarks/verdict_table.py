"""The figures of benchmarks.verdict: what is measured, the fit, the table."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import torch
from numpy.typing import NDArray

from dfq_deploy.verdict.agreement.held_out import BY_RULE, PHOTOGRAPHS
from dfq_deploy.verdict.agreement.prediction import WEIGHTS, Features, Prediction, log_odds, predict
from dfq_deploy.verdict.judge import class_level

Floats = NDArray[np.float64]

__all__ = ["FIT", "Measured", "Pair", "Real", "coefficients", "fit_of", "pairs_of", "table"]

FIT = frozenset({"resnet20", "resnet20_kd", "resnet20_cifar100", "mobilenet_v1", "digits", "digits_vit"})
"""Networks that coefficients and thresholds were chosen on; the others check them."""

SOFT = 0.5
"""Points of error below which the fit does not tell errors apart."""


HEAD = (
    "| network | setting | real drop | real agreement | predicted | moved | photographs | procedural | verdict |",
    "|---|---|---|---|---|---|---|---|---|",
)

SUMMARY = (
    "| | pairs | mean error of the predicted agreement | where real agreement is 80 % or more | "
    "lose more than 3 points | of these `OK` | lose less than 0.5 | of these not `OK` |",
    "|---|---|---|---|---|---|---|---|",
)


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
    """A file against float on one kind of held-out inputs, with its :class:`Features`.

    Args:
        snr: of the output, in dB.
    """

    model: str
    setting: str
    kind: str
    count: int
    agreement: float
    counted: float
    changed: float
    by_class: float
    confidence: float
    variation: float
    snr: float
    lost: float = 0.0
    moved: float = 0.0

    @property
    def features(self) -> Features:
        """As the prediction takes them."""
        return Features(
            self.counted, self.changed, self.by_class, self.confidence, self.variation, self.lost, self.moved
        )


@dataclass(frozen=True)
class Pair:
    """Both of one pair; kind -> figures."""

    real: Real
    kinds: dict[str, Measured]

    @property
    def predicted(self) -> Prediction:
        """Of the agreement on real inputs."""
        found = predict({kind: entry.features for kind, entry in self.kinds.items()})
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
    """A line for each kind of input: its coefficients, and the errors in points."""
    fitted = [pair for pair in pairs_of(truths, figures) if pair.fitted and pair.real.setting not in leave_out]
    for kind in (PHOTOGRAPHS, BY_RULE):
        yield fit_of(kind, fitted)


def fit_of(kind: str, fitted: Sequence[Pair]) -> str:
    """The coefficients of a kind of input that fit ``fitted`` best, and the errors in points."""
    real = np.array([pair.real.agreement for pair in fitted])
    networks = np.array([pair.real.model for pair in fitted])
    most = np.array([100 * (1 - pair.kinds[kind].lost) for pair in fitted])
    both = zip(*(pair.kinds[kind].features.regressors for pair in fitted), strict=True)
    estimates = [np.array(rows) for rows in both]
    solved = [_solved(rows, real, most) for rows in estimates]
    apart = np.zeros(len(real))
    for name in set(networks):
        own = networks == name
        left = [_solved(rows[~own], real[~own], most[~own]) for rows in estimates]
        apart[own] = _averaged([rows[own] for rows in estimates], left, most[own])
    errors = [abs(log_odds(1 - one / 100) - log_odds(1 - other / 100)) for one, other in zip(apart, real, strict=True)]
    within, across = (np.abs(found - real).mean() for found in (_averaged(estimates, solved, most), apart))
    shown = ", ".join("(" + ", ".join(f"{value:.2f}" for value in own) + ")" for own in solved)
    spread = np.quantile(errors, 0.95)
    found = f"{within:.2f} points off, {across:.2f} on a network left out of the fit"
    return f"{kind}: Coefficients({shown}, {spread:.2f}); {found}"


def _averaged(estimates: Sequence[Floats], solved: Sequence[Floats], most: Floats) -> Floats:
    """The agreement in percent that all estimates predict together, where lost classes leave ``most``."""
    found = [_percent(rows @ own) for rows, own in zip(estimates, solved, strict=True)]
    return np.minimum(np.average(found, axis=0, weights=WEIGHTS), most)


def _solved(rows: Floats, agreement: Floats, most: Floats) -> Floats:
    """The coefficients with the smallest mean absolute error in points.

    Args:
        most: that lost classes leave.
    """
    inputs, real, bound = (torch.from_numpy(values) for values in (rows, agreement, most))
    odds = torch.tensor([log_odds(1 - value / 100) for value in agreement], dtype=inputs.dtype)
    solved = torch.linalg.lstsq(inputs, odds[:, None]).solution[:, 0].requires_grad_()
    optimizer = torch.optim.LBFGS([solved], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        error = torch.minimum(100 * torch.sigmoid(-inputs @ solved), bound) - real
        value = torch.sqrt(error.square() + SOFT**2).mean()
        value.backward()  # type: ignore[no-untyped-call]
        return value.item()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return np.asarray(solved.detach().numpy())


def _percent(odds: Floats) -> Floats:
    """Agreement from the log-odds that an answer changes."""
    return np.asarray(100 / (1 + np.exp(odds)))


def table(truths: Sequence[Real], figures: Sequence[Measured], leave_out: Collection[str]) -> str:
    """Markdown: the pairs, and how good prediction and verdict are, apart for networks that were fitted and others."""
    pairs = pairs_of(truths, figures)
    lines = []
    for fitted in (True, False):
        lines += [*HEAD, *(_line(pair) for pair in sorted(pairs, key=_order) if pair.fitted == fitted), ""]
    lines += SUMMARY
    for name, fitted in (("chosen on", True), ("checked on", False)):
        judged = [pair for pair in pairs if pair.fitted == fitted and pair.real.setting not in leave_out]
        lines += [_summary(name, judged)] if judged else []
    return "\n".join(lines)


def _order(pair: Pair) -> tuple[str, float]:
    return pair.real.model, pair.real.drop


def _line(pair: Pair) -> str:
    real, found = pair.real, pair.predicted
    cells = " | ".join(f"{pair.kinds[kind].agreement:.1f}" for kind in (PHOTOGRAPHS, BY_RULE))
    return (
        f"| {real.model} | {real.setting} | {real.drop:.2f} | {real.agreement:.1f} | {found.value:.1f} | "
        f"{found.variation:.3f} | {cells} | {class_level(found)} |"
    )


def _summary(name: str, pairs: Sequence[Pair]) -> str:
    errors = {pair.real: abs(pair.predicted.value - pair.real.agreement) for pair in pairs}
    off, near = mean(errors.values()), mean(error for real, error in errors.items() if real.agreement >= 80)
    lost = [pair for pair in pairs if pair.real.drop > 3]
    kept = [pair for pair in pairs if pair.real.drop < 0.5]
    missed = sum(class_level(pair.predicted) == "OK" for pair in lost)
    alarms = sum(class_level(pair.predicted) != "OK" for pair in kept)
    return f"| {name} | {len(pairs)} | {off:.2f} | {near:.2f} | {len(lost)} | {missed} | {len(kept)} | {alarms} |"
