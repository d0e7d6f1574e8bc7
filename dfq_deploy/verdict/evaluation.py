"""Judge an evaluation: wrong scales, gates, agreement, top-1, labels, kernels and speed."""

import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from dfq_deploy.evaluation.detection.map_metric import DetectionFigures
from dfq_deploy.evaluation.evaluate import Evaluation
from dfq_deploy.evaluation.file_fault import FileFault
from dfq_deploy.evaluation.metrics import Scores
from dfq_deploy.evaluation.scale_check import WRONG_BY, ScaleCheck
from dfq_deploy.graph.file_info import is_quantized
from dfq_deploy.runtime.kernel_count import KernelCount
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.agreement.held_out import DATA
from dfq_deploy.verdict.agreement.intervals import drop_interval, samples_needed
from dfq_deploy.verdict.agreement.measure import Agreement
from dfq_deploy.verdict.agreement.prediction import MEASURED
from dfq_deploy.verdict.detector import precision_finding
from dfq_deploy.verdict.finding import LEVELS, Finding, Level, Verdict
from dfq_deploy.verdict.gates import Gates, gate_findings
from dfq_deploy.verdict.judge import AGREEMENT, PROGRAM, SNR, NextCommand, agreement_finding, beside_findings, judge
from dfq_deploy.verdict.sanity.labels import label_finding, shifted_finding
from dfq_deploy.verdict.speed import count_findings

__all__ = [
    "FAULTS",
    "NEEDED",
    "SWAPPED",
    "drop_finding",
    "evaluation_findings",
    "judge_evaluation",
    "with_samples_in_doubt",
]

SWAPPED = "files-swapped"
"""Code of the finding that the quantized file was given as the float one."""

FAULTS = frozenset(
    {"scale-fault", "zero-point-fault", "weight-fault", "bias-fault", "node-fault", "another-network"}
    | {"nothing-quantized", SWAPPED}
)
"""Codes of what is wrong whatever the figures are: no gate makes up for it."""

NEEDED = "needed"
"""Name of the figure that says how many samples would settle what few leave open."""

LITTLE_USED = ("samples-range", "samples-bits")
"""Codes of samples whose values are a small part of those that the input can have."""

GUESSED = "inputs-guessed"

EXPLAINED = "these samples use little of the input's range, on which ranges that fit others look so"

UNKNOWN = "the samples are a guess, and real inputs may have other values"

NAMED_SCALES = 5
"""Wrong scales that get a finding of their own."""

KEPT, LOST = 0.5, 3.0
"""Points of top-1: fewer may be lost without a word; a file that loses more is never ``OK`` (docs/verdict.md)."""


def judge_evaluation(
    evaluation: Evaluation,
    agreement: Agreement,
    findings: Iterable[Finding] = (),
    gates: Gates | None = None,
    command: NextCommand | None = None,
    condition: str = "",
) -> Verdict:
    """The last word on a quantized file.

    Without gates the worst finding decides. With them they decide, together with :data:`FAULTS`: what else is ``BAD``
    by the thresholds of docs/verdict.md is then ``CHECK``.

    Args:
        findings: what :func:`evaluation_findings` has found, and others.
        command, condition: as :func:`dfq_deploy.verdict.judge.judge` takes them.

    Raises:
        OptionError: the models do not have the figure that a gate bounds.
    """
    findings = list(findings)
    own = [_with_count(agreement_finding(agreement, condition), agreement), *beside_findings(agreement)]
    found = [*findings, *(_on_a_guess(finding, findings) for finding in own)]
    if not gates:
        return judge(None, _in_order(found), command)
    checked = gate_findings(gates, evaluation, agreement)
    verdict = judge(None, _in_order([*checked, *map(_overruled, found)]), command)
    return replace(verdict, reason=_reason(verdict, checked))


def evaluation_findings(
    evaluation: Evaluation,
    agreement: Agreement,
    samples: Samples,
    target: str | None = None,
    float_file: Path | None = None,
) -> Iterator[Finding]:
    """What the figures of an evaluation say beside the agreement.

    Args:
        samples: those of the evaluation.
        target: the runtime that the file is for; None where that is not known.
        float_file: the float model, to tell where the two files were swapped.
    """
    comparison, scores = evaluation.comparison, evaluation.comparison.scores
    yield from (_fault_finding(fault) for fault in evaluation.faults[:NAMED_SCALES])
    wrong = [check for check in evaluation.scales if check.is_fault or check.is_wide]
    wrong.sort(key=lambda check: check.is_mild)  # harmless ones leave the others their place
    yield from (_scale_finding(check) for check in wrong[:NAMED_SCALES])
    if scores is not None and scores.float_top1 is not None:
        figures = {"label_hit": scores.float_top1 / 100, "confidence": scores.confidence}
        figures |= {"classes_seen": scores.classes, "class_coverage": 1.0}
        shifted = shifted_finding(scores, comparison.count)
        labels = label_finding(replace(samples, figures=figures)) if shifted is None else shifted
        yield from () if labels is None else (labels,)
        yield drop_finding(scores, comparison.count)
    if isinstance(evaluation.metric, DetectionFigures):
        yield from precision_finding(evaluation.metric)
    yield from _few_findings(agreement)
    if evaluation.kernels is not None:
        for finding in count_findings(evaluation.kernels):
            swapped = finding.code == "nothing-quantized" and float_file is not None and is_quantized(float_file)
            yield _swapped() if swapped else _for_target(finding, evaluation, evaluation.kernels, target)


def with_samples_in_doubt(findings: Iterable[Finding]) -> list[Finding]:
    """``findings``, in which the samples explain what looks like a fault of a scale: it is ``CHECK`` then.

    Ranges that fit other inputs are too wide for dark or pale ones, whoever chose them; and where nothing tells the
    values of an input, drawn ones say nothing of the range of any activation.
    """
    found = list(findings)
    doubts = {finding.code for finding in found if finding.level != "OK"} & {*LITTLE_USED, GUESSED}
    return [_explained(finding, doubts) for finding in found]


def _on_a_guess(agreement: Finding, findings: Iterable[Finding]) -> Finding:
    """``CHECK`` where nothing tells the values of the inputs: the file may have been calibrated on real ones."""
    if agreement.level == "CHECK" or all(finding.code != GUESSED or finding.level == "OK" for finding in findings):
        return agreement
    message = f"measured on inputs that are a guess ({GUESSED}): {agreement.message}"
    return replace(agreement, level="CHECK", message=message, remedy="")


def _explained(finding: Finding, doubts: Collection[str]) -> Finding:
    figures = finding.figures or {}
    if finding.code not in ("scale-fault", "scale-clips") or not figures.get("activation") or not doubts:
        return finding
    if GUESSED in doubts:
        return replace(finding, code="scale-clips", level="CHECK", message=f"{finding.message}; {UNKNOWN}")
    if figures["factor"] <= 1:
        return finding
    return replace(finding, code="scale-wide", level="CHECK", message=f"{finding.message}; {EXPLAINED}")


def drop_finding(scores: Scores, count: int) -> Finding:
    """What the drop of top-1 means, with its interval.

    ``BAD``: more than 3 points are lost, and with 95 % confidence more than half a point. ``CHECK``: one of both.

    Args:
        scores: with labels.
        count: number of samples.
    """
    drop = drop_interval(scores.lost or 0, scores.won or 0, count)
    doubts = (drop.value > LOST) + (drop.low > KEPT)
    level = LEVELS[doubts]
    ends = f"{drop.value:.2f} points ({drop.low:.2f} to {drop.high:.2f})"
    if drop.value < 0:
        ends = f"{-drop.value:.2f} points ({-drop.high:.2f} to {-drop.low:.2f})"
    message = f"top-1 {'rises' if drop.value < 0 else 'falls'} by {ends} on {count} labelled samples"
    figures = {"drop": drop.value, "low": drop.low, "high": drop.high, "count": float(count)}
    if level == "CHECK" and drop.low <= KEPT:
        needed = samples_needed(scores.lost or 0, scores.won or 0, count, KEPT)
        message += f"; chance may do that on so few, {needed} would tell"
        figures[NEEDED] = float(needed)
        return Finding("top1-drop", level, message, f"give {needed} labelled samples or more", figures)
    remedy = "" if level == "OK" else "keep the layers that hurt in float or at more bits, or try other samples"
    return Finding("top1-drop", level, message, remedy, figures)


def _fault_finding(fault: FileFault) -> Finding:
    """``BAD`` unless what it does behind the layer is little noise."""
    if fault.kind == "another-network":
        remedy = "give the float file that it was made from, or quantize this one with dfq-deploy calibrate"
        return Finding(fault.kind, "BAD", fault.message, remedy, {"snr_db": fault.snr})
    level: Level = "BAD" if SNR.level(fault.snr) == "BAD" else "CHECK"
    return Finding(f"{fault.kind}-fault", level, fault.message, _mended(fault.tensor), {"snr_db": fault.snr})


def _mended(tensor: str) -> str:
    return f"make the file again with dfq-deploy calibrate, or mend '{tensor}' in the tool that wrote it"


def _scale_finding(check: ScaleCheck) -> Finding:
    """``BAD`` for a scale that no calibration gives; what a range clips that is nearly right is judged by its noise."""
    figures = {"factor": check.factor, "excess_db": check.excess, "snr_db": check.snr}
    figures["activation"] = float(check.kind == "activation")
    if check.is_wide:
        return Finding("scale-wide", "CHECK", str(check), _mended(check.tensor), figures)
    level: Level = "BAD" if max(check.factor, 1 / max(check.factor, 1e-30)) >= WRONG_BY else SNR.level(check.snr)
    code = "scale-fault" if level == "BAD" else "scale-clips"
    if check.cause == "values":
        level = "BAD"
    elif check.cause and level == "OK":
        level = "CHECK"
    if check.cause or (check.kind == "weight" and not check.is_scale):
        code = "zero-point-fault" if check.cause == "zero point" else "weight-fault"
    return Finding(code, level, str(check), _mended(check.tensor), figures)


def _with_count(finding: Finding, agreement: Agreement) -> Finding:
    """A doubtful prediction with the number of real inputs that would settle it, where fewer were given."""
    given = sum(kind.comparison.count for kind in agreement.kinds if kind.kind == DATA)
    predicted = finding.code == "agreement" and agreement.predicted is not None and agreement.predicted.kind != DATA
    if finding.level != "CHECK" or not predicted or not given:
        return finding
    message = f"{finding.message}; {MEASURED} real inputs measure it, {given} were given"
    figures = {**(finding.figures or {}), NEEDED: float(MEASURED)}
    return replace(finding, message=message, remedy=f"give {MEASURED} real inputs or more with --data", figures=figures)


def _few_findings(agreement: Agreement) -> Iterator[Finding]:
    """What real inputs say that are too few to measure on: they can only condemn."""
    for kind in agreement.kinds:
        interval = kind.agreement
        if kind.kind == DATA and interval is not None and interval.count < MEASURED:
            level: Level = "BAD" if interval.high < AGREEMENT else "OK"
            message = f"agrees with float on {interval} real inputs; {MEASURED} are needed to measure it"
            yield Finding("agreement-few", level, message, "give more real inputs with --data", interval.to_json())


def _swapped() -> Finding:
    message = "the first file is quantized and the second is not: the two are swapped"
    return Finding(SWAPPED, "BAD", message, "give the float model first")


def _for_target(finding: Finding, evaluation: Evaluation, count: KernelCount, target: str | None) -> Finding:
    """A file that is quantized for another runtime may run in float here."""
    if finding.code != "nothing-quantized":
        return finding
    if not count.conversions and not count.dequantized:
        return replace(finding, remedy="give the quantized file, as calibrate wrote it, as the second one")
    if target is not None:
        return finding
    message = f"{finding.message}, though the file has Q and DQ: another runtime may run it in INT8"
    files = shlex.quote(evaluation.float_model), shlex.quote(evaluation.quantized_model)
    remedy = f"{PROGRAM}evaluate {files[0]} {files[1]} --target NAME"
    return replace(finding, code="layers-in-float", level="CHECK", message=message, remedy=remedy)


def _in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Causes before what follows from them: faults, gates, wrong labels, how close it is to float, the rest."""
    return sorted(findings, key=_rank)


def _rank(finding: Finding) -> int:
    if finding.code.startswith("preprocess-") or finding.code in {*LITTLE_USED, GUESSED}:
        return -1
    if finding.code in FAULTS:
        return 0
    if finding.code.startswith("gate-"):
        return 1
    if finding.code.startswith("labels"):
        return 2 if finding.level != "OK" else 5
    return {"top1-drop": 3, "agreement": 4, "output-noise": 4, "detector": 4, "precision": 3}.get(finding.code, 5)


def _overruled(finding: Finding) -> Finding:
    """A finding as it counts where gates are given."""
    if finding.level != "BAD" or finding.code in FAULTS:
        return finding
    message = f"{finding.message} (BAD by the default thresholds, which the gates overrule)"
    return replace(finding, level="CHECK", message=message)


def _reason(verdict: Verdict, gates: Iterable[Finding]) -> str:
    """The sentence that decides, where gates are given: the fault, the missed gates, or the ones that are met."""
    decisive, gates = verdict.findings[0], tuple(gates)
    if decisive.code in FAULTS and decisive.level == "BAD":
        return decisive.message
    missed = [gate.message for gate in gates if gate.level == "BAD"]
    if missed:
        return "; ".join(missed)
    met = "; ".join(gate.message for gate in gates)
    return met if verdict.status == "OK" else f"{met}; worth a look: {decisive.message}"
