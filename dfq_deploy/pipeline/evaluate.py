"""Evaluate a quantized file, and judge it: ``dfq_deploy.evaluate``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dfq_deploy.errors import DfqError
from dfq_deploy.evaluation.evaluate import OTHER_SEED, Evaluation, evaluated
from dfq_deploy.evaluation.float_file import Fed, float_file
from dfq_deploy.evaluation.own_metric import Metric
from dfq_deploy.files.paths import AnyPath
from dfq_deploy.graph.file_info import is_quantized
from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.reading import blames_the_file
from dfq_deploy.graph.torch_export import TorchSource
from dfq_deploy.pipeline.after_evaluation import AfterEvaluation
from dfq_deploy.pipeline.earlier_prediction import EarlierPrediction, earlier_prediction
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.litert.runner import runner_of
from dfq_deploy.samples.preprocess import Preprocess, as_preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.samples.sizes import default_count
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.verdict.agreement.held_out import (
    BY_RULE,
    DATA,
    PHOTOGRAPHS,
    HeldOut,
    as_photographs,
    held_out_sets,
    takes_photographs,
)
from dfq_deploy.verdict.agreement.measure import Agreement, KindAgreement, agreement_of, measure_agreement
from dfq_deploy.verdict.agreement.prediction import MEASURED
from dfq_deploy.verdict.evaluation import evaluation_findings, judge_evaluation, with_samples_in_doubt
from dfq_deploy.verdict.finding import Finding, Level, Verdict
from dfq_deploy.verdict.gates import Gates
from dfq_deploy.verdict.judge import preprocess_condition
from dfq_deploy.verdict.sanity.findings import drawn_findings, preprocess_findings
from dfq_deploy.verdict.sanity.pixel_depth import depth_finding
from dfq_deploy.verdict.speed import count_findings, speed_findings

__all__ = ["JudgedEvaluation", "evaluate"]

ALIKE = 0.25
"""Part by which the spans of two preprocesses may differ that are much alike."""

InputRanges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class JudgedEvaluation(Evaluation):
    """An evaluation, and what it means.

    Args:
        verdict: ``OK``, ``CHECK`` or ``BAD``, with the reason and everything that was looked at.
        agreement: of float and quantized model, kind by kind of inputs, and what is predicted for real ones.
        earlier: what was predicted when the file was quantized, where real inputs measure it now; None otherwise.
    """

    verdict: Verdict = field(kw_only=True)
    agreement: Agreement = field(kw_only=True)
    earlier: EarlierPrediction | None = field(default=None, kw_only=True)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as ``--json`` prints it."""
        earlier = {} if self.earlier is None else {"predicted_earlier": self.earlier.to_json()}
        judged = {"held_out": self.agreement.to_json(), "verdict": self.verdict.to_json()}
        return {**super().to_json(), **earlier, **judged}


@blames_the_file
def evaluate(
    float_model: "AnyPath | TorchSource",
    quantized_model: AnyPath,
    data: Samples | AnyPath | None = None,
    *,
    source: str = "",
    count: int | None = None,
    labels: AnyPath | None = None,
    preprocess: Preprocess | str | None = None,
    latency: bool = False,
    metric: Metric | str | None = None,
    annotations: AnyPath | None = None,
    gates: Gates | None = None,
    target: str | None = None,
    seed: int = 0,
    device: str = "auto",
    input_shape: tuple[int, ...] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    input_ranges: InputRanges | None = None,
    main_input: str | None = None,
    task: str | None = None,
    command: str = "",
    progress: Progress = SILENT,
) -> JudgedEvaluation:
    """Run both files on the same samples, say how far apart they are, and whether the quantized one is good.

    Agreement is measured on real data of 64 samples or more. Else inputs are drawn by rule, and photographs where the
    input is an image, and agreement on real data is predicted from them.

    Args:
        float_model, quantized_model: any ONNX files with the same input and outputs; the second one need not
            have been written by this package, and the first may be a torch module or program.
        data: real samples, or where they lie (:mod:`dfq_deploy.samples.image_folder`); None draws pictures by rule,
            which tell agreement but not accuracy.
        source: where ``data`` comes from, for the result; its path where it is given as one.
        count: most samples to take from ``data`` where it is a path, spread evenly, or to draw; None takes all, or
            draws 256.
        labels: a file with the names of the classes, one a line, in the order of the model's scores, for images that
            lie in a folder for each class.
        preprocess: what turns pixels into the input, or a name such as ``imagenet``: of images at a path, and of the
            pictures drawn by rule; None takes the one that the quantized file's metadata states.
        latency: time both models too; a file that is slower than float is then ``BAD``.
        metric: a figure of one's own, ``metric(outputs, labels) -> float``, higher is better. It is called once with
            all outputs of the float model, by name, and once with those of the quantized one; they are kept in memory
            for it. ``map`` is the mean average precision of a detector, 0 to 1
            (:mod:`dfq_deploy.evaluation.detection`).
        annotations: the true boxes for ``map``, COCO's JSON or a folder of YOLO's text files, where ``data`` is a path
            to images; None takes what the float model detects for true.
        gates: bounds that decide the verdict together with faults (wrong scales, nothing quantized), instead of the
            default thresholds.
        target: the runtime that the file is for: layers in integers are counted for it. None counts for ONNX Runtime on
            the CPU, and a file that runs in float there is no more than ``CHECK``.
        seed: of the inputs that are drawn.
        device: ``auto``, ``cpu`` or ``cuda[:N]``.
        input_shape: of one sample, e.g. (3, 224, 224), where the float model is a torch module.
        input_shapes: input name -> shape with the batch, where a file leaves the size open, or a module's input is
            to be fixed.
        input_ranges: what other inputs are drawn from, where there is no ``data``.
        main_input, task: which input is the main one, and what the model does; None takes what the quantized file's
            metadata says, and finds it out where that says nothing.
        command: the command line, which the one to paste next is made from.

    Raises:
        ModelError: a file cannot be run, or the two do not match.
        OptionError: an option has a value that it cannot have, a gate needs what there is not, or the metric fails.
        SamplesError: the samples cannot be read, or do not fit the models.
        TargetError: there is no such target.
    """
    pixels, bounds, counted = as_preprocess(preprocess), gates or Gates(), find_target(target or "cpu").name

    def accept(samples: Samples) -> None:
        bounds.check(has_metric=metric is not None, has_labels=samples.labels is not None)

    if data is None or isinstance(data, Samples):
        bounds.check(has_metric=metric is not None, has_labels=data is not None and data.labels is not None)
    with float_file(float_model, input_shape, input_shapes) as (path, name):
        figures, samples, fed = evaluated(
            path, quantized_model, data, source=source, count=count, labels=labels, preprocess=pixels, latency=latency,
            metric=metric, annotations=annotations, target=counted, seed=seed, device=device, input_shapes=input_shapes,
            input_ranges=input_ranges, main_input=main_input, task=task, accept=accept, progress=progress,
        )  # fmt: skip
        figures = replace(figures, float_model=name, warnings=(*_dark(samples), *figures.warnings))
        inputs = _Inputs(path, samples, fed, drawn=data is None, preprocess=fed.preprocess, seed=seed)
        agreement, notes = _agreement(figures, inputs, device)
        notes += _stated_otherwise(pixels, fed.stated)
        is_float = not is_quantized(path)  # else the two files are swapped, which a finding says
        if data is not None and fed.preprocess is not None and is_float:
            notes += preprocess_findings(fed.load(path), samples, fed.preprocess)
        if data is None and fed.preprocess is None and is_float:
            notes += drawn_findings(fed.load(path), samples, fed.ranges or {})
        own = evaluation_findings(figures, agreement, samples, target, float_file=path)
        findings = with_samples_in_doubt([*notes, *own])
        if latency and figures.latency and figures.kernels is not None:
            timed = speed_findings(path, Path(figures.quantized_model), samples, target=counted, count=figures.kernels)
            findings += timed[len(count_findings(figures.kernels)) :]  # the layers were judged above
        real = data is not None and not samples.method and figures.comparison.scores is not None
        earlier = earlier_prediction(path, Path(figures.quantized_model)) if real else None
        following = None
        if path == Path(name):
            given = "" if data is None else figures.data
            typed, stated = (() if entry is None else entry.options for entry in (pixels, fed.preprocess))
            names = "" if labels is None else str(labels)
            following = AfterEvaluation(name, figures.quantized_model, given, typed, stated, target, names, command)
        adopted = fed.preprocess if pixels is None or data is None else None
        condition = preprocess_condition(fed.load(path), adopted) if is_float else ""
        verdict = judge_evaluation(figures, agreement, findings, bounds, following, condition)
    return JudgedEvaluation(**vars(figures), verdict=verdict, agreement=agreement, earlier=earlier)


def _dark(samples: Samples) -> Iterator[str]:
    """A sentence on pictures that use few of their 16 bits: it explains figures that may be worse than it is itself."""
    found = depth_finding(samples)
    if found is not None and found.level != "OK":
        yield f"{found.message}; {found.remedy}"


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What an evaluation ran on.

    Args:
        path: the float model's file.
        fed: how it is fed.
        drawn: whether ``samples`` were drawn by rule for it.
    """

    path: Path
    samples: Samples
    fed: Fed
    drawn: bool
    preprocess: Preprocess | None
    seed: int

    @property
    def kind(self) -> str:
        """As :class:`HeldOut` has it."""
        return BY_RULE if self.drawn else self.samples.method or DATA

    def others(self) -> Iterator[HeldOut]:
        """Inputs of other kinds to judge on."""
        model, ranges = self.fed.load(self.path), self.fed.ranges
        if not self.drawn:
            sets = held_out_sets(model, self.samples, preprocess=self.preprocess, seed=self.seed, ranges=ranges)
            yield from (entry for entry in sets if entry.kind in (BY_RULE, PHOTOGRAPHS))
        elif takes_photographs(model):
            rows = self.samples.part(np.arange(min(len(self.samples), default_count(sample_shape(model)))))
            yield HeldOut(
                PHOTOGRAPHS, as_photographs(model, rows, self.preprocess, ranges, self.seed + OTHER_SEED), False
            )


def _agreement(figures: Evaluation, inputs: _Inputs, device: str) -> tuple[Agreement, list[Finding]]:
    """On the samples of the evaluation and, where these are not enough real data, on others."""
    comparison, fed = figures.comparison, inputs.fed
    kinds = [KindAgreement(inputs.kind, not inputs.drawn and bool(inputs.samples.method), comparison)]
    if inputs.kind == DATA and (comparison.scores is None or comparison.count >= MEASURED):
        return agreement_of(kinds), []
    try:
        files = inputs.path, Path(figures.quantized_model)
        pair = [runner_of(file, device=device, main=fed.main_input, task=fed.task) for file in files]
        own = HeldOut(inputs.kind, inputs.samples, kinds[0].calibrated)
        return measure_agreement(pair[0], pair[1], (own, *inputs.others()), known=comparison), []
    except DfqError as problem:
        message = f"no inputs of other kinds were tried: {problem}"
        return agreement_of(kinds), [Finding("held-out", "OK", message, "give 64 real inputs or more with --data")]


def _stated_otherwise(given: Preprocess | None, stated: Preprocess | None) -> list[Finding]:
    """Where the file was made for another preprocess than the one given: ``BAD``, or ``CHECK`` where they are alike."""
    if given is None or stated is None:
        return []
    channels = max(len(given.mean), len(stated.mean))
    if np.allclose(given.bounds(channels), stated.bounds(channels), rtol=1e-2, atol=1e-2):
        return []
    spans = [high - low for low, high in (entry.bounds(channels) for entry in (given, stated))]
    level: Level = "CHECK" if np.allclose(spans[0], spans[1], rtol=ALIKE) else "BAD"
    message = f"the quantized file was made for another preprocess ({stated}) than the one given ({given})"
    remedy = "leave --preprocess out, or calibrate again with the right one"
    mean, std = (",".join(f"{value:.6g}" for value in values) for values in (given.mean, given.std))
    return [Finding("preprocess-stated", level, message, remedy, options=f"--mean {mean} --std {std}")]
