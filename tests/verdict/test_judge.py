"""The verdict: the worst finding decides, thresholds are as documented."""

import math
import re
from pathlib import Path

import pytest

from dfq_deploy.evaluation.compare import Comparison
from dfq_deploy.evaluation.metrics import Scores
from dfq_deploy.evaluation.output_distance import OutputDistance
from dfq_deploy.graph.loading import load
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.verdict.agreement.measure import Agreement, KindAgreement
from dfq_deploy.verdict.agreement.prediction import Prediction
from dfq_deploy.verdict.finding import Finding
from dfq_deploy.verdict.judge import AGREEMENT, MOVED, SNR, agreement_finding, judge, preprocess_condition


def _classifier(predicted: float, moved: float = 0.03) -> Agreement:
    scores = Scores(93.75, 0.01, confidence=0.8, variation=moved)
    photographs = KindAgreement("photographs", False, Comparison(64, (OutputDistance("y", 21.0, 0.1),), scores))
    return Agreement((photographs,), Prediction(predicted, predicted - 2, predicted + 1, "photographs", moved))


def _with_heads(*outputs: OutputDistance) -> Agreement:
    """A classifier with other outputs beside its ten scores."""
    scores = Scores(99.0, 0.01, confidence=0.8, variation=0.03)
    every = (OutputDistance("scores", 8.0, 0.1, width=10), *outputs)
    kind = KindAgreement("photographs", False, Comparison(64, every, scores, scored="scores"))
    return Agreement((kind,), Prediction(99.0, 97.0, 99.5, "photographs", 0.03))


@pytest.mark.parametrize(
    ("output", "level"),
    [
        (OutputDistance("gain", 25.0, 0.1, width=1), "OK"),
        (OutputDistance("gain", 15.0, 0.1, width=1), "CHECK"),
        (OutputDistance("gain", 9.0, 0.1, width=1), "BAD"),
        (OutputDistance("gain", -2.0, 0.1, offset=1.0, width=1), "CHECK"),  # drawn inputs may hardly vary it
        (OutputDistance("probabilities", 9.0, 0.1, width=10), "OK"),  # another form of the scores
        (OutputDistance("place", 3.0, 1.0, integers=True, width=1), "OK"),
    ],
)
def test_outputs_beside_class_scores_are_judged_too(output: OutputDistance, level: str) -> None:
    """A second head of which nothing was left was not mentioned."""
    verdict = judge(_with_heads(output), command=lambda found: f"calibrate {found.options}")
    assert verdict.status == level
    if level != "OK":
        assert f"output 'gain' has {output.snr:.1f} dB" in verdict.reason
        assert verdict.command == "calibrate --floor snr=20"


@pytest.mark.parametrize(("snr", "moved", "level"), [(15.0, 0.01, "OK"), (15.0, 0.03, "CHECK"), (9.0, 0.03, "BAD")])
def test_one_probability_is_judged_by_how_far_it_moves(snr: float, moved: float, level: str) -> None:
    output = OutputDistance("p", snr, 0.3, width=1, moved=moved)
    found = agreement_finding(Agreement((KindAgreement("data", False, Comparison(64, (output,), None)),), None))
    assert found.level == level
    assert f"its probability moves by {moved:.3f} in the mean" in found.message


@pytest.mark.parametrize(
    ("code", "level"), [("inputs-guessed", "CHECK"), ("preprocess-missing", "CHECK"), ("samples-few", "OK")]
)
def test_no_agreement_is_good_on_inputs_in_doubt(code: str, level: str) -> None:
    """The report showed 100 % in green beside inputs of which nothing told the values."""
    verdict = judge(_classifier(99.9), [Finding(code, "CHECK", "it is a guess")])
    (found,) = [finding for finding in verdict.findings if finding.code == "agreement"]
    assert found.level == level
    assert found.message.startswith(f"measured on inputs that are in doubt ({code})") == (level == "CHECK")


def test_an_offset_is_said() -> None:
    output = OutputDistance("y", 15.0, 0.1, offset=293.15, width=1)
    found = agreement_finding(Agreement((KindAgreement("data", False, Comparison(64, (output,), None)),), None))
    assert found.level == "CHECK"
    assert found.message == "output 'y' has 15.0 dB of signal to noise about its mean of 293.1 on 64 inputs (data)"


def _detector(**decibels: float) -> Agreement:
    def kind(name: str, snr: float) -> KindAgreement:
        outputs = (OutputDistance("boxes", snr, 0.1), OutputDistance("scores", snr + 5, 0.1))
        return KindAgreement(name, False, Comparison(64, outputs, None))

    return Agreement(tuple(kind(name, snr) for name, snr in decibels.items()), None)


@pytest.mark.parametrize(
    ("predicted", "moved", "level"),
    [
        (99.9, 0.02, "OK"),
        (95.0, 0.15, "OK"),
        (95.0, 0.16, "CHECK"),
        (90.0, 0.3, "CHECK"),
        (89.9, 0.1, "BAD"),
        (8.6, 0.9, "BAD"),
    ],
)
def test_probabilities_that_move_decide_for_a_classifier(predicted: float, moved: float, level: str) -> None:
    verdict = judge(_classifier(predicted, moved))
    assert verdict.status == level
    interval = f"{predicted:.1f} % ({predicted - 2:.1f} to {predicted + 1:.1f})"
    doubt = f", but class probabilities move by {moved:.2f} (0.15 or less is OK)" if level == "CHECK" else ""
    assert verdict.reason == f"predicted agreement with float on real inputs: {interval}{doubt}"


def test_a_class_that_is_lost_is_bad() -> None:
    predicted = Prediction(90.0, 85.0, 90.0, "photographs", 0.01, lost=0.1)
    verdict = judge(Agreement((), predicted))
    assert verdict.status == "BAD"
    assert "at least 10.0 % of all answers change in classes that it hardly gives" in verdict.reason


@pytest.mark.parametrize(("snr", "level"), [(20.0, "OK"), (19.9, "CHECK"), (12.0, "CHECK"), (11.9, "BAD")])
def test_the_worst_output_decides_without_classes(snr: float, level: str) -> None:
    verdict = judge(_detector(photographs=snr))
    assert (verdict.status, verdict.reason) == (
        level,
        f"output 'boxes' has {snr:.1f} dB of signal to noise on 64 inputs (photographs)",
    )


def test_photographs_decide_over_pictures_by_rule() -> None:
    assert judge(_detector(procedural=5.0, photographs=25.0)).status == "OK"
    assert judge(_detector(procedural=5.0)).status == "BAD"


def test_the_worst_finding_decides_and_comes_first() -> None:
    constant = Finding("samples-constant", "BAD", "all samples are equal", "dfq-deploy synthesize model.onnx")
    slow = Finding("slower", "CHECK", "slower than float")
    verdict = judge(_classifier(99.0), [slow, constant], lambda finding: "dfq-deploy inspect model.onnx")
    assert (verdict.status, verdict.reason) == ("BAD", "all samples are equal")
    assert verdict.command == "dfq-deploy synthesize model.onnx"
    assert [finding.code for finding in verdict.findings] == ["samples-constant", "slower", "agreement"]


def test_the_next_command_is_for_the_finding_that_decides() -> None:
    def command(finding: Finding) -> str:
        return f"dfq-deploy look-at {finding.code} {finding.level}"

    assert judge(_classifier(93.0, 0.2), command=command).command == "dfq-deploy look-at agreement CHECK"
    assert judge(_classifier(99.0), command=command).command == ""


def test_where_all_is_well_the_agreement_is_the_reason() -> None:
    verdict = judge(_classifier(99.0), [Finding("samples-few", "OK", "64 samples")])
    assert (verdict.status, verdict.reason) == (
        "OK",
        "predicted agreement with float on real inputs: 99.0 % (97.0 to 100.0)",
    )


def test_an_agreement_on_wrong_inputs_is_no_good_news() -> None:
    wrong = Finding("preprocess-fit", "BAD", "it does not fit")
    verdict = judge(_classifier(99.0), [wrong])
    (agreement,) = [finding for finding in verdict.findings if finding.code == "agreement"]
    assert (verdict.status, agreement.level) == ("BAD", "CHECK")
    assert agreement.message.startswith("measured on wrong inputs (preprocess-fit), so it says nothing of real ones: ")
    slow = Finding("slower-than-float", "BAD", "slow")
    assert [entry.level for entry in judge(_classifier(99.0), [slow]).findings] == ["BAD", "OK"]


def test_of_equally_bad_findings_the_agreement_comes_before_the_speed() -> None:
    slow, few = Finding("slower-than-float", "CHECK", "slow"), Finding("samples-few", "CHECK", "few")
    doubtful = judge(_classifier(93.0, 0.2), [slow, few])
    assert [entry.code for entry in doubtful.findings] == ["samples-few", "agreement", "slower-than-float"]
    assert judge(_classifier(99.0), [slow]).reason == "slow"


def test_what_could_not_be_compared_is_to_be_checked() -> None:
    nothing = KindAgreement("procedural", False, Comparison(64, (), None, ("boxes",)))
    assert judge(Agreement((nothing,), None)).reason == "no output could be compared with float's"
    assert (judge(Agreement((), None)).status, judge(None).status) == ("CHECK", "CHECK")


def test_an_exact_output_is_ok() -> None:
    assert agreement_finding(_detector(photographs=math.inf)).level == "OK"


def test_the_thresholds_are_those_of_the_documentation(checkout: Path) -> None:
    rows = dict(re.findall(r"^\| (class scores|other outputs) \|(.+)\|$", _page(checkout), re.MULTILINE))
    assert re.findall(r"[\d.]+", rows["class scores"]) == [f"{MOVED:g}", f"{AGREEMENT:g}"]
    assert re.findall(r"[\d.]+", rows["other outputs"]) == [f"{SNR.good:g}", f"{SNR.bad:g}"]


def _page(checkout: Path) -> str:
    return (checkout / "docs/verdict.md").read_text(encoding="utf-8")


def test_a_preprocess_that_nothing_confirms_is_a_condition(digits_folded: Path, digits_bn: Path) -> None:
    folded, kept = load(digits_folded), load(digits_bn)
    condition = preprocess_condition(folded, Preprocess((0.305,), (0.319,)))
    assert condition == "if mean 0.305, std 0.319 are those of training"
    assert preprocess_condition(folded, PREPROCESSES["zero-one"]) == "if zero-one is the preprocess of training"
    assert preprocess_condition(kept, PREPROCESSES["zero-one"]) == ""
    assert preprocess_condition(folded, PREPROCESSES["zero-one"], [kept]) == ""
    assert preprocess_condition(folded, None) == ""
    verdict = judge(_classifier(99.0), condition=condition)
    assert verdict.reason == (
        "predicted agreement with float on real inputs, if mean 0.305, std 0.319 are those of training: "
        "99.0 % (97.0 to 100.0)"
    )
