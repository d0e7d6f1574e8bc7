"""The verdict: OK, CHECK or BAD, decided by the worst finding."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import onnx_ir as ir

from dfq_deploy.samples.input_statistics import input_statistics
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.verdict.agreement.held_out import DATA
from dfq_deploy.verdict.agreement.measure import SHOWN, Agreement, KindAgreement
from dfq_deploy.verdict.agreement.outputs import PREFERRED, OutputNoise, worst_beside_scores, worst_noise
from dfq_deploy.verdict.agreement.prediction import Prediction
from dfq_deploy.verdict.detector import detector_finding
from dfq_deploy.verdict.finding import LEVELS, Finding, Level, Verdict
from dfq_deploy.verdict.task import task_finding

__all__ = [
    "AGREEMENT",
    "MOVED",
    "PROGRAM",
    "SNR",
    "NextCommand",
    "Thresholds",
    "agreement_finding",
    "beside_findings",
    "class_level",
    "deciding_kind",
    "judge",
    "preprocess_condition",
]

PROGRAM = "dfq-deploy "
"""How a remedy that is a command begins."""

NextCommand: TypeAlias = Callable[[Finding], str]
"""The command to paste next, from the finding that decides; empty where there is none."""

INPUTS = ("preprocess-", "inputs-", "samples-")
"""How codes of findings on the inputs begin."""

DOUBTFUL = ("preprocess-", "inputs-")
"""Those whose ``CHECK`` says that the inputs may be others than those of the training."""

SPEED = ("layers-", "slower-", "as-fast-")
"""How codes of findings on kernels and speed begin, which come after the agreement where both are equally bad."""


@dataclass(frozen=True)
class Thresholds:
    """Where a figure, of which more is better, turns from good to doubtful to bad.

    Args:
        good: from here on ``OK``.
        bad: below it ``BAD``.
    """

    good: float
    bad: float

    def level(self, figure: float) -> Level:
        """What ``figure`` means."""
        return "OK" if figure >= self.good else "CHECK" if figure >= self.bad else "BAD"


MOVED = 0.15
"""Farther the class probabilities do not move, in the mean, where a result is ``OK``: all pairs of docs/verdict.md that
lose less than half a point, on networks that it was chosen on, stay below."""

AGREEMENT = 90.0
"""Below so many percent of predicted agreement on real data a result is ``BAD``."""

SNR = Thresholds(good=20.0, bad=12.0)
"""Signal to noise of the worst output in dB, where outputs are no class scores."""

STEADY = 0.02
"""One probability for each sample that moves no farther, in the mean, is ``OK`` whatever its decibels, which a single
sample between both classes decides: noise of that size everywhere would have 31 dB where half of them are 0, half 1."""

OF_OUTPUTS = f"--floor snr={SNR.good:g}"
"""The option by which remedies look at all outputs, not at class scores alone."""

REMEDIES: Mapping[Level, str] = {
    "OK": "",
    "CHECK": "measure it on real inputs: dfq-deploy evaluate FLOAT.onnx QUANTIZED.onnx --data FOLDER",
    "BAD": "try more bits for the layers that hurt, other samples (--synth or --data), or --refine reconstruct",
}


def judge(
    agreement: Agreement | None,
    findings: Iterable[Finding] = (),
    command: NextCommand | None = None,
    condition: str = "",
) -> Verdict:
    """The last word on a quantized model.

    Args:
        agreement: of float and quantized, of :func:`~dfq_deploy.verdict.agreement.measure.measure_agreement`; None
            where it was not measured.
        findings: of samples, preprocess, speed and whatever else was looked at.
        command: what to paste next; the remedy of the deciding finding comes before it where it is a command.
        condition: on which the agreement holds, as ``if imagenet is the preprocess of training``.

    Returns:
        the worst level, the sentence of the first finding that has it (of the agreement where all are OK), and all
        findings, the worst first; of equally bad ones the agreement before those on speed.
    """
    findings = tuple(findings)
    own = [] if agreement is None else [_doubted(agreement_finding(agreement, condition), findings)]
    own += [] if agreement is None else beside_findings(agreement)
    speed = [finding for finding in findings if finding.code.startswith(SPEED)]
    others = [finding for finding in findings if not finding.code.startswith(SPEED)]
    ordered = tuple(sorted([*others, *own, *speed], key=lambda finding: LEVELS.index(finding.level), reverse=True))
    if not ordered:
        ordered = (Finding("not-measured", "CHECK", "nothing was measured"),)
    # Where all is well, what matters is how well: the agreement.
    decisive = own[0] if own and ordered[0].level == "OK" else ordered[0]
    return Verdict(decisive.level, decisive.message, _command(decisive, command), ordered)


def _doubted(agreement: Finding, findings: Iterable[Finding]) -> Finding:
    """No agreement is ``OK`` where the inputs that it was measured on are wrong, or their values are in doubt."""
    wrong = [finding for finding in findings if finding.level == "BAD" and finding.code.startswith(INPUTS)]
    doubtful = [finding for finding in findings if finding.level == "CHECK" and finding.code.startswith(DOUBTFUL)]
    if not (wrong or doubtful) or agreement.level != "OK":
        return agreement
    found = (wrong or doubtful)[0].code
    said = (
        f"wrong inputs ({found}), so it says nothing of real ones" if wrong else f"inputs that are in doubt ({found})"
    )
    return replace(agreement, level="CHECK", message=f"measured on {said}: {agreement.message}", remedy="")


def _command(decisive: Finding, command: NextCommand | None) -> str:
    """The command to paste next; none where all is well."""
    if decisive.level == "OK":
        return ""
    if decisive.remedy.startswith(PROGRAM):
        return decisive.remedy
    return "" if command is None else command(decisive)


def class_level(expected: Prediction) -> Level:
    """What a prediction means for a classifier."""
    if expected.value < AGREEMENT or expected.lost > 0:
        return "BAD"
    return "OK" if expected.variation <= MOVED else "CHECK"


def preprocess_condition(model: ir.Model, preprocess: Preprocess | None, teachers: Iterable[ir.Model] = ()) -> str:
    """On which preprocess an agreement rests that nothing confirms; empty where a BatchNormalization can tell.

    Args:
        teachers: networks of the same input, whose BatchNormalization tells as well.
    """
    if preprocess is None or any(input_statistics(entry) is not None for entry in (model, *teachers)):
        return ""
    name = next((name for name, known in PREPROCESSES.items() if known == preprocess), "")
    return f"if {name} is the preprocess of training" if name else f"if {preprocess} are those of training"


def agreement_finding(agreement: Agreement, condition: str = "") -> Finding:
    """What the agreement means: predicted on real data, or the signal-to-noise ratio where there are no classes.

    Args:
        condition: on which it holds.
    """
    if agreement.predicted is None:
        return _noise_finding(agreement)
    expected = agreement.predicted
    level = class_level(expected)
    how = "agreement" if expected.kind == "data" else "predicted agreement"
    message = f"{how} with float on real inputs{condition and f', {condition}'}: {expected}"
    if expected.lost > 0:
        message += f", and at least {100 * expected.lost:.1f} % of all answers change in classes that it hardly gives"
    elif level == "CHECK":
        message += f", but class probabilities move by {expected.variation:.2f} ({MOVED:g} or less is OK)"
    figures = {name: figure for name, figure in expected.to_json().items() if name != "kind"}
    return Finding("agreement", level, message, REMEDIES[level], figures)


def beside_findings(agreement: Agreement) -> list[Finding]:
    """What is wrong with the noise of the outputs beside class scores; empty where nothing is."""
    noise = None if agreement.predicted is None else worst_beside_scores(agreement)
    found = None if noise is None or noise.empty else _of_noise(noise)
    if found is None or found.level == "OK":
        return []
    remedy = f"calibrate with {OF_OUTPUTS}, which looks at all outputs, not at class scores alone"
    return [replace(found, remedy=remedy, options=OF_OUTPUTS)]


def _noise_finding(agreement: Agreement) -> Finding:
    kind = deciding_kind(agreement)
    if kind is not None and kind.comparison.head is not None:
        return detector_finding(kind.comparison.head, kind.comparison.count, kind.kind)
    if kind is not None and kind.comparison.task is not None:
        return task_finding(kind.comparison.task, kind.comparison.count, kind.kind)
    noise = worst_noise(agreement)
    if noise is None:
        return Finding("output-noise", "CHECK", "no output could be compared with float's", REMEDIES["CHECK"])
    return _empty_finding(noise, {"snr_db": noise.snr}) if noise.empty else _of_noise(noise)


def _of_noise(noise: OutputNoise) -> Finding:
    """What the noise of an output means; no more than ``CHECK`` where drawn inputs may vary it less than real ones."""
    level = SNR.level(noise.snr)
    level = "CHECK" if level == "BAD" and noise.offset and noise.kind != DATA else level
    quality = "equals float's" if math.isinf(noise.snr) else f"has {noise.snr:.1f} dB of signal to noise"
    about = f" about its mean of {noise.offset:.4g}" if noise.offset and not math.isinf(noise.snr) else ""
    if level != "OK" and noise.moved is not None:
        about = f", and its probability moves by {noise.moved:.3f} in the mean"
        level = "OK" if noise.moved <= STEADY else level
    message = f"output '{noise.name}' {quality}{about} on {noise.count} inputs ({noise.kind})"
    return Finding("output-noise", level, message, REMEDIES[level], {"snr_db": noise.snr})


def _empty_finding(noise: OutputNoise, figures: dict[str, float]) -> Finding:
    """Nothing to judge by; ``BAD`` where the quantized model finds something all the same."""
    seen = round(noise.shown * noise.count)
    empty = f"float's output '{noise.name}' shows something on {seen} of {noise.count} inputs ({noise.kind})"
    figures = {**figures, "shown": noise.shown, "invented": noise.invented}
    if noise.invented >= SHOWN:
        share = f"the quantized model's on {100 * noise.invented:.0f} % where float's does not"
        return Finding("output-noise", "BAD", f"{empty}, and {share}", REMEDIES["BAD"], figures)
    message = f"{empty}, so these say nothing of its noise where it does"
    return Finding("output-noise", "CHECK", message, REMEDIES["CHECK"], figures)


def deciding_kind(agreement: Agreement) -> KindAgreement | None:
    """The best kind of input to judge noise on."""
    kinds = {kind.kind: kind for kind in agreement.judging}
    return next((kinds[kind] for kind in PREFERRED if kind in kinds), next(iter(agreement.judging), None))
