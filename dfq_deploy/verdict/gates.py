"""Gates: bounds of the user's own that the figures of a quantized model have to meet."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from dfq_deploy.errors import OptionError
from dfq_deploy.evaluation.evaluate import Evaluation
from dfq_deploy.verdict.agreement.held_out import DATA
from dfq_deploy.verdict.agreement.intervals import agreement_interval
from dfq_deploy.verdict.agreement.measure import Agreement
from dfq_deploy.verdict.finding import Finding

__all__ = ["Gates", "gate_findings"]

ROUNDING = 1e-9
"""A figure that misses its bound by no more than this part of it meets it: differences of decimals are not exact."""


@dataclass(frozen=True)
class Gates:
    """What a quantized model has to reach, as ``dfq-deploy evaluate`` takes it; None asks for nothing.

    Args:
        min_agreement: percent, 0 to 100, of inputs on which float and quantized model give the same class: measured on
            real data, else predicted.
        max_drop: how much the quantized model may lose: points of top-1, which needs labels, or units of the metric
            where there is one.
        min_snr: signal to noise of the worst output, in dB.
        min_metric: of the quantized model, in units of the metric.

    Raises:
        OptionError: a bound is no finite number, or the agreement no percentage.
    """

    min_agreement: float | None = None
    max_drop: float | None = None
    min_snr: float | None = None
    min_metric: float | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            bound = getattr(self, entry.name)
            if bound is not None and not math.isfinite(bound):
                raise OptionError(f"--{entry.name.replace('_', '-')}: {bound} is no bound; give a finite number")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 100:
            raise OptionError(f"--min-agreement: {self.min_agreement:g} is no percentage; give 0 to 100")

    def __bool__(self) -> bool:
        return any(getattr(self, entry.name) is not None for entry in fields(self))

    def check(self, *, has_metric: bool, has_labels: bool) -> None:
        """Refuse gates whose figure there will not be.

        Raises:
            OptionError: a gate needs labels or a metric.
        """
        if self.min_metric is not None and not has_metric:
            raise OptionError("--min-metric bounds the metric, and there is none; give --metric FILE.py:FUNCTION")
        if self.max_drop is not None and not (has_metric or has_labels):
            raise OptionError(
                "--max-drop bounds the loss of top-1, which needs labels, and the samples have none; give --data with "
                "class folders or --labels FILE, or --metric FILE.py:FUNCTION, whose loss is then bounded"
            )


def gate_findings(gates: Gates, evaluation: Evaluation, agreement: Agreement) -> tuple[Finding, ...]:
    """One finding for each gate: ``OK`` where it is met, else ``BAD``.

    Raises:
        OptionError: the models do not have the figure that a gate bounds.
    """
    found = _agreement(gates, evaluation, agreement), _drop(gates, evaluation), _snr(gates, evaluation)
    return tuple(finding for part in (*found, _metric(gates, evaluation)) for finding in part)


def _agreement(gates: Gates, evaluation: Evaluation, agreement: Agreement) -> Iterator[Finding]:
    bound, scores, count = gates.min_agreement, evaluation.comparison.scores, evaluation.comparison.count
    if bound is None:
        return
    if scores is None:
        raise OptionError("--min-agreement needs a model that gives class scores; bound its noise with --min-snr")
    measured = agreement_interval(round(scores.agreement * count / 100), count)
    expected = agreement.predicted
    if expected is None or any(kind.kind == DATA for kind in agreement.kinds):
        figure, said = measured.value, f"agreement is {measured}"
    else:
        figure, said = expected.value, f"predicted agreement is {expected}"
    yield _gate("min-agreement", figure, bound, f"{said}, at least {bound:g} % is asked for")


def _drop(gates: Gates, evaluation: Evaluation) -> Iterator[Finding]:
    bound, own, scores = gates.max_drop, evaluation.metric, evaluation.comparison.scores
    if bound is None:
        return
    if own is not None:
        said = f"{own.name} falls by {own.drop:.6g} from {own.of_float:.6g} to {own.of_quantized:.6g}"
        yield _gate("max-drop", own.drop, bound, f"{said}, at most {bound:g} is allowed", most=True)
        return
    if scores is None or scores.lost is None or scores.won is None:
        raise OptionError(
            "--max-drop bounds the loss of top-1, and the first output holds no class scores to compare with labels; "
            "give --metric FILE.py:FUNCTION, whose loss is then bounded"
        )
    drop = 100 * (scores.lost - scores.won) / evaluation.comparison.count
    said = f"top-1 falls by {drop:.2f} points from {scores.float_top1:.2f} to {scores.quantized_top1:.2f} %"
    yield _gate("max-drop", drop, bound, f"{said}, at most {bound:g} is allowed", most=True)


def _snr(gates: Gates, evaluation: Evaluation) -> Iterator[Finding]:
    bound, outputs = gates.min_snr, evaluation.comparison.outputs
    if bound is None:
        return
    if not outputs:
        raise OptionError("--min-snr needs an output that can be compared, and the size of each depends on the sample")
    worst = min(outputs, key=lambda output: output.snr)
    said = f"output '{worst.name}' has {worst.snr:.1f} dB of signal to noise"
    yield _gate("min-snr", worst.snr, bound, f"{said}, at least {bound:g} is asked for")


def _metric(gates: Gates, evaluation: Evaluation) -> Iterator[Finding]:
    bound, own = gates.min_metric, evaluation.metric
    if bound is None or own is None:  # Gates.check refuses the one without the other
        return
    said = f"{own.name} of the quantized model is {own.of_quantized:.6g}"
    yield _gate("min-metric", own.of_quantized, bound, f"{said}, at least {bound:g} is asked for")


def _gate(name: str, figure: float, bound: float, said: str, *, most: bool = False) -> Finding:
    slack = ROUNDING * max(1.0, abs(bound))
    met = figure <= bound + slack if most else figure >= bound - slack
    figures = {"bound": bound, **({"figure": figure} if math.isfinite(figure) else {})}
    return Finding(
        f"gate-{name}", "OK" if met else "BAD", f"--{name} {'met' if met else 'missed'}: {said}", "", figures
    )
