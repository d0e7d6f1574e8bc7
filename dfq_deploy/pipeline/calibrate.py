"""Post-training quantization from end to end: ``dfq_deploy.calibrate``."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Unpack

import onnx_ir as ir

from dfq_deploy.errors import OptionError
from dfq_deploy.evaluation.sample_quality import with_quality
from dfq_deploy.files.atomic import check_writable
from dfq_deploy.files.overwriting import refuse_overwriting
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.files.unfinished import remove_unfinished
from dfq_deploy.graph.file_info import stored_bytes
from dfq_deploy.graph.inputs import InputShapes, main_input_value
from dfq_deploy.graph.loading import load_notes
from dfq_deploy.graph.reading import ModelSource, blames_the_file
from dfq_deploy.graph.torch_export import TorchSource
from dfq_deploy.pipeline.activations import choose_activations
from dfq_deploy.pipeline.fit import CalibrationPlan, fit
from dfq_deploy.pipeline.keywords import CalibrationKeywords, refuse_unknown
from dfq_deploy.pipeline.options import (
    ModelInputs,
    Resume,
    SynthesisOptions,
    activations_of,
    check_seed,
    grouped,
    names_of,
    overrides_of,
    preprocess_warning,
    synth_or_data,
    widths_of,
)
from dfq_deploy.pipeline.outcome import Outcome
from dfq_deploy.pipeline.remedies.attempts import Setting
from dfq_deploy.pipeline.remedies.floor import limits_of
from dfq_deploy.pipeline.remedies.run import Work, raise_to_floor
from dfq_deploy.pipeline.reporting import Call
from dfq_deploy.pipeline.results import Calibration, finish, results_in
from dfq_deploy.pipeline.synthesize import SampleOrder, chosen_method, load_verifier
from dfq_deploy.plugins.contracts import Calibrator, Synthesizer
from dfq_deploy.plugins.registry import calibrator_of, exporter_for
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.quantization.bit_widths import Bits, Budget, check_widths
from dfq_deploy.quantization.encode import prepare
from dfq_deploy.refinement.registry import in_order
from dfq_deploy.samples.batches import check_samples_fit, split_held_out
from dfq_deploy.samples.preprocess import Preprocess, as_preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.text import data_for
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.targets.target import Target

__all__ = ["DEFAULT_METHOD", "calibrate"]

DEFAULT_METHOD = "mse"

FP8_METHOD = "minmax"
"""The default of FP8, whose steps shrink towards zero: clipping gains nothing."""

ROUNDING = ("mse", "entropy", "tensorrt-entropy", "tensorrt-minmax", "reconstruct")
"""Calibrators and refinements that reckon with the steps of integers."""


@blames_the_file
def calibrate(
    model: "ModelSource | TorchSource",
    *,
    synth: str | Synthesizer | None = None,
    data: Samples | AnyPath | None = None,
    target: str = "cpu",
    bits: str | Bits | Budget | None = None,
    method: str | Calibrator | None = None,
    refine: Sequence[str] | str | None = None,
    preprocess: Preprocess | str | None = None,
    integer_io: bool = False,
    float16: bool = False,
    seed: int = 0,
    device: str = "auto",
    output: AnyPath | None = None,
    inputs: ModelInputs | None = None,
    synthesis: SynthesisOptions | None = None,
    resumption: Resume | None = None,
    progress: Progress = SILENT,
    **keywords: Unpack[CalibrationKeywords],
) -> Calibration:
    """Quantize ``model`` for ``target`` with samples that are synthesized, or given as ``data``.

    An eighth of the samples is held out of everything and only used to compare float and INT8.

    Args:
        model, preprocess, seed, device, inputs, synthesis, resumption: as
            :func:`~dfq_deploy.pipeline.synthesize.synthesize` takes them.
        synth: likewise; None is ``auto`` where there is no ``data``.
        data: real samples, or where they lie: a folder or zip of images, an .npz or .npy
            (:mod:`dfq_deploy.samples.image_folder`), text or a vocabulary (:mod:`dfq_deploy.synthesis.text`).
        target: the runtime to quantize for.
        bits: widths of weights and activations, e.g. ``w4a8``; None is 8 of both; ``auto`` finds widths for each
            weight (:mod:`dfq_deploy.refinement.mixed_precision`) within a budget.
        method: a calibrator's name, or the calibrator itself; None is the one that measures best.
        refine: names of refinements (:mod:`dfq_deploy.refinement.registry`); None is what measures best.
        integer_io: also write the model that takes pixels as bytes (:mod:`dfq_deploy.quantization.integer_io`).
        float16: compute in half precision what stays in float; only for exporters that have this option.
        output: the folder for the results; it is filled when all of them are there. None writes nothing
            but a temporary file for the check.
        keywords: those of :func:`~dfq_deploy.pipeline.synthesize.synthesize`; ``keep_float`` (names, operators or
            patterns of nodes), ``exclude`` (a regular expression on their names) and ``overrides`` (a file,
            docs/overrides.md) on what is quantized otherwise; three on widths: ``edge_bits``, of the first and the last
            layer, where they are to be larger; for ``bits="auto"`` the budget, ``size``, the largest size of the
            file as a part of the float file, or ``drop``, the largest percentage of the samples whose class may change;
            ``activations`` (``auto``, ``static``, ``dynamic``, ``float``:
            :data:`dfq_deploy.quantization.dynamic.Activations`);
            and ``floor`` (``ok``, ``agreement=99``, ``snr=20``, ``none``), ``max_time`` (seconds) and ``max_slowdown``
            (a factor) for what is tried where the first result is not good enough
            (:mod:`dfq_deploy.pipeline.remedies`); ``compare``, the report.json of another run, and ``labels``, a file
            with the names of the classes, one a line, for the report.

    Raises:
        DfqError: one of its kinds, in one line.
    """
    from dfq_deploy.synthesis.session import pick_device

    refuse_unknown("calibrate", keywords, CalibrationKeywords)
    synth = synth_or_data("calibrate", synth, data)
    fed, options = grouped(ModelInputs, inputs, keywords), grouped(SynthesisOptions, synthesis, keywords)
    kept = grouped(Resume, resumption, keywords)
    check_seed(seed)
    chosen, pixels, call = find_target(target), as_preprocess(preprocess), Call.of(calibrate, locals(), keywords)
    asked = widths_of(bits, **{name: keywords.get(name) for name in ("edge_bits", "size", "drop")})  # type: ignore[arg-type]
    exporter = exporter_for(chosen, float16=float16)
    refine, overrides = names_of(refine), overrides_of(keywords)
    activations = activations_of(keywords, chosen)
    in_order(refine or ())  # refused before any work
    calibrator = calibrator_of(method := _method(method, asked, chosen, refine))
    limits = limits_of(keywords)
    folder = None if output is None else as_path(output, "output")
    if folder is not None:
        check_writable(folder)
        refuse_overwriting(results_in(folder), (model, data, options.verifier, *options.teachers))
    clock, where = Clock(), pick_device(device)
    source, name = call.checked(*fed.load(model, data))
    widths = Bits() if isinstance(asked, Budget) else asked
    ready = prepare(source, chosen, widths, overrides)  # refused before any work
    exporter.refuse(ready.model)
    verifier = load_verifier(options.verifier, source, pixels, fed)
    teachers = [fed.teacher(teacher, pixels) for teacher in options.teachers]
    synth, choice = chosen_method(synth, source, teachers, asked)
    if data is None:
        order = SampleOrder(source, teachers, synth or "", fed, options, pixels, chosen, widths, seed, device)
        samples = order.make(kept, progress)
    else:
        samples = data_for(data, source, pixels, options.count, keywords.get("labels"), beside=model, seed=seed)
    check_samples_fit(source, samples)
    samples = with_quality(samples, source, teachers, verifier)
    clock.lap("samples")
    used, held = split_held_out(samples)
    plan = CalibrationPlan(
        chosen, asked, calibrator, refine, pixels, seed, where, overrides, activations, _bytes_of(model)
    )
    fitted = fit(source, used, plan, synth, teachers, clock, progress)
    work = Work(source, synth, teachers, _batch(source, fed.input_shapes or {}), fed.input_ranges, integer_io)
    setting, fitted = choose_activations(work, Setting(plan, samples), fitted, clock, progress)
    raised = raise_to_floor(work, setting, fitted, limits, clock, progress)
    fitted = raised.fitted
    if raised.samples is not samples:
        samples = with_quality(raised.samples, source, teachers, verifier)
        held = split_held_out(samples)[1]
    prepared = fitted.quantized.prepared
    outcome = Outcome(
        source=source,
        prepared=prepared.model,
        reference=fitted.reference,
        target=chosen,
        placement=prepared.placement,
        encodings=fitted.quantized.encodings,
        samples=samples,
        held_out=held,
        choices={
            "method": method if isinstance(method, str) else type(method).__name__,
            **fitted.choices,
            **choice,
        },
        seed=seed,
        preprocess=pixels,
        integer_io=integer_io,
        exporter=exporter,
        calibrator=calibrator,
        warnings=(*load_notes(source), *samples.notes, *preprocess_warning(samples, pixels), *fitted.warnings),
        batch=work.batch,
        teachers=teachers,
        ranges=fed.input_ranges,
        device=where,
        remedies=raised.remedies,
        sets=raised.sets,
        agreement=raised.agreement,
        about=call.about(source, name),
    )
    result = finish(outcome, name, folder, clock, progress)
    if kept.folder is not None:
        remove_unfinished(kept.folder)
    return result


def _bytes_of(model: "ModelSource | TorchSource") -> int | None:
    """The size of a float file with its external data; None for a model in memory."""
    return stored_bytes(Path(model)) if isinstance(model, str | PathLike) and Path(model).is_file() else None


def _batch(source: ir.Model, shapes: InputShapes) -> int:
    """The batch that is stated for the main input, where one is."""
    stated = shapes.get(str(main_input_value(source).name), shapes.get("", ()))
    return stated[0] if stated else 1


def _method(
    method: str | Calibrator | None, bits: Bits | Budget, target: Target, refine: Sequence[str] | None
) -> str | Calibrator:
    """The calibrator, for widths that the target accepts.

    Raises:
        OptionError: the target does not accept them; or the types are floats, and the calibrator or a refinement rounds
            to integers.
    """
    check_widths(bits, target)
    if not (isinstance(bits, Bits) and bits.floating):
        return method or DEFAULT_METHOD
    rounding = [name for name in (method, *(refine or ())) if name in ROUNDING]
    if rounding:
        raise OptionError(f"bits: fp8 has no integers, to which '{rounding[0]}' rounds; leave it out")
    return method or FP8_METHOD
