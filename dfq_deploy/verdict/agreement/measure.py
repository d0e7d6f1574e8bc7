"""Agreement of float and quantized model on held-out inputs, kind by kind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dfq_deploy.evaluation.compare import Comparer, Comparison
from dfq_deploy.evaluation.metrics import finite
from dfq_deploy.evaluation.output_distance import judged_outputs
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.runner import Runnable, Runner
from dfq_deploy.verdict.agreement.held_out import DATA, PHOTOGRAPHS, WRITTEN, HeldOut
from dfq_deploy.verdict.agreement.intervals import Interval, agreement_interval
from dfq_deploy.verdict.agreement.margins import part_lost
from dfq_deploy.verdict.agreement.prediction import MEASURED, Prediction, features_of, predict, sampling_error
from dfq_deploy.verdict.agreement.written import suits_writing, written

__all__ = ["SHOWN", "UNSURE", "Agreement", "KindAgreement", "agreement_of", "measure_agreement"]

UNSURE = 2.0
"""Points of standard error from which on a prediction takes more inputs than the first ones."""

SHOWN = 0.25
"""Part of the inputs on which an output has to show something for them to say how noisy it is."""

WRITINGS = 24
"""Photographs that text is written on."""


@dataclass(frozen=True)
class KindAgreement:
    """Float against quantized on held-out inputs of one kind.

    Args:
        kind, calibrated: as :class:`dfq_deploy.verdict.agreement.held_out.HeldOut` has them.
        comparison: all figures.
        goes_on: more inputs of this kind can be drawn.
    """

    kind: str
    calibrated: bool
    comparison: Comparison
    goes_on: bool = False

    @property
    def agreement(self) -> Interval | None:
        """In how many percent both put the same class first; None for a model without class scores."""
        scores, count = self.comparison.scores, self.comparison.count
        return None if scores is None else agreement_interval(round(scores.agreement * count / 100), count)

    @property
    def worst_output(self) -> tuple[str, float]:
        """Name and signal-to-noise ratio, in dB, of the output with the lowest one.

        Integers count where there is nothing else; the boxes and the scores of a detector count as outputs. A ratio of
        infinity and an empty name where no output can be compared.
        """
        outputs = [(output.snr, output.name) for output in judged_outputs(self.comparison.outputs)]
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
    def is_settled(self) -> bool:
        """False where more inputs can be drawn, and would make the prediction more certain than :data:`UNSURE`."""
        drawn = [kind.agreement for kind in self.kinds if kind.goes_on and kind.agreement is not None]
        if self.predicted is None or not drawn:
            return True
        count = sum(interval.count for interval in drawn)
        same = sum(interval.value * interval.count for interval in drawn) / count
        return sampling_error(self.predicted, 1 - same / 100, count) <= UNSURE

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
    further: bool = True,
) -> Agreement:
    """Run both models on each held-out set, and predict their agreement on real data.

    Costs one run of each model on each input. More inputs are drawn and run where the first ones leave the prediction
    too uncertain (:data:`UNSURE`). Where the outputs show nothing on most photographs, as the map of a text detector,
    photographs with lines of text are a kind of their own.

    Args:
        known: of both models on the first set, where that was measured before.
        further: False runs no more than ``sets``; :attr:`Agreement.is_settled` says whether that was enough.

    Raises:
        ModelError: a model cannot be run, or their outputs do not match.
    """
    pair = tuple(
        model if isinstance(model, Runner) else Runner(model, quiet_threads=True) for model in (reference, quantized)
    )
    before = () if known is None else (KindAgreement(sets[0].kind, sets[0].calibrated, known),)
    left = sets[len(before) :]
    comparers = [Comparer(pair[0], pair[1], held.samples) for held in left]
    for held, comparer in zip(left, comparers, strict=True):
        progress.start("float against quantized", len(held.samples))
        comparer.add(held.samples, progress)

    agreement = agreement_of([*before, *_kinds(left, comparers)])
    if further and not agreement.is_settled:
        for held, comparer in zip(left, comparers, strict=True):
            if held.further is not None:
                comparer.add(held.further())
        agreement = agreement_of([*before, *_kinds([replace(held, further=None) for held in left], comparers)])
    pictures = next((held for held in left if held.kind == PHOTOGRAPHS), None)
    if pictures is None or agreement.predicted is not None or not _shows_little(agreement, pictures):
        return agreement
    drawn = written(pictures.samples.part(slice(WRITINGS)))
    comparer = Comparer(pair[0], pair[1], drawn)
    comparer.add(drawn)
    return agreement_of([*agreement.kinds, KindAgreement(WRITTEN, False, comparer.comparison())])


def _kinds(sets: Sequence[HeldOut], comparers: Sequence[Comparer]) -> list[KindAgreement]:
    """What was measured so far."""
    return [
        KindAgreement(held.kind, held.calibrated, comparer.comparison(), held.further is not None)
        for held, comparer in zip(sets, comparers, strict=True)
    ]


def _shows_little(agreement: Agreement, pictures: HeldOut) -> bool:
    """True where an output shows something on few of the ``pictures``, and text could be written on them.

    Detectors and stated tasks have figures of their own for that.
    """
    kind = next(kind.comparison for kind in agreement.kinds if kind.kind == pictures.kind)
    outputs = kind.outputs if kind.head is None and kind.task is None else ()
    return any(output.shown < SHOWN for output in outputs) and suits_writing(pictures.samples)


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
