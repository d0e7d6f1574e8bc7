"""Gates: each bound, met and missed, and what cannot be bounded."""

import math
import re

import pytest

from dfq_deploy.errors import OptionError
from dfq_deploy.evaluation.compare import Comparison
from dfq_deploy.evaluation.evaluate import Evaluation
from dfq_deploy.evaluation.metrics import Scores
from dfq_deploy.evaluation.output_distance import OutputDistance
from dfq_deploy.evaluation.own_metric import MetricFigures
from dfq_deploy.verdict.agreement.measure import Agreement, KindAgreement
from dfq_deploy.verdict.agreement.prediction import Prediction
from dfq_deploy.verdict.gates import Gates, gate_findings

LABELLED = Scores(99.0, 0.01, 91.2, 90.2, 0.3, 0.9, 0.02, lost=8, won=3, classes=10)
OUTPUTS = (OutputDistance("scores", 31.5, 0.1), OutputDistance("boxes", 17.25, 0.1))


def _evaluation(
    scores: Scores | None = LABELLED,
    outputs: tuple[OutputDistance, ...] = OUTPUTS,
    metric: MetricFigures | None = None,
) -> Evaluation:
    return Evaluation("f.onnx", "q.onnx", 4, 1, "data", Comparison(500, outputs, scores), metric=metric)


def _agreement(kind: str = "data", predicted: float | None = 99.0) -> Agreement:
    expected = None if predicted is None else Prediction(predicted, predicted - 1, predicted + 0.5, kind, 0.02)
    return Agreement((KindAgreement(kind, False, _evaluation().comparison),), expected)


@pytest.mark.parametrize(
    ("gates", "met", "said"),
    [
        (Gates(min_agreement=99), True, "agreement is 99.0 % of 500 (97.7 to 99.7), at least 99 % is asked for"),
        (Gates(min_agreement=99.1), False, "agreement is 99.0 % of 500 (97.7 to 99.7), at least 99.1 % is asked for"),
        (Gates(max_drop=1), True, "top-1 falls by 1.00 points from 91.20 to 90.20 %, at most 1 is allowed"),
        (Gates(max_drop=0.9), False, "top-1 falls by 1.00 points from 91.20 to 90.20 %, at most 0.9 is allowed"),
        (Gates(min_snr=17.25), True, "output 'boxes' has 17.2 dB of signal to noise, at least 17.25 is asked for"),
        (Gates(min_snr=20), False, "output 'boxes' has 17.2 dB of signal to noise, at least 20 is asked for"),
    ],
)
def test_each_gate_gives_the_figure_and_the_bound(gates: Gates, met: bool, said: str) -> None:
    (finding,) = gate_findings(gates, _evaluation(), _agreement())
    assert finding.level == ("OK" if met else "BAD")
    assert finding.message == f"--{finding.code.removeprefix('gate-')} {'met' if met else 'missed'}: {said}"
    assert finding.figures is not None
    assert set(finding.figures) == {"bound", "figure"}


@pytest.mark.parametrize(("gates", "met"), [(Gates(max_drop=0.01), True), (Gates(max_drop=0.009), False)])
def test_the_drop_is_that_of_the_metric_where_there_is_one(gates: Gates, met: bool) -> None:
    own = MetricFigures("f1", 0.95, 0.94)  # whose difference is more than 0.01 in floating point
    assert own.drop > 0.01
    (finding,) = gate_findings(gates, _evaluation(scores=None, metric=own), _agreement())
    assert finding.level == ("OK" if met else "BAD")
    assert "f1 falls by 0.01 from 0.95 to 0.94, at most" in finding.message


@pytest.mark.parametrize(("bound", "met"), [(0.94, True), (0.95, False)])
def test_the_metric_of_the_quantized_model(bound: float, met: bool) -> None:
    own = MetricFigures("f1", 0.96, 0.94)
    (finding,) = gate_findings(Gates(min_metric=bound), _evaluation(metric=own), _agreement())
    assert finding.level == ("OK" if met else "BAD")
    assert "f1 of the quantized model is 0.94, at least" in finding.message


def test_without_real_data_the_predicted_agreement_counts() -> None:
    (finding,) = gate_findings(Gates(min_agreement=99.5), _evaluation(), _agreement("photographs", 99.8))
    assert finding.level == "OK"
    assert "predicted agreement is 99.8 % (98.8 to 100.3), at least 99.5 % is asked for" in finding.message
    (finding,) = gate_findings(Gates(min_agreement=99.5), _evaluation(), _agreement("procedural", None))
    assert finding.level == "BAD"
    assert "agreement is 99.0 % of 500" in finding.message


def test_equal_outputs_meet_any_bound() -> None:
    (finding,) = gate_findings(
        Gates(min_snr=1e6), _evaluation(outputs=(OutputDistance("y", math.inf, 0),)), _agreement()
    )
    assert finding.level == "OK"
    assert finding.to_json()["figures"] == {"bound": 1e6}


@pytest.mark.parametrize(
    ("gates", "evaluation", "words"),
    [
        (Gates(min_agreement=90), _evaluation(scores=None), "--min-agreement needs a model that gives class scores"),
        (
            Gates(max_drop=1),
            _evaluation(scores=None),
            "--max-drop bounds the loss of top-1, and the first output holds",
        ),
        (Gates(max_drop=1), _evaluation(scores=Scores(99, 0.1)), "--max-drop bounds the loss of top-1, and the first"),
        (Gates(min_snr=1), _evaluation(outputs=()), "--min-snr needs an output that can be compared"),
    ],
)
def test_a_figure_that_there_is_not(gates: Gates, evaluation: Evaluation, words: str) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        gate_findings(gates, evaluation, _agreement())


def test_gates_are_checked_before_anything_runs() -> None:
    with pytest.raises(OptionError, match="--max-drop bounds the loss of top-1, which needs labels"):
        Gates(max_drop=1).check(has_metric=False, has_labels=False)
    with pytest.raises(OptionError, match="--min-metric bounds the metric, and there is none"):
        Gates(min_metric=1).check(has_metric=False, has_labels=True)
    Gates(max_drop=1).check(has_metric=True, has_labels=False)
    Gates(max_drop=1).check(has_metric=False, has_labels=True)
    with pytest.raises(OptionError, match="--min-snr: nan is no bound; give a finite number"):
        Gates(min_snr=math.nan)
    with pytest.raises(OptionError, match="--min-agreement: 101 is no percentage; give 0 to 100"):
        Gates(min_agreement=101)
    assert not Gates()
    assert Gates(min_metric=0.0)
