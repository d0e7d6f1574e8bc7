"""Agreement of float and quantized model on held-out inputs, kind by kind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dfq_deploy.evaluation.compare import Comparison, compare
from dfq_deploy.evaluation.metrics import finite
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.runner import Runnable, Runner
from dfq_deploy.verdict.agreement.held_out import DATA, HeldOut
from dfq_deploy.verdict.agreement.intervals import Interval, agreement_interval
from dfq_deploy.verdict.agreement.margins import part_lost
from dfq_deploy.verdict.agreement.prediction import MEASURED, Prediction, features_of, predict

__all__ = ["Agreement", "KindAgreement", "agreement_of", "measure_agreement"]


@dataclass(frozen=True)
class KindAgreement:
    """Float against quantized on held-out inputs of one kind.

    Args:
        kind, calibrated: as :class:`dfq_deploy.verdict.agreement.held_out.HeldOut` has them.
        comparison: all figures.
    """

    kind: str
    calibrated: bool
    comparison: Comparison

    @property
    def agreement(self) -> Interval | None:
        """In how many percent both put the same class first; None for a model without class scores."""
        scores, count = self.comparison.scores, self.comparison.count
        return None if scores is None else agreement_interval(round(scores.agreement * count / 100), count)

    @property
    def worst_output(self) -> tuple[str, float]:
        """Name and signal-to-noise ratio, in dB, of the output with the lowest one.

        A ratio of infinity and an empty name where no output can be compared. The boxes and the scores of a detector
        count as outputs.
        """
        outputs = [(output.snr, output.name) for output in self.comparison.outputs]
        if self.comparison.head is not None:
            outputs += [(self.comparison.head.boxes_snr, "boxes"), (self.comparison.head.scores_snr, "scores")]
        snr, name = min(outputs, default=(float("inf"), ""))
        return name, snr

    def to_json(self) -> dict[str, Any]:
        """A plain mapping."""
        interval, (name, snr) = self.agreement, self.worst_output
        return {
            "kind": self.kind,
            "calibrated": self.calibrated,
            "samples": self.comparison.count,
            "agreement": None if interval is None else interval.to_json(),
            "kl_nats": None if self.comparison.scores is None else finite(self.comparison.scores.divergence),
            "worst_output": {"name": name, "snr_db": finite(snr)},
        }

    def __str__(self) -> str:
        """For people."""
        interval, (name, snr) = self.agreement, self.worst_output
        figure = f"'{name}' {snr:.1f} dB" if interval is None else str(interval)
        return f"{self.kind} {figure}" + (" (this kind calibrated)" if self.calibrated else "")


@dataclass(frozen=True)
class Agreement:
    """How far a quantized model is from its float model.

    Args:
        kinds: in the order of the held-out sets.
        predicted: agreement to expect on real data; None for a model without class scores, or without inputs to
            predict from.
    """

    kinds: tuple[KindAgreement, ...]
    predicted: Prediction | None

    @property
    def judging(self) -> tuple[KindAgreement, ...]:
        """The kinds that did not calibrate; all where there is no other."""
        return tuple(kind for kind in self.kinds if not kind.calibrated) or self.kinds

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as the report holds it."""
        return {
            "predicted": None if self.predicted is None else self.predicted.to_json(),
            "kinds": [kind.to_json() for kind in self.kinds],
        }


def measure_agreement(
    reference: Runner | Runnable,
    quantized: Runner | Runnable,
    sets: Sequence[HeldOut],
    progress: Progress = SILENT,
    *,
    known: Comparison | None = None,
) -> Agreement:
    """Run both models on each held-out set, and predict their agreement on real data.

    Costs one run of each model on each input: 128 runs of each for 64 inputs of two kinds
    (:func:`dfq_deploy.verdict.agreement.held_out.held_out_sets`).

    Args:
        known: of both models on the first set, where that was measured before.

    Raises:
        ModelError: a model cannot be run, or their outputs do not match.
    """
    first, second = (
        model if isinstance(model, Runner) else Runner(model, quiet_threads=True) for model in (reference, quantized)
    )
    comparisons = [known] if known is not None else []
    comparisons += [compare(first, second, held.samples, progress) for held in sets[len(comparisons) :]]
    return agreement_of(
        [KindAgreement(held.kind, held.calibrated, found) for held, found in zip(sets, comparisons, strict=True)]
    )


def agreement_of(kinds: Sequence[KindAgreement]) -> Agreement:
    """What measured kinds say together."""
    return Agreement(tuple(kinds), _expected(tuple(kinds)))


def _expected(kinds: tuple[KindAgreement, ...]) -> Prediction | None:
    """Agreement on real data: measured where enough of it is held out, else predicted from other inputs."""
    for kind in kinds:
        interval, figures = kind.agreement, kind.comparison.scores
        if kind.kind == DATA and interval is not None and figures is not None and interval.count >= MEASURED:
            lost = 0.0 if figures.rows is None else part_lost(*figures.rows)
            return Prediction(interval.value, interval.low, interval.high, DATA, figures.variation, lost)
    judging = {kind.kind for kind in Agreement(kinds, None).judging}
    scores = {kind.kind: kind.comparison.scores for kind in kinds if kind.comparison.scores is not None}
    features = features_of(scores)
    predicted = predict({kind: found for kind, found in features.items() if kind in judging})
    return None if predicted is None else _not_above_what_was_seen(predicted, kinds)


def _not_above_what_was_seen(predicted: Prediction, kinds: tuple[KindAgreement, ...]) -> Prediction:
    """``predicted`` with an interval that reaches down to that of the inputs that it is predicted from.

    Most networks are surer of inputs like those of their training, and keep more of these. Where the task is hard they
    are not, and nothing but real inputs shows it.
    """
    seen = [kind.agreement.low for kind in kinds if kind.kind == predicted.kind and kind.agreement is not None]
    return replace(predicted, low=min([predicted.low, *seen]))
