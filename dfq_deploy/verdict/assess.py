"""Assess a quantized file: sanity of the samples, agreement, what hurts, speed, and the verdict."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import onnx_ir as ir

from dfq_deploy.checking.run import check
from dfq_deploy.checking.violation import Report
from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import DfqError
from dfq_deploy.evaluation.compare import Comparison
from dfq_deploy.files.arrays import equal
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.encode import Prepared
from dfq_deploy.quantization.placement.place import FASTER_IN_FLOAT, Placement
from dfq_deploy.runtime.kernel_count import KernelCount
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.inputs import InputRanges
from dfq_deploy.verdict.agreement.held_out import WRITTEN, HeldOut, held_out_sets
from dfq_deploy.verdict.agreement.measure import Agreement, measure_agreement
from dfq_deploy.verdict.agreement.written import written
from dfq_deploy.verdict.finding import Finding, Verdict
from dfq_deploy.verdict.judge import NextCommand, agreement_finding, judge, preprocess_condition
from dfq_deploy.verdict.noise.sensitivity import FEWEST_SAMPLES, sample_count
from dfq_deploy.verdict.noise.what_hurts import WhatHurts, what_hurts
from dfq_deploy.verdict.sanity.findings import sanity_findings
from dfq_deploy.verdict.speed import speed_findings
from dfq_deploy.verdict.streaming import streaming_findings

__all__ = ["Assessment", "Subject", "assess"]

NOISE_SHARE = 0.1
"""Part of the time of a calibration that the noise of its layers may take to measure."""

NOISE_SAMPLES = {False: 0.7, True: 0.35}
"""Part of the samples of ``inspect --sensitivity`` that it is measured on, by whether the agreement is ``OK``: where
nothing hurts much, fewer do."""

LEAST_NOISE_S = 1.0
"""Seconds that it may take however short the calibration was."""

TIMING_S = 1.0
"""Seconds that float and quantized model are timed."""

IN_FLOAT = "float-weighted"
"""The rule that names layers in float."""

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Subject:
    """A quantized file, and how it came about.

    Args:
        source: the float model as it was given.
        reference: ``prepared.model`` before biases were corrected and roundings learned.
        prepared: what the encodings are for.
        path: the quantized file, as ONNX Runtime loads it.
        runners: of the float model and of the quantized one.
        samples: all samples of the calibration.
        held_out: those of them that nothing was calibrated with.
        preprocess: what turns pixels into the main input.
        teachers: float models whose statistics the samples matched.
        refine: the refinements that were used.
        ranges: what inputs are drawn from, by name.
        accumulated: signal to noise in dB by tensor name.
        seconds: what the calibration took so far.
        comparison: of both models on ``held_out`` without labels; None measures it.
        sets: held-out inputs; none draws them.
        agreement: of both models on ``sets``; None measures it.
        command: what to paste next, as :func:`dfq_deploy.verdict.judge.judge` takes it.
    """

    source: ir.Model
    reference: ir.Model
    prepared: Prepared
    encodings: Mapping[str, Encoding]
    path: Path
    runners: tuple[Runner, Runner]
    samples: Samples
    held_out: Samples
    preprocess: Preprocess | None = None
    teachers: Sequence[ir.Model] = ()
    refine: Collection[str] = ()
    seed: int = 0
    device: str = "cpu"
    ranges: InputRanges | None = None
    accumulated: Mapping[str, float] | None = None
    seconds: float = 0.0
    comparison: Comparison | None = None
    sets: Sequence[HeldOut] = ()
    agreement: Agreement | None = None
    command: NextCommand | None = None


@dataclass(frozen=True, eq=False)
class Assessment:
    """What was found.

    Args:
        verdict: the last word, with all findings.
        agreement: on held-out inputs of each kind; None where it could not be measured.
        hurts: the noise of each layer; None where it could not be measured.
        kernels: the layers that run in integers.
    """

    verdict: Verdict
    agreement: Agreement | None
    hurts: WhatHurts | None
    kernels: KernelCount


def assess(subject: Subject, progress: Progress = SILENT) -> Assessment:
    """Measure and judge; a part that cannot be measured becomes a finding that says why.

    The noise of single layers is reported and does not decide: what it adds up to does, in the agreement.
    """
    target = subject.prepared.target.name
    failures: list[Finding] = []
    sanity = _tried("the samples", lambda: _sanity(subject), failures) or ()
    sets = subject.sets or _tried("the held-out inputs", lambda: _sets(subject), failures) or ()
    agreement = subject.agreement
    if agreement is None or not agreement.is_settled:
        agreement = _tried("the agreement", lambda: _agreement(subject, sets, progress), failures)
    best = _most_telling(sets, agreement) if sets else subject.held_out
    sure = agreement is not None and agreement_finding(agreement).level == "OK"
    hurts = _tried("the noise of the layers", lambda: _noise(subject, best, progress, sure=sure), failures)
    checked = _tried("the rules of the target", lambda: check(ir.load(subject.path), target), failures)
    kernels = count_kernels(subject.path, target) if checked is None else checked.kernels
    rules = () if checked is None else _broken_rules(subject, checked)
    speed = _tried("the speed", lambda: _speed(subject, kernels), failures) or ()
    speed = tuple(_explained(finding, subject.prepared.placement, kernels) for finding in speed)
    steps = _tried("the states", lambda: _streaming(subject), failures) or ()
    verdict = judge(
        agreement,
        [*rules, *sanity, *steps, *speed, *failures],
        subject.command,
        preprocess_condition(subject.source, subject.preprocess, subject.teachers),
    )
    return Assessment(verdict, agreement, hurts, kernels)


def _tried(what: str, measure: Callable[[], Result], failures: list[Finding]) -> Result | None:
    try:
        return measure()
    except DfqError as problem:
        failures.append(Finding("not-measured", "CHECK", f"{what} could not be measured: {problem}"))
        return None


def _explained(finding: Finding, placement: Placement, kernels: KernelCount) -> Finding:
    """``OK`` for layers in float that were measured to be faster there."""
    faster = {name for name, _, reason in placement.left_float if reason == FASTER_IN_FLOAT}
    if finding.code != "layers-in-float" or not {kernel.name for kernel in kernels.in_float} <= faster:
        return finding
    plural = "s are" if len(kernels.in_float) > 1 else " is"
    message = f"{kernels}; the other {len(kernels.in_float)} layer{plural} kept in float, where they are faster"
    return replace(finding, level="OK", message=message, remedy="")


def _sanity(subject: Subject) -> tuple[Finding, ...]:
    return sanity_findings(
        subject.source, subject.samples, subject.preprocess, subject.teachers, subject.ranges, subject.runners[0]
    )


def _broken_rules(subject: Subject, checked: Report) -> tuple[Finding, ...]:
    """``BAD`` where the file breaks a rule that the target's runtime enforces.

    Layers in float are none: the caller or a remedy kept them so, and the count of kernels lists them.
    """
    errors = [violation for violation in checked.errors if violation.rule != IN_FLOAT]
    if not errors:
        return ()
    more = f", and {len(errors) - 1} more" if errors[1:] else ""
    message = f"the file breaks the rules of '{checked.target}': {errors[0]}{more}"
    remedy = "list every rule that it breaks with dfq-deploy check"
    return (Finding("rules", "BAD", message, remedy, {"violations": float(len(errors))}),)


def _sets(subject: Subject) -> tuple[HeldOut, ...]:
    return held_out_sets(
        subject.source, subject.samples, preprocess=subject.preprocess, seed=subject.seed, ranges=subject.ranges
    )


def _agreement(subject: Subject, sets: Sequence[HeldOut], progress: Progress) -> Agreement:
    known = subject.comparison if sets and _is_same(sets[0].samples, subject.held_out) else None
    return measure_agreement(*subject.runners, sets, progress, known=known)


def _is_same(samples: Samples, held_out: Samples) -> bool:
    """True for the samples that were compared before: those that were held out, without labels."""
    pairs = [(samples.images, held_out.images), *((rows, held_out.extra[name]) for name, rows in samples.extra.items())]
    return samples.labels is None and all(equal(one, other) for one, other in pairs)


def _most_telling(sets: Sequence[HeldOut], agreement: Agreement | None) -> Samples:
    """The last set; with text on it where that is what outputs show something on."""
    last = sets[-1].samples
    kinds = () if agreement is None else agreement.kinds
    return written(last.part(slice(sample_count(last)))) if any(kind.kind == WRITTEN for kind in kinds) else last


def _noise(subject: Subject, samples: Samples, progress: Progress, *, sure: bool) -> WhatHurts | None:
    if not subject.encodings:
        return None
    count = max(1 if sure else FEWEST_SAMPLES, int(NOISE_SAMPLES[sure] * sample_count(samples)))
    return what_hurts(
        subject.runners[0],
        subject.reference,
        subject.prepared,
        subject.encodings,
        replace(samples, labels=None).part(slice(count)),
        refine=subject.refine,
        accumulated=subject.accumulated,
        budget_s=max(LEAST_NOISE_S, NOISE_SHARE * subject.seconds),
        device=subject.device,
        progress=progress,
    )


def _streaming(subject: Subject) -> tuple[Finding, ...]:
    return streaming_findings(subject.source, subject.runners, subject.samples, subject.ranges or ())


def _speed(subject: Subject, kernels: KernelCount) -> tuple[Finding, ...]:
    target = subject.prepared.target.name
    return speed_findings(
        subject.source, subject.path, subject.held_out, target=target, count=kernels, seconds=TIMING_S
    )
