"""The verdict on an evaluation: what is BAD by itself, and what gates overrule."""

from dataclasses import replace

import numpy as np
import pytest

from dfq_deploy import Samples
from dfq_deploy.evaluation.compare import Comparison
from dfq_deploy.evaluation.evaluate import Evaluation
from dfq_deploy.evaluation.file_fault import FaultKind, FileFault
from dfq_deploy.evaluation.metrics import Scores
from dfq_deploy.evaluation.output_distance import OutputDistance
from dfq_deploy.evaluation.scale_check import ScaleCheck
from dfq_deploy.runtime.kernel_count import Kernel, KernelCount
from dfq_deploy.verdict.agreement.measure import Agreement, KindAgreement, agreement_of
from dfq_deploy.verdict.evaluation import (
    FAULTS,
    NEEDED,
    drop_finding,
    evaluation_findings,
    judge_evaluation,
    with_samples_in_doubt,
)
from dfq_deploy.verdict.finding import Finding, Level, Verdict
from dfq_deploy.verdict.gates import Gates

COUNT = 500
SCORES = Scores(99.0, 0.01, 91.2, 90.8, 0.3, 0.9, 0.02, lost=5, won=3, classes=10)
INTEGER = KernelCount((Kernel("conv", "Conv", "QLinearConv", "integer"),), 2, (), "ONNX Runtime")
FAULT = ScaleCheck("conv.weight", "weight", "Conv 'conv'", 8, 18.0, 20.0, 8.0)
SAMPLES = Samples(np.zeros((COUNT, 1), np.float32), np.arange(COUNT) % 10)


def _evaluation(scores: Scores = SCORES, count: int = COUNT) -> Evaluation:
    comparison = Comparison(count, (OutputDistance("scores", 30.0, 0.1),), scores)
    return Evaluation("f.onnx", "q.onnx", 4, 1, "data", comparison, kernels=INTEGER)


def _agreement(evaluation: Evaluation) -> Agreement:
    return agreement_of([KindAgreement("data", False, evaluation.comparison)])


def _verdict(evaluation: Evaluation, gates: Gates | None = None, target: str | None = None) -> Verdict:
    agreement = _agreement(evaluation)
    return judge_evaluation(
        evaluation,
        agreement,
        evaluation_findings(evaluation, agreement, SAMPLES, target),
        gates,
        lambda finding: "next" if finding.level == "BAD" else "",
    )


def test_a_good_file() -> None:
    verdict = _verdict(_evaluation())
    assert verdict.status == "OK"
    assert verdict.reason == "top-1 falls by 0.40 points (-0.77 to 1.57) on 500 labelled samples"
    assert {finding.code for finding in verdict.findings} == {"top1-drop", "agreement", "labels", "layers-in-int8"}


@pytest.mark.parametrize(
    ("lost", "won", "count", "level"),
    [
        (5, 3, 500, "OK"),
        (8, 3, 500, "OK"),  # 1 point, which chance explains
        (15, 3, 500, "CHECK"),  # 2.4 points, which it does not
        (3, 1, 64, "CHECK"),  # 3.1 points of few samples
        (40, 10, 500, "BAD"),
        (0, 20, 500, "OK"),
    ],
)
def test_the_drop_of_top1(lost: int, won: int, count: int, level: str) -> None:
    assert drop_finding(replace(SCORES, lost=lost, won=won), count).level == level


@pytest.mark.parametrize(
    ("code", "level", "factor", "expected"),
    [
        ("samples-range", "CHECK", 8.0, "scale-wide"),
        ("samples-bits", "CHECK", 8.0, "scale-wide"),
        ("samples-range", "OK", 8.0, "scale-fault"),
        ("samples-range", "CHECK", 0.1, "scale-fault"),  # what is too small on dark samples is so on all others
        ("inputs-guessed", "CHECK", 0.1, "scale-clips"),
        ("inputs-guessed", "CHECK", 8.0, "scale-clips"),
    ],
)
def test_scales_are_no_fault_for_being_too_large_on_dark_samples(
    code: str, level: Level, factor: float, expected: str
) -> None:
    """A file that loses 0.5 points was BAD for "a scale 8.2 times too large" on samples of 12 bits."""
    evaluation = replace(_evaluation(), scales=(replace(FAULT, kind="activation", factor=factor),))
    agreement, dark = _agreement(evaluation), Finding(code, level, "they are dark", options="--data FOLDER")
    findings = with_samples_in_doubt([*evaluation_findings(evaluation, agreement, SAMPLES, None), dark])
    (found,) = [finding for finding in findings if finding.code.startswith("scale-")]
    assert (found.code, found.level) == (expected, "BAD" if expected == "scale-fault" else "CHECK")
    verdict = judge_evaluation(evaluation, agreement, findings, None, None)
    assert (verdict.reason == "they are dark") == (expected != "scale-fault")


def test_a_weight_is_wrong_whatever_the_samples() -> None:
    evaluation = replace(_evaluation(), scales=(FAULT,))
    guess = Finding("inputs-guessed", "CHECK", "a guess")
    findings = with_samples_in_doubt([*evaluation_findings(evaluation, _agreement(evaluation), SAMPLES, None), guess])
    assert ("scale-fault", "BAD") in {(finding.code, finding.level) for finding in findings}


@pytest.mark.parametrize("gates", [None, Gates(min_agreement=10, min_snr=1, max_drop=90)])
def test_a_wrong_scale_is_bad_whatever_the_figures_and_the_gates(gates: Gates | None) -> None:
    verdict = _verdict(replace(_evaluation(), scales=(FAULT,)), gates)
    assert verdict.status == "BAD"
    assert verdict.reason == str(FAULT)
    assert verdict.findings[0].code == "scale-fault"


@pytest.mark.parametrize(
    ("factor", "snr", "level"),
    [(8.0, 25.0, "BAD"), (1 / 8, 25.0, "BAD"), (0.66, 29.7, "OK"), (0.4, 15.0, "CHECK"), (2.0, 5.0, "BAD")],
)
def test_a_range_that_clips_a_little_is_judged_by_its_noise(factor: float, snr: float, level: str) -> None:
    verdict = _verdict(replace(_evaluation(), scales=(replace(FAULT, factor=factor, snr=snr),)))
    assert verdict.status == level


def test_a_file_of_few_right_answers_is_bad_until_gates_say_otherwise() -> None:
    poor = _evaluation(replace(SCORES, agreement=80.0, lost=90, won=5, quantized_top1=74.2))
    assert _verdict(poor).status == "BAD"
    met = _verdict(poor, Gates(max_drop=20))
    assert met.status == "CHECK"
    assert met.reason.startswith("--max-drop met: top-1 falls by 17.00 points")
    assert "(BAD by the default thresholds, which the gates overrule)" in met.reason
    missed = _verdict(poor, Gates(max_drop=16, min_snr=40, min_agreement=50))
    assert missed.status == "BAD"
    assert missed.reason == (
        "--max-drop missed: top-1 falls by 17.00 points from 91.20 to 74.20 %, at most 16 is allowed; "
        "--min-snr missed: output 'scores' has 30.0 dB of signal to noise, at least 40 is asked for"
    )
    assert missed.command == "next"
    assert [entry.level for entry in missed.findings if entry.code == "gate-min-agreement"] == ["OK"]


def test_gates_can_be_stricter_than_the_thresholds() -> None:
    assert _verdict(_evaluation()).status == "OK"
    assert _verdict(_evaluation(), Gates(min_agreement=99.5)).status == "BAD"
    assert _verdict(_evaluation(), Gates(min_agreement=99)).status == "OK"


def test_a_file_without_a_quantized_layer() -> None:
    plain = KernelCount((Kernel("conv", "Conv", "Conv", "float"),), 0, (), "ONNX Runtime")
    for gates in (None, Gates(min_agreement=50)):
        verdict = _verdict(replace(_evaluation(), kernels=plain), gates)
        assert (verdict.status, verdict.findings[0].code) == ("BAD", "nothing-quantized")


def test_a_file_for_another_runtime() -> None:
    behind = KernelCount((Kernel("conv", "Conv", "Conv", "float", dequantized=True),), 3, (), "ONNX Runtime")
    verdict = _verdict(replace(_evaluation(), kernels=behind))
    assert verdict.status == "CHECK"
    assert verdict.command == "dfq-deploy evaluate f.onnx q.onnx --target NAME"
    assert _verdict(replace(_evaluation(), kernels=behind), target="cpu").status == "BAD"


def test_labels_of_another_order() -> None:
    wrong = _evaluation(replace(SCORES, float_top1=10.2, quantized_top1=10.2, lost=0, won=0))
    verdict = _verdict(wrong)
    assert verdict.status == "CHECK"
    assert verdict.findings[0].code == "labels"


@pytest.mark.parametrize(("agreement", "level"), [(50.0, "BAD"), (93.75, "OK")])
def test_few_real_samples_condemn_and_do_not_acquit(agreement: float, level: str) -> None:
    few = _evaluation(replace(SCORES, agreement=agreement), count=16)
    (found,) = (
        finding for finding in evaluation_findings(few, _agreement(few), SAMPLES) if finding.code == "agreement-few"
    )
    assert found.level == level


@pytest.mark.parametrize("kind", ["bias", "node", "another-network"])
@pytest.mark.parametrize("gates", [None, Gates(min_agreement=10)])
def test_another_fault_comes_first_whatever_the_gates(kind: FaultKind, gates: Gates | None) -> None:
    fault = FileFault(kind, "conv.bias", "Conv 'conv'", "this is wrong", 3.0)
    verdict = _verdict(replace(_evaluation(), faults=(fault,), scales=(FAULT,)), gates)
    assert (verdict.status, verdict.reason) == ("BAD", "this is wrong")
    assert verdict.findings[0].code in FAULTS
    assert "dfq-deploy calibrate" in verdict.findings[0].remedy


def test_a_fault_of_little_noise_is_still_looked_at() -> None:
    fault = FileFault("bias", "conv.bias", "Conv 'conv'", "this is wrong", 30.0)
    verdict = _verdict(replace(_evaluation(), faults=(fault,)))
    assert (verdict.status, verdict.findings[0].code) == ("CHECK", "bias-fault")
    assert "'conv.bias'" in verdict.findings[0].remedy


@pytest.mark.parametrize(
    ("check", "code", "level"),
    [
        (replace(FAULT, factor=1.0, snr=16.0, cause="zero point", detail="is 3"), "zero-point-fault", "CHECK"),
        (replace(FAULT, factor=1.0, snr=25.0, cause="zero point", detail="is 3"), "zero-point-fault", "CHECK"),
        (replace(FAULT, factor=1.0, snr=3.0, cause="zero point", detail="is 3"), "zero-point-fault", "BAD"),
        (replace(FAULT, factor=1.0, snr=14.0, cause="values", detail="a swap"), "weight-fault", "BAD"),
        (replace(FAULT, factor=1.0, snr=0.0), "weight-fault", "BAD"),
    ],
)
def test_what_is_no_scale_is_not_called_one(check: ScaleCheck, code: str, level: str) -> None:
    verdict = _verdict(replace(_evaluation(), scales=(check,)))
    assert (verdict.status, verdict.findings[0].code) == (level, code)
    assert "the scale of" not in verdict.reason


def test_a_small_sample_asks_for_more() -> None:
    found = drop_finding(replace(SCORES, lost=3, won=1), 64)
    assert found.level == "CHECK"
    assert found.figures is not None
    assert f"{found.figures[NEEDED]:.0f} would tell" in found.message
    assert found.remedy == f"give {found.figures[NEEDED]:.0f} labelled samples or more"
    assert NEEDED not in (drop_finding(replace(SCORES, lost=15, won=3), 500).figures or {})


def test_labels_that_are_off_by_one() -> None:
    wrong = _evaluation(replace(SCORES, float_top1=1.2, below_label=90.5, above_label=0.4, lost=0, won=0))
    verdict = _verdict(wrong)
    assert (verdict.status, verdict.findings[0].code, verdict.command) == ("CHECK", "labels-shifted", "")
    assert verdict.reason == (
        "the labels are off by one: float gives the class of the label to 1.2 % of the samples, and the class before "
        "it to 90.5 %; subtract 1 from each label"
    )
    right = _verdict(_evaluation(replace(SCORES, below_label=2.0, above_label=3.0)))
    assert "labels-shifted" not in {finding.code for finding in right.findings}


def test_a_range_that_is_much_too_wide_is_looked_at() -> None:
    wide = ScaleCheck("relu", "activation", "", 8, 14.0, 30.0, 5.2, room=5.2)
    verdict = _verdict(replace(_evaluation(), scales=(wide,)))
    assert (verdict.status, verdict.findings[0].code) == ("CHECK", "scale-wide")
    assert verdict.reason.startswith("the scale of activation 'relu' is about 5.2 times too large")
    assert _verdict(replace(_evaluation(), scales=(replace(wide, room=2.6),))).status == "OK"


def test_ranges_that_clip_a_little_hide_no_fault() -> None:
    mild = [ScaleCheck(f"relu{index}", "activation", "", 8, 25.0, 27.0, 0.6) for index in range(5)]
    swap = ScaleCheck("conv.weight", "weight", "Conv 'conv'", 8, 20.0, 5.0, 1.0, cause="values", detail="a swap")
    verdict = _verdict(replace(_evaluation(), scales=(*mild, swap)))
    assert (verdict.status, verdict.findings[0].code) == ("BAD", "weight-fault")
