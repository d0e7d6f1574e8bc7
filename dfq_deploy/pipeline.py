"""The steps in order: samples, ranges, encodings, refinement, export, check."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import onnx_ir as ir

from dfq_deploy import graph, plugins
from dfq_deploy.bits import Bits
from dfq_deploy.contracts import Calibrator, Synthesizer
from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import ModelError, PluginError, SamplesError
from dfq_deploy.feeding import refuse_misfit, split
from dfq_deploy.files import probe
from dfq_deploy.graph import InputShapes, ModelSource
from dfq_deploy.preprocess import Preprocess
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantize import encode, headroom_of, prepare, student_maker
from dfq_deploy.results import Calibration, Clock, Outcome, finish
from dfq_deploy.samples import Samples
from dfq_deploy.targets import find_target
from dfq_deploy.teachers import TeacherSource, read_teacher
from dfq_deploy.torch_export import exported

if TYPE_CHECKING:
    from torch.nn import Module

    from dfq_deploy.synthesis.drawing import InputRanges

__all__ = ["DEFAULT_METHOD", "DEFAULT_REFINE", "REFINERS", "Calibration", "calibrate", "synthesize"]

DEFAULT_METHOD = "mse"
DEFAULT_REFINE = ("bias",)

Refiner: TypeAlias = Callable[[ir.Model, dict[str, Encoding], Samples, Progress], dict[str, Encoding]]
"""Changes the model's weights and biases in place, and returns the encodings that belong to them."""


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

    Raises:
        ModelError: the model or a teacher cannot be used.
        PluginError: no method of that name is installed.
    """
    from dfq_deploy.synthesis.session import synthesize_from

    source = graph.load(exported(model, input_shape), input_shapes=input_shapes)
    widths = Bits.parse(bits) if isinstance(bits, str) else bits
    return synthesize_from(
        source,
        synth,
        [read_teacher(teacher, preprocess, input_shape, input_shapes) for teacher in teachers],
        count=count,
        preprocess=preprocess,
        seed=seed,
        device=device,
        ranges=input_ranges,
        student=student_maker(source, find_target(target), widths),
        progress=progress,
    )


def calibrate(
    model: "ModelSource | Module",
    *,
    synth: str | Synthesizer | None = None,
    data: Samples | None = None,
    target: str = "cpu",
    bits: str | Bits | None = None,
    edge_bits: int | None = None,
    method: str | Calibrator | None = None,
    refine: Sequence[str] | None = None,
    teachers: "Sequence[TeacherSource]" = (),
    count: int | None = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    device: str = "auto",
    output: Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    input_shapes: InputShapes | None = None,
    input_ranges: "InputRanges | None" = None,
    progress: Progress = SILENT,
) -> Calibration:
    """Quantize ``model`` for ``target`` with samples that are synthesized, or given as ``data``.

    An eighth of the samples is held out of everything and only used to compare float and INT8.

    Args:
        bits: widths of weights and activations, e.g. ``w4a8``; None is 8 of both.
        edge_bits: widths of the first and the last layer, where they are to be larger.
        method: a calibrator's name, or the calibrator itself; None is the one that measures best.
        refine: refinements in order, of :data:`REFINERS`; None is what measures best.
        output: the folder for the results; it is filled when all of them are there. None writes nothing
            but a temporary file for the check.
        input_shape: of one sample, e.g. (3, 224, 224), where the model or a teacher is a torch module.
        input_shapes, input_ranges: as :func:`synthesize` takes them.

    Raises:
        DfqError: one of its kinds, in one line.
    """
    from dfq_deploy.synthesis.session import synthesize_from

    if (synth is None) == (data is None):
        raise SamplesError("calibrate needs either a synthesis method or data, and not both")
    refiners = DEFAULT_REFINE if refine is None else tuple(refine)
    for name in refiners:
        if name not in REFINERS:
            raise PluginError(f"no refinement '{name}'; installed: {', '.join(REFINERS)}")
    chosen = find_target(target)
    widths = Bits.parse(bits, edge_bits) if isinstance(bits, str) else bits or Bits(edge=edge_bits)
    calibrator: Calibrator = (
        plugins.find("calibrators", method or DEFAULT_METHOD)() if method is None or isinstance(method, str) else method
    )
    if output is not None:
        probe(output)
    clock = Clock()
    model = exported(model, input_shape)
    source = graph.load(model, input_shapes=input_shapes)
    samples = data or synthesize_from(
        source,
        synth or "",
        [read_teacher(teacher, preprocess, input_shape, input_shapes) for teacher in teachers],
        count=count,
        preprocess=preprocess,
        seed=seed,
        device=device,
        ranges=input_ranges,
        student=student_maker(source, chosen, widths),
        progress=progress,
    )
    refuse_misfit(source, samples)
    clock.lap("samples")
    used, held = split(samples)
    quantized = encode(prepare(source, chosen, widths), calibrator, used, preprocess, progress)
    prepared = quantized.prepared
    clock.lap("ranges")
    encodings, left_out = _refined(prepared.model, quantized.encodings, refine, used, progress)
    clock.lap("refinement")
    outcome = Outcome(
        source=source,
        prepared=prepared.model,
        target=chosen,
        placement=prepared.placement,
        encodings=encodings,
        samples=samples,
        held_out=held,
        choices={
            "method": method
            if isinstance(method, str)
            else DEFAULT_METHOD
            if method is None
            else type(method).__name__,
            "refine": list(refiners),
            "headroom": headroom_of(widths.activations, samples),
            "bits": str(widths),
        },
        seed=seed,
        preprocess=preprocess,
        warnings=(*graph.notes(source), *samples.notes, *quantized.warnings, *left_out),
    )
    return finish(outcome, _name(model), output, clock, progress)


def _name(model: ModelSource) -> str:
    return Path(model).name if isinstance(model, str | PathLike) else model.graph.name or "model"


def _correct_biases(
    model: ir.Model, encodings: dict[str, Encoding], samples: Samples, progress: Progress
) -> dict[str, Encoding]:
    from dfq_deploy.refine.bias import correct_biases

    correct_biases(model, encodings, samples.images, extra=samples.extra, progress=progress)
    return encodings


REFINERS: Mapping[str, Refiner] = {"bias": _correct_biases}


def _refined(
    model: ir.Model, encodings: dict[str, Encoding], names: Sequence[str] | None, samples: Samples, progress: Progress
) -> tuple[dict[str, Encoding], tuple[str, ...]]:
    """The encodings after the refinements, and a warning for each default one that the graph does not let run."""
    warnings = []
    for name in DEFAULT_REFINE if names is None else names:
        try:
            encodings = REFINERS[name](model, encodings, samples, progress)
        except (ModelError, RuntimeError, IndexError) as problem:
            reason = str(problem).splitlines()[0].rstrip(".")
            if names is not None:
                raise ModelError(f"refinement '{name}' cannot run: {reason}; leave it out with --refine none") from None
            warnings.append(f"refinement '{name}' was left out, since the twin cannot run the model ({reason})")
    return encodings, tuple(warnings)
