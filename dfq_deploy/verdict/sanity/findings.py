"""Sanity of what goes in: do samples and preprocess fit the network."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.sample_quality import quality
from dfq_deploy.graph.inputs import is_channels_last, main_input, model_inputs
from dfq_deploy.graph.query import batch_normalizations, score_count
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.feature_statistics import feature_statistics
from dfq_deploy.samples.input_statistics import input_statistics
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.bounds import sample_bounds
from dfq_deploy.synthesis.procedural.inputs import InputRanges, is_drawn
from dfq_deploy.verdict.finding import Finding
from dfq_deploy.verdict.sanity.drawn_inputs import guessed_finding, unknown_finding
from dfq_deploy.verdict.sanity.input_scale import response_finding, scale_finding
from dfq_deploy.verdict.sanity.labels import label_finding
from dfq_deploy.verdict.sanity.pixel_depth import depth_finding, with_scaling
from dfq_deploy.verdict.sanity.preprocess_answers import answers_finding, plenty_finding
from dfq_deploy.verdict.sanity.preprocess_fit import (
    exchanged_finding,
    implied_preprocess,
    impossible_finding,
    made_with_finding,
    pixel_statistics,
    statistics_finding,
    unchanged_finding,
    units_finding,
)
from dfq_deploy.verdict.sanity.preprocess_missing import UNKNOWN, missing_finding
from dfq_deploy.verdict.sanity.preprocess_offsets import offsets_finding
from dfq_deploy.verdict.sanity.preprocess_photos import photographs_finding
from dfq_deploy.verdict.sanity.sample_figures import figure_findings
from dfq_deploy.verdict.sanity.sample_set import constant_finding, count_finding, is_little_used, range_finding
from dfq_deploy.verdict.sanity.signs import agreed, weighed

__all__ = ["drawn_findings", "preprocess_findings", "sanity_findings"]

VALUES_LOOKED_AT = 48 * 32 * 32 * 3
"""So many values of samples are enough to run the network on."""

FEWEST_LOOKED_AT, MOST_LOOKED_AT = 16, 48
"""Whatever their size."""

CAUSES = (
    "preprocess-units",
    "preprocess-unchanged",
    "samples-preprocess",
    "samples-bits",
    "samples-constant",
    "samples-few",
    "samples-repeated",
    "inputs-guessed",
    "preprocess-fit",
    "preprocess-missing",
    "samples-range",
    "samples-scale",
    "samples-diversity",
    "samples-classes",
    "samples-confidence",
    "samples-statistics",
    "samples-targets",
    "labels",
)
"""Codes of findings, causes before what follows from them."""

FOLLOWING = ("samples-scale", "samples-diversity")
"""Codes of what a missing preprocess causes."""

BY_RULE = frozenset({"procedural", "photographs"})
"""Methods whose samples match no statistics of the network."""

CHANNELS = (1, 3)
"""Of a picture that a preprocess was made for."""


def sanity_findings(
    model: ir.Model,
    samples: Samples,
    preprocess: Preprocess | None = None,
    teachers: Sequence[ir.Model] = (),
    ranges: InputRanges | None = None,
    runner: Runner | None = None,
) -> tuple[Finding, ...]:
    """Judge ``samples`` and ``preprocess`` before they are used: a finding for each aspect, causes first.

    The scale, and what needs the network, are measured on a part of the samples, at most 48. The quality figures are
    taken from ``samples.figures`` where :func:`dfq_deploy.evaluation.sample_quality.with_quality` has left them there.

    Args:
        model: the float model, as it was given.
        samples: the whole set.
        preprocess: what turns pixels into the model's input; None where it is not known.
        teachers: networks of the same input; the first with BatchNormalization serves where the model has none.
        ranges: what inputs are drawn from, by name: ``--input-range`` stands for a preprocess.
        runner: what runs ``model``, if that is at hand, so that no session is opened twice.
    """
    reference = next((entry for entry in (model, *teachers) if batch_normalizations(entry)), model)
    part = _part(samples)
    axis = _channel_axis(model) if samples.images.ndim == 4 else None
    depth = depth_finding(samples)
    found = [count_finding(samples), constant_finding(samples, preprocess, axis)]
    figures = figure_findings(_figures(samples, part, reference), len(samples))
    found += figures if axis is not None or not samples.method else [_of_no_pictures(entry, model) for entry in figures]
    # A set that is read from a file of samples may know its own.
    made_with = made_with_finding(samples.preprocess, preprocess)
    others = (label_finding(samples), made_with, depth, guessed_finding(model, samples, ranges or {}))
    found += [entry for entry in others if entry is not None]
    found += drawn_findings(model, samples, ranges or {}, teachers) if preprocess is None else ()
    if axis is not None:
        found += _of_pictures(model, reference, samples, part, preprocess, axis, runner)
        if preprocess is None and not samples.method:
            found += _of_arrays(model, reference, samples, part, axis, runner)
        if preprocess is None and samples.method and _is_unknown(model, ranges or {}, teachers):
            expected = input_statistics(reference)
            if expected is None or not set(samples.method.split("+")).isdisjoint(BY_RULE):
                found.append(missing_finding(model, expected, samples.images.shape[axis], runner))
    signs = _with_their_cause(weighed(found, classifies=score_count(model) is not None))
    signs = [with_scaling(entry, depth) for entry in signs]
    return tuple(sorted(signs, key=lambda entry: CAUSES.index(entry.code)))


def _of_no_pictures(finding: Finding, model: ir.Model) -> Finding:
    """``finding`` with a way out for text and signals, of which there is no sheet of pictures and no other method."""
    if finding.level == "OK":
        return finding
    remedy, options = "give real inputs: --data takes arrays as FILE.npz", "--data FILE.npz"
    if is_drawn(main_input(model_inputs(model))):
        remedy = "give text: --data takes a vocabulary, a tokenizer's file or a text file, or arrays as FILE.npz"
        options = "--data vocab.txt"
    _, condition, other = finding.remedy.partition("; if ")
    return replace(finding, remedy=f"{remedy}{condition}{other}", options=options)


def _with_their_cause(found: Sequence[Finding]) -> list[Finding]:
    """Samples of another scale, or that look alike to the network, get the remedy of a missing preprocess, if named."""
    missing = next((one for one in found if one.code == "preprocess-missing" and one.level != "OK"), None)
    if missing is None or missing.options in ("", UNKNOWN):
        return list(found)
    return [
        replace(one, remedy=missing.remedy, options=missing.options)
        if one.code in FOLLOWING and one.level != "OK"
        else one
        for one in found
    ]


def drawn_findings(
    model: ir.Model, samples: Samples, ranges: InputRanges, teachers: Sequence[ir.Model] = ()
) -> tuple[Finding, ...]:
    """``CHECK`` where the input is no picture, and nothing tells the values of drawn samples; without a preprocess."""
    pictured = samples.images.ndim == 4 and _channel_axis(model) is not None
    found = None if pictured else unknown_finding(model, samples, ranges, teachers)
    return () if found is None else (found,)


def preprocess_findings(model: ir.Model, samples: Samples, preprocess: Preprocess) -> tuple[Finding, ...]:
    """``BAD`` where real pictures show that ``preprocess`` is not that of the network; ``CHECK`` for dark or pale ones.

    They show it by the answers of a classifier, or by the statistics of a BatchNormalization. Before that, ``BAD`` or
    ``CHECK`` where it has figures that no pixels have. Pictures that use few of their 16 bits are named instead: they
    show nothing of a preprocess.

    Args:
        samples: real ones, made with the preprocess.
    """
    axis = _channel_axis(model) if samples.images.ndim == 4 else None
    if axis is None:
        return ()
    depth = depth_finding(samples)
    if depth is not None and depth.level != "OK":
        return (depth,)
    units = _of_figures(preprocess)
    first = unchanged_finding(samples, preprocess, axis) if units is None or units.level != "BAD" else units
    if first is not None:
        return (first,)
    expected, part = input_statistics(model), _part(samples)
    if expected is None:
        found = answers_finding(model, part, preprocess, axis)
    else:
        found = statistics_finding(preprocess, expected, pixel_statistics(part, preprocess, axis))
    used = range_finding(part, preprocess, axis)
    told = (
        units,
        found if found is not None and found.level == "BAD" else None,
        replace(used, level="CHECK") if used.level != "OK" and is_little_used(used) else None,
    )
    return tuple(entry for entry in told if entry is not None)


def _of_pictures(
    model: ir.Model,
    reference: ir.Model,
    samples: Samples,
    part: Samples,
    preprocess: Preprocess | None,
    axis: int,
    runner: Runner | None,
) -> Iterator[Finding]:
    """Scale, range and preprocess of pictures."""
    unchanged = None if preprocess is None else unchanged_finding(samples, preprocess, axis)
    units = None if preprocess is None else _of_figures(preprocess)
    in_range = None if preprocess is None else range_finding(samples, preprocess, axis)
    yield from (entry for entry in (unchanged, units, in_range) if entry is not None)
    expected = input_statistics(reference)
    scale = response_finding(model, part) if expected is None else scale_finding(part, expected, axis)
    yield from () if scale is None else (scale,)
    wrong = unchanged is not None or (units is not None and units.level == "BAD")
    if preprocess is None or in_range is None or wrong:
        return
    if expected is not None:
        real = not samples.method and in_range.level == "OK"
        pixels = pixel_statistics(part, preprocess, axis) if real else None
        statistics = statistics_finding(preprocess, expected, pixels)
        answers = photographs_finding(model, preprocess, runner, worst="CHECK") if statistics.level == "OK" else None
        yield statistics if answers is None or answers.level == "OK" else answers
    elif in_range.level == "OK":
        known = samples.figures.get("information") if reference is model else None
        answers = photographs_finding(model, preprocess, runner) if samples.method else None
        answers = answers or plenty_finding(model, samples, preprocess, known)
        answers = answers or answers_finding(model, part, preprocess, axis, runner)
        doubted = answers is None or answers.level != "OK"
        yield from agreed(offsets_finding(model, preprocess, doubted=doubted), answers)


def _of_figures(preprocess: Preprocess) -> Finding | None:
    """What the mean and the deviation of a preprocess tell alone."""
    return units_finding(preprocess) or exchanged_finding(preprocess) or impossible_finding(preprocess)


def _of_arrays(
    model: ir.Model, reference: ir.Model, samples: Samples, part: Samples, axis: int, runner: Runner | None
) -> Iterator[Finding]:
    """Arrays that no preprocess is stated of: do their values fit the network as they are.

    Where a BatchNormalization tells of the input, the scale of the samples is compared with that.
    """
    name = implied_preprocess(samples)
    if name is None or input_statistics(reference) is not None:
        return
    low, high = (f"{value:.3g}" for value in (samples.images.min(), samples.images.max()))
    found = answers_finding(model, part, PREPROCESSES[name], axis, runner)
    if found is None or found.level == "OK":
        yield from () if found is None else (found,)
        return
    shown, figures = found.options, found.figures or {}
    own, best = (f"{figures[figure]:.2g}" for figure in ("information", "information_best"))
    message = (
        f"samples were given without --preprocess, and their values, {low} to {high}, do not seem to fit the model: "
        f"the answers hold {own} nats of information, and {best} under {shown}"
    )
    remedy = f"normalize the arrays as {shown} does, or give the images themselves, or uint8 arrays, with {shown}"
    yield replace(found, message=message, remedy=remedy, options="")


def _channel_axis(model: ir.Model) -> int | None:
    """Of the main input, with the batch in front; None where it is no picture of 1 or 3 channels."""
    shape = main_input(model_inputs(model)).shape
    if shape is None or len(shape) != 4:
        return None
    axis = 3 if is_channels_last(model) else 1
    return axis if shape[axis] in CHANNELS else None


def _is_unknown(model: ir.Model, ranges: InputRanges, teachers: Sequence[ir.Model]) -> bool:
    """Whether neither an option nor the graph before the first layer tells the values of the input."""
    return sample_bounds(model, None, ranges, teachers) is None and feature_statistics(model) is None


def _part(samples: Samples) -> Samples:
    """Evenly spread samples that are enough to run the network on."""
    count = int(np.clip(VALUES_LOOKED_AT // max(1, samples.images[0].size), FEWEST_LOOKED_AT, MOST_LOOKED_AT))
    return samples if len(samples) <= count else samples.part(np.arange(count) * len(samples) // count)


def _figures(samples: Samples, part: Samples, reference: ir.Model) -> dict[str, float]:
    """The quality figures that are there already, or those of a part; none where the network cannot be run."""
    if "diversity" in samples.figures or "class_coverage" in samples.figures:
        return dict(samples.figures)
    try:
        return quality(part, reference)
    except ModelError:
        # Its reason is a note of the samples: with_quality has run into it before.
        return {}
