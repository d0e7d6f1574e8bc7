"""Post-training quantization from end to end: ``dfq_deploy.calibrate``."""

import shutil
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from dfq_deploy.errors import SamplesError
from dfq_deploy.files.atomic import check_writable
from dfq_deploy.graph.inputs import InputShapes, main_input_value
from dfq_deploy.graph.loading import load, load_notes
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.graph.torch_export import exported
from dfq_deploy.pipeline.fit import CalibrationPlan, fit
from dfq_deploy.pipeline.results import Calibration, Outcome, finish
from dfq_deploy.pipeline.synthesize import checkpointing, load_verifier
from dfq_deploy.plugins.contracts import Calibrator, Synthesizer
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.quantization.bit_widths import Bits, Budget, bits_of
from dfq_deploy.quantization.encode import student_maker
from dfq_deploy.refinement.registry import in_order
from dfq_deploy.samples.batches import check_samples_fit, split_held_out
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.teachers import TeacherSource, read_teacher
from dfq_deploy.targets.catalog import find_target

if TYPE_CHECKING:
    from torch.nn import Module

    from dfq_deploy.synthesis.procedural.inputs import InputRanges

__all__ = ["DEFAULT_METHOD", "calibrate"]

DEFAULT_METHOD = "mse"


def calibrate(
    model: "ModelSource | Module",
    *,
    synth: str | Synthesizer | None = None,
    data: Samples | None = None,
    target: str = "cpu",
    bits: str | Bits | None = None,
    edge_bits: int | None = None,
    size: float | None = None,
    drop: float | None = None,
    method: str | Calibrator | None = None,
    refine: Sequence[str] | None = None,
    teachers: "Sequence[TeacherSource]" = (),
    count: int | None = None,
    preprocess: Preprocess | None = None,
    integer_io: bool = False,
    seed: int = 0,
    device: str = "auto",
    output: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    input_shapes: InputShapes | None = None,
    input_ranges: "InputRanges | None" = None,
    verifier: "TeacherSource | None" = None,
    tolerance: float | str | None = None,
    unfinished: Path | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Calibration:
    """Quantize ``model`` for ``target`` with samples that are synthesized, or given as ``data``.

    An eighth of the samples is held out of everything and only used to compare float and INT8.

    Args:
        bits: widths of weights and activations, e.g. ``w4a8``; None is 8 of both; ``auto`` finds widths for each
            weight (:mod:`dfq_deploy.refinement.mixed_precision`) within a budget.
        edge_bits: widths of the first and the last layer, where they are to be larger.
        size: the budget: largest part of what the weights take in float32.
        drop: or this: largest percentage of the samples whose class may change.
        method: a calibrator's name, or the calibrator itself; None is the one that measures best.
        refine: names of refinements (:mod:`dfq_deploy.refinement.registry`); None is what measures best.
        integer_io: also write the model that takes pixels as bytes (:mod:`dfq_deploy.quantization.integer_io`).
        output: the folder for the results; it is filled when all of them are there. None writes nothing
            but a temporary file for the check.
        input_shape: of one sample, e.g. (3, 224, 224), where the model or a teacher is a torch module.
        input_shapes, input_ranges, verifier, tolerance, unfinished, resume: as :func:`synthesize` takes them; the
            folder is removed at the end.

    Raises:
        DfqError: one of its kinds, in one line.
    """
    from dfq_deploy.evaluation.sample_quality import with_quality
    from dfq_deploy.synthesis.session import pick_device, synthesize_from

    if (synth is None) == (data is None):
        raise SamplesError("calibrate needs either a synthesis method or data, and not both")
    chosen = find_target(target)
    asked = bits_of(bits, edge_bits, size, drop)
    widths = Bits() if isinstance(asked, Budget) else asked
    in_order(refine or ())  # refused before any work
    name, calibrator = _calibrator(method)
    if output is not None:
        check_writable(output)
    clock, where = Clock(), pick_device(device)
    model = exported(model, input_shape)
    source = load(model, input_shapes=input_shapes)
    second = load_verifier(verifier, source, preprocess, input_shape)
    loaded = [read_teacher(teacher, preprocess, input_shape, input_shapes) for teacher in teachers]
    samples = data or synthesize_from(
        source,
        synth or "",
        loaded,
        count=count,
        preprocess=preprocess,
        seed=seed,
        device=device,
        ranges=input_ranges,
        student=student_maker(source, chosen, widths),
        kept=checkpointing(unfinished, resume, target, widths),
        tolerance=tolerance,
        progress=progress,
    )
    check_samples_fit(source, samples)
    samples = with_quality(samples, source, loaded, second)
    clock.lap("samples")
    used, held = split_held_out(samples)
    plan = CalibrationPlan(chosen, asked, calibrator, refine, preprocess, seed, where)
    fitted = fit(source, used, plan, synth, loaded, clock, progress)
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
        choices={"method": name, **fitted.choices},
        seed=seed,
        preprocess=preprocess,
        integer_io=integer_io,
        calibrator=calibrator,
        warnings=(*load_notes(source), *samples.notes, *fitted.warnings),
        batch=_batch(source, input_shapes or {}),
    )
    result = finish(outcome, _name(model), output, clock, progress)
    if unfinished is not None and unfinished.exists():
        shutil.rmtree(unfinished)
    return result


def _batch(source: ir.Model, shapes: InputShapes) -> int:
    """The batch that is stated for the main input, where one is."""
    stated = shapes.get(str(main_input_value(source).name), ())
    return stated[0] if stated else 1


def _calibrator(method: str | Calibrator | None) -> tuple[str, Calibrator]:
    """Its name for the report, and the calibrator."""
    if method is None or isinstance(method, str):
        name = method or DEFAULT_METHOD
        return name, find_plugin("calibrators", name)()
    return type(method).__name__, method


def _name(model: ModelSource) -> str:
    return Path(model).name if isinstance(model, str | PathLike) else model.graph.name or "model"
