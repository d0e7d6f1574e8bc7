"""Raise the result of a calibration to its floor."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir

from dfq_deploy.errors import DfqError
from dfq_deploy.graph.query import name_of, weighted_nodes
from dfq_deploy.pipeline.fit import Fitted
from dfq_deploy.pipeline.remedies.attempts import Bench, Measured, Setting, fewer, fewer_samples, with_calibrated
from dfq_deploy.pipeline.remedies.faster import faster
from dfq_deploy.pipeline.remedies.floor import Floor, Limits
from dfq_deploy.pipeline.remedies.samples import mixed
from dfq_deploy.pipeline.remedies.search import Improved, improve
from dfq_deploy.pipeline.remedies.steps import Remedies
from dfq_deploy.plugins.contracts import Synthesizer
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.quantization.dynamic import dynamic_form
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.inputs import InputRanges
from dfq_deploy.verdict.agreement.held_out import HeldOut, held_out_sets, kinds_of
from dfq_deploy.verdict.agreement.measure import Agreement

__all__ = ["Raised", "Work", "raise_to_floor"]

logger = logging.getLogger(__name__)

GAINLESS = "it gains nothing with all samples and on all inputs"
"""Why what an attempt gained is not kept in the end."""


@dataclass(frozen=True, eq=False)
class Work:
    """What does not change from one attempt to the next.

    Args:
        source: the float model.
        synth, teachers: where ranges may be known without samples.
        batch: of the file where the target takes no open one.
        ranges: what inputs are drawn from, by name.
        integer_io: the main input has to stay quantized, since bytes are fed to it.
    """

    source: ir.Model
    synth: str | Synthesizer | None
    teachers: Sequence[ir.Model]
    batch: int
    ranges: InputRanges | None = None
    integer_io: bool = False


@dataclass(frozen=True, eq=False)
class Raised:
    """The result with what was kept.

    Args:
        samples: all that it was calibrated with and held out.
        remedies: for the report; None where no floor was asked for.
        sets, agreement: what it was measured with, where that holds for the verdict too; else empty and None.
    """

    fitted: Fitted
    samples: Samples
    remedies: Remedies | None = None
    sets: tuple[HeldOut, ...] = ()
    agreement: Agreement | None = None


def raise_to_floor(
    work: Work, setting: Setting, fitted: Fitted, limits: Limits, clock: Clock, progress: Progress = SILENT
) -> Raised:
    """Measure ``fitted``, and try remedies where it stays below the floor; else it is what it was.

    Args:
        setting: that ``fitted`` was made with.
        clock: gets the lap ``remedies``.

    Raises:
        OptionError: the floor is none for this model.
    """
    samples, plan = setting.samples, setting.plan
    if limits.floor.kind == "none":
        return Raised(fitted, samples)
    limits.floor.check(work.source)
    if _is_dynamic(fitted):
        limits = replace(limits, floor=limits.floor.without_margin)
    with TemporaryDirectory() as folder:
        bench = Bench(
            work.source, Runner(work.source, name="the float model"), work.synth, work.teachers, work.batch,
            Path(folder), work.ranges, progress=progress, integer_io=work.integer_io,
        )  # fmt: skip
        try:
            sets = held_out_sets(work.source, samples, preprocess=plan.preprocess, seed=plan.seed, ranges=work.ranges)
            # Widths that were found within a budget stay what they are.
            settled = setting.planned(bits=fitted.quantized.prepared.bits)
            first = bench.measured(settled, fitted, sets, "first")
        except DfqError as problem:
            clock.lap("remedies")
            return Raised(fitted, samples, _unmeasured(limits, problem))
        taken = sum(clock.seconds.values())
        found = _sped_up(bench, _improved(bench, first, limits, taken), limits.floor)
    clock.lap("remedies")
    return _raised(found.best, found.remedies, fitted, samples)


def _is_dynamic(fitted: Fitted) -> bool:
    """True where the activations of most quantized layers get their ranges at run time."""
    prepared = fitted.quantized.prepared
    layers = [node for node in weighted_nodes(prepared.model) if name_of(node.inputs[1]) in prepared.placement.weights]
    return 2 * sum(dynamic_form(node) is not None for node in layers) > len(layers)


def _improved(bench: Bench, first: Measured, limits: Limits, taken: float) -> Improved:
    """Try remedies with a part of the samples and of the inputs where that does; what came of it takes all of them.

    Where the floor is reached with the part alone, what is left of the time goes into attempts with all of them.
    """
    floor, began = limits.floor, time.perf_counter()
    parts = fewer(first.sets, floor.unit(first.agreement))
    if floor.is_met(first.agreement) or parts is first.sets:
        return improve(bench, first, limits, taken)
    setting = fewer_samples(first.setting)
    fitted = first.fitted if setting is first.setting else bench.fitted(setting)
    started = bench.measured(setting, fitted, parts, "first")
    found = improve(bench, started, limits, taken)
    whole, said, steps = first, found.remedies.said, found.remedies.steps
    if found.best is not started:
        whole = _with_all_samples(bench, first, found.best)
        if not _gains(floor, first, whole):
            whole, said = first, "with all samples and on all inputs the remedies gain nothing, so none was kept"
            steps = tuple(replace(step, kept=False, reason=step.reason or GAINLESS) for step in steps)
    last, reached = floor.figure(whole.agreement), floor.is_reached(whole.agreement)
    falls_short = found.remedies.reached and not reached and whole is not first
    if falls_short:
        said = f"the floor ({floor}) is reached on the inputs of the attempts, but not on all of them"
    so_far = Improved(whole, replace(found.remedies, last=last, reached=reached, said=said, steps=steps))
    left = found.remedies.max_time - (time.perf_counter() - began)
    return _continued(bench, first, so_far, replace(limits, max_time=left)) if falls_short and left > 0 else so_far


def _continued(bench: Bench, first: Measured, so_far: Improved, limits: Limits) -> Improved:
    """Go on from ``so_far`` with all samples and inputs, within the time that ``limits`` leaves."""
    found = improve(bench, first, limits, 0.0, start=so_far.best)
    before, after = so_far.remedies, found.remedies
    if not after.steps:
        return so_far
    time_is_up = f"the time for remedies is up ({before.max_time:.0f} s; --max-time)"
    said = time_is_up if after.stopped == "max-time" else after.said
    steps, seconds = (*before.steps, *after.steps), round(before.seconds + after.seconds, 3)
    return Improved(found.best, replace(after, said=said, steps=steps, seconds=seconds, max_time=before.max_time))


def _gains(floor: Floor, first: Measured, whole: Measured) -> bool:
    """True where ``whole`` is better than the first result, both measured on the inputs that judge ``whole``."""
    base = with_calibrated(first, {held.kind for held in whole.sets if held.calibrated})
    return floor.figure(whole.agreement) > floor.figure(base.agreement)


def _with_all_samples(bench: Bench, first: Measured, best: Measured) -> Measured:
    """The setting of ``best`` with all samples of ``first`` and what was mixed in, measured on all inputs."""
    samples, plan = first.setting.samples, best.setting.plan
    kinds = sorted(kinds_of(best.setting.samples) - kinds_of(samples))
    for kind in kinds:
        samples = mixed(bench.source, samples, kind, plan.preprocess, plan.seed, bench.ranges)
    sets = with_calibrated(first, kinds).sets
    if best.setting.samples is first.setting.samples:
        return bench.measured(best.setting, best.fitted, sets, "best")
    setting = replace(best.setting, samples=samples)
    return bench.measured(setting, bench.fitted(setting), sets, "best")


def _sped_up(bench: Bench, found: Improved, floor: Floor) -> Improved:
    """The result with layers in float where it was slower than float, in what is left of the time."""
    so_far = found.remedies
    left = so_far.max_time - so_far.seconds
    started = time.perf_counter()
    try:
        best, steps = faster(replace(bench, ends=started + left), found.best, floor)
    except DfqError as problem:  # the verdict says that the speed could not be measured
        logger.info("not made faster: %s", problem)
        return found
    if not steps:
        return found
    last, reached = floor.figure(best.agreement), floor.is_reached(best.agreement)
    seconds = round(so_far.seconds + time.perf_counter() - started, 3)
    remedies = replace(so_far, last=last, reached=reached, seconds=seconds, steps=(*so_far.steps, *steps))
    return Improved(best, remedies)


def _raised(best: Measured, remedies: Remedies, first: Fitted, samples: Samples) -> Raised:
    choices = {**first.choices, **best.fitted.choices}
    fitted = replace(best.fitted, choices=choices)
    if best.setting.samples is not samples:  # the verdict draws its own, by what calibrated now
        return Raised(fitted, best.setting.samples, remedies)
    return Raised(fitted, samples, remedies, best.sets, best.agreement)


def _unmeasured(limits: Limits, problem: DfqError) -> Remedies:
    said = f"the result could not be measured: {problem}"
    nothing = float("-inf")
    return Remedies(str(limits.floor), "dB", nothing, nothing, False, "unmeasured", said, 0.0, limits.slowdown, 0.0)
