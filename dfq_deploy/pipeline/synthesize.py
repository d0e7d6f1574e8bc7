"""Synthesize samples for a model: ``dfq_deploy.synthesize``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from dfq_deploy.graph.inputs import InputShapes, sample_shape
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.graph.torch_export import exported
from dfq_deploy.plugins.contracts import Synthesizer
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import student_maker
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.teachers import TeacherSource, read_teacher
from dfq_deploy.targets.catalog import find_target

if TYPE_CHECKING:
    from torch.nn import Module

    from dfq_deploy.runtime.runner import Runner
    from dfq_deploy.synthesis.procedural.inputs import InputRanges
    from dfq_deploy.synthesis.session import Checkpointing

__all__ = ["checkpointing", "load_verifier", "synthesize"]


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
            (:mod:`dfq_deploy.synthesis.inversion.early_stopping`); ``auto`` does so on a paper's schedule; None and
            0 let it run to its end.
        unfinished: a folder for finished batches and the state of the running one; it stays, and whoever has the
            samples safe removes it. None keeps nothing.
        resume: go on from what ``unfinished`` holds: the samples are those of a run that was not interrupted.

    Returns:
        the samples; their figures are those of the method and of :func:`dfq_deploy.evaluation.sample_quality.quality`.

    Raises:
        ModelError: the model, a teacher or the verifier cannot be used.
        PluginError: no method of that name is installed.
    """
    from dfq_deploy.evaluation.sample_quality import with_quality
    from dfq_deploy.synthesis.session import synthesize_from

    source = load(exported(model, input_shape), input_shapes=input_shapes)
    widths = Bits.parse(bits) if isinstance(bits, str) else bits
    second = load_verifier(verifier, source, preprocess, input_shape)
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
        kept=checkpointing(unfinished, resume, target, widths),
        tolerance=tolerance,
        progress=progress,
    )
    return with_quality(made, source, loaded, second)


def checkpointing(unfinished: Path | None, resume: bool, target: str, bits: Bits | None) -> "Checkpointing | None":
    from dfq_deploy.synthesis.session import Checkpointing

    # The target and the widths decide the student that some methods search against.
    return (
        None
        if unfinished is None
        else Checkpointing(unfinished, resume, {"--target": target, "--bits": bits or Bits()})
    )


def load_verifier(
    verifier: "TeacherSource | None",
    source: ir.Model,
    preprocess: Preprocess | None,
    input_shape: tuple[int, ...] | None,
) -> "Runner | None":
    """The verifier, known to take the model's samples before any are made."""
    from dfq_deploy.runtime.runner import Runner

    if verifier is None:
        return None
    runner = Runner(read_teacher(verifier, preprocess, input_shape), name="the verifier")
    runner.check(sample_shape(source))
    return runner
