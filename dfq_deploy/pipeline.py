"""The steps in order: samples, ranges, encodings, refinement, export, check."""

import shutil
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from dfq_deploy import graph, plugins
from dfq_deploy.bits import Bits, Budget, bits_of
from dfq_deploy.contracts import Calibrator, Synthesizer
from dfq_deploy.errors import SamplesError
from dfq_deploy.feeding import refuse_misfit, split
from dfq_deploy.files import probe
from dfq_deploy.fitting import Plan, fit
from dfq_deploy.graph import InputShapes, ModelSource
from dfq_deploy.preprocess import Preprocess
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantize import student_maker
from dfq_deploy.refinement import in_order
from dfq_deploy.results import Calibration, Clock, Outcome, finish
from dfq_deploy.samples import Samples
from dfq_deploy.targets import find_target
from dfq_deploy.teachers import TeacherSource, read_teacher
from dfq_deploy.torch_export import exported

if TYPE_CHECKING:
    from torch.nn import Module

    from dfq_deploy.evaluation.runner import Runner
    from dfq_deploy.synthesis.drawing import InputRanges
    from dfq_deploy.synthesis.session import Kept

__all__ = ["DEFAULT_METHOD", "Calibration", "calibrate", "synthesize"]

DEFAULT_METHOD = "mse"


def synthesize(
    model: "ModelSource | Module",
    *,
    synth: str | Synthesizer = "deepinversion",
    teachers: "Sequence[TeacherSource]" = (),
    count: int | None = None,
    preprocess: Preprocess | None = None,
    target: str = "cpu",
    bits: str | Bits | None = None,
    seed: int = 0,
    device: str = "auto",
    input_shape: tuple[int, ...] | None = None,
    input_shapes: InputShapes | None = None,
    input_ranges: "InputRanges | None" = None,
    verifier: "TeacherSource | None" = None,
    tolerance: float | str | None = None,
    unfinished: Path | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Samples:
    """Make samples for ``model`` from the model alone.

    Args:
        synth: a method's name, or the method itself with its options.
        teachers: the same network with its BatchNormalization kept, where ``model`` has lost it; for ``lis`` several
            networks, each as a :class:`Teacher` where its input is normalised otherwise than the model's.
        count: number of samples; None leaves it to the size of the input.
        preprocess: what turns pixels into the input; it bounds the samples.
        target, bits: what the quantized network is made for that some methods search against.
        seed: the same seed gives the same samples.
        device: ``auto``, ``cpu`` or ``cuda[:N]``.
        input_shape: of one sample, e.g. (3, 224, 224), where the model or a teacher is a torch module.
        input_shapes: input name -> shape with the batch, where a file leaves more open than the batch.
        input_ranges: input name -> smallest and largest value, for inputs that are drawn by rule.
        verifier: a second network with the same classes, which is asked what it takes the samples for.
        tolerance: end a descent when the ranges that it is made for move by less, in parts of their span
            (:mod:`dfq_deploy.synthesis.settling`); ``auto`` does so on a paper's schedule; None lets it run to its end.
        unfinished: a folder for finished batches and the state of the running one; it stays, and whoever has the
            samples safe removes it. None keeps nothing.
        resume: go on from what ``unfinished`` holds: the samples are those of a run that was not interrupted.

    Returns:
        the samples; their figures are those of the method and of :func:`dfq_deploy.synthesis.quality.quality`.

    Raises:
        ModelError: the model, a teacher or the verifier cannot be used.
        PluginError: no method of that name is installed.
    """
    from dfq_deploy.synthesis.quality import assessed
    from dfq_deploy.synthesis.session import synthesize_from

    source = graph.load(exported(model, input_shape), input_shapes=input_shapes)
    widths = Bits.parse(bits) if isinstance(bits, str) else bits
    second = _second(verifier, source, preprocess, input_shape)
    loaded = [read_teacher(teacher, preprocess, input_shape, input_shapes) for teacher in teachers]
    made = synthesize_from(
        source,
        synth,
        loaded,
        count=count,
        preprocess=preprocess,
        seed=seed,
        device=device,
        ranges=input_ranges,
        student=student_maker(source, find_target(target), widths),
        kept=_kept(unfinished, resume, target, widths),
        tolerance=tolerance,
        progress=progress,
    )
    return assessed(made, source, loaded, second)


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
            weight (:mod:`dfq_deploy.mixed`) within a budget.
        edge_bits: widths of the first and the last layer, where they are to be larger.
        size: the budget: largest part of what the weights take in float32.
        drop: or this: largest percentage of the samples whose class may change.
        method: a calibrator's name, or the calibrator itself; None is the one that measures best.
        refine: names of refinements (:mod:`dfq_deploy.refinement`); None is what measures best.
        integer_io: also write the model that takes pixels as bytes (:mod:`dfq_deploy.integerio`).
        output: the folder for the results; it is filled when all of them are there. None writes nothing
            but a temporary file for the check.
        input_shape: of one sample, e.g. (3, 224, 224), where the model or a teacher is a torch module.
        input_shapes, input_ranges, verifier, tolerance, unfinished, resume: as :func:`synthesize` takes them; the
            folder is removed at the end.

    Raises:
        DfqError: one of its kinds, in one line.
    """
    from dfq_deploy.synthesis.quality import assessed
    from dfq_deploy.synthesis.session import pick_device, synthesize_from

    if (synth is None) == (data is None):
        raise SamplesError("calibrate needs either a synthesis method or data, and not both")
    chosen = find_target(target)
    asked = bits_of(bits, edge_bits, size, drop)
    widths = Bits() if isinstance(asked, Budget) else asked
    in_order(refine or ())  # refused before any work
    name, calibrator = _calibrator(method)
    if output is not None:
        probe(output)
    clock, where = Clock(), pick_device(device)
    model = exported(model, input_shape)
    source = graph.load(model, input_shapes=input_shapes)
    second = _second(verifier, source, preprocess, input_shape)
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
        kept=_kept(unfinished, resume, target, widths),
        tolerance=tolerance,
        progress=progress,
    )
    refuse_misfit(source, samples)
    samples = assessed(samples, source, loaded, second)
    clock.lap("samples")
    used, held = split(samples)
    plan = Plan(chosen, asked, calibrator, refine, preprocess, seed, where)
    fitted = fit(source, used, plan, synth, loaded, clock, progress)
    prepared = fitted.quantized.prepared
    outcome = Outcome(
        source=source,
        prepared=prepared.model,
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
        warnings=(*graph.notes(source), *samples.notes, *fitted.warnings),
        batch=_batch(source, input_shapes or {}),
    )
    result = finish(outcome, _name(model), output, clock, progress)
    if unfinished is not None and unfinished.exists():
        shutil.rmtree(unfinished)
    return result


def _batch(source: ir.Model, shapes: InputShapes) -> int:
    """The batch that is stated for the main input, where one is."""
    stated = shapes.get(str(graph.image_input(source).name), ())
    return stated[0] if stated else 1


def _kept(unfinished: Path | None, resume: bool, target: str, bits: Bits | None) -> "Kept | None":
    from dfq_deploy.synthesis.session import Kept

    # The target and the widths decide the student that some methods search against.
    return None if unfinished is None else Kept(unfinished, resume, {"--target": target, "--bits": bits or Bits()})


def _second(
    verifier: "TeacherSource | None",
    source: ir.Model,
    preprocess: Preprocess | None,
    input_shape: tuple[int, ...] | None,
) -> "Runner | None":
    """The verifier, known to take the model's samples before any are made."""
    from dfq_deploy.evaluation.runner import Runner

    if verifier is None:
        return None
    runner = Runner(read_teacher(verifier, preprocess, input_shape), name="the verifier")
    runner.check(graph.sample_shape(source))
    return runner


def _calibrator(method: str | Calibrator | None) -> tuple[str, Calibrator]:
    """Its name for the report, and the calibrator."""
    if method is None or isinstance(method, str):
        name = method or DEFAULT_METHOD
        return name, plugins.find("calibrators", name)()
    return type(method).__name__, method


def _name(model: ModelSource) -> str:
    return Path(model).name if isinstance(model, str | PathLike) else model.graph.name or "model"
