"""Quantization-aware training from end to end: ``dfq_deploy.finetune``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dfq_deploy.errors import SamplesError
from dfq_deploy.files.atomic import check_writable
from dfq_deploy.graph.inputs import InputShapes, sample_shape
from dfq_deploy.graph.large_models import fingerprint
from dfq_deploy.graph.loading import load, load_notes
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.graph.torch_export import exported
from dfq_deploy.pipeline.calibrate import DEFAULT_METHOD
from dfq_deploy.pipeline.fit import CalibrationPlan
from dfq_deploy.pipeline.results import Calibration, Outcome, finish
from dfq_deploy.pipeline.train import Run, train
from dfq_deploy.pipeline.training_data import TrainingData, generative
from dfq_deploy.plugins.contracts import Calibrator, Source, Synthesizer
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.qat.checkpoints import Checkpoints
from dfq_deploy.qat.distributed import Processes, join_processes, own_device
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import headroom_of
from dfq_deploy.samples.batches import check_samples_fit, split_held_out
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.session import pick_device
from dfq_deploy.synthesis.teachers import TeacherSource, read_teacher
from dfq_deploy.targets.catalog import find_target

if TYPE_CHECKING:
    from torch.nn import Module

    from dfq_deploy.synthesis.procedural.inputs import InputRanges

__all__ = ["finetune"]


def finetune(
    model: "ModelSource | Module",
    *,
    synth: str | Synthesizer | None = None,
    data: Samples | None = None,
    bits: str | Bits = "w4a4",
    edge_bits: int | None = None,
    target: str = "cpu",
    method: str | None = None,
    refine: Sequence[str] | None = None,
    teachers: "Sequence[TeacherSource]" = (),
    count: int | None = None,
    epochs: int | None = None,
    recipe: Recipe | None = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    device: str = "auto",
    output: Path | None = None,
    resume: bool = False,
    input_shape: tuple[int, ...] | None = None,
    input_shapes: InputShapes | None = None,
    input_ranges: "InputRanges | None" = None,
    verifier: "TeacherSource | None" = None,
    tolerance: float | str | None = None,
    progress: Progress = SILENT,
) -> Calibration:
    """Train the quantized network to say what ``model`` says, on samples that are synthesized, or given as ``data``.

    A method that is a generator is drawn from anew in each step, and adapts to the student in turn. An eighth of the
    samples is held out of the training. Under ``torchrun`` all processes train one student; the first one writes.

    Args:
        bits: widths of weights and activations; every layer has them, the first and the last too. The network's input
            has 8 bits, its outputs are float.
        edge_bits: widths of the first and the last layer, where they are to be larger.
        method: the calibrator whose ranges training starts from; None is the one that measures best.
        refine: names of refinements that come before the training; None is what measures best.
        epochs: passes over the samples, instead of the recipe's.
        recipe: schedule, rates and losses; None is what suits the size of the input.
        output: the folder for the results, and for checkpoints until they are there.
        resume: go on from the checkpoint in ``output``; the result is the same, bit for bit, as without the break.
        teachers, count, preprocess, seed, device, input_shape, input_shapes, input_ranges, verifier, tolerance: as
            :func:`dfq_deploy.calibrate` takes them.

    Raises:
        DfqError: one of its kinds, in one line.
    """
    if (synth is None) == (data is None):
        raise SamplesError("finetune needs either a synthesis method or data, and not both")
    if resume and output is None:
        raise SamplesError("finetune: resume needs the output folder that holds the checkpoint")
    chosen = find_target(target)
    widths = Bits.parse(bits, edge_bits) if isinstance(bits, str) else bits
    method = method or DEFAULT_METHOD
    calibrator: Calibrator = find_plugin("calibrators", method)()
    if output is not None:
        check_writable(output)
    device = own_device(pick_device(device))
    plan = CalibrationPlan(chosen, widths, calibrator, refine, preprocess, seed, device)
    refiners = plan.refiners(widths)
    named = [read_teacher(teacher, preprocess, input_shape, input_shapes) for teacher in teachers]
    model = exported(model, input_shape)
    source = load(model, input_shapes=input_shapes)
    recipe = recipe or Recipe.suited_to(sample_shape(source), device)
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
    material = TrainingData(
        source, named, synth or "", data, count, preprocess, seed, device, input_ranges, chosen, widths,
        verifier, tolerance, None if output is None else output.with_name(f"{output.name}.unfinished"),
    )  # fmt: skip
    with join_processes(device) as processes:
        first, clock = processes.rank == 0, Clock()
        shown = progress if first else SILENT
        call = _call(material, recipe, method, refiners, processes)
        gathered = _gathered(material, processes, None if output is None else Checkpoints(output, call), resume, shown)
        clock.lap("samples")
        used, held = split_held_out(gathered.samples)
        run = Run(gathered.source, processes, gathered.state, gathered.keep)
        learned = train(source, used, held, plan, widths, recipe, run, clock, shown)
        prepared = learned.quantized.prepared
        outcome = Outcome(
            source=source,
            prepared=prepared.model,
            reference=learned.reference,
            target=chosen,
            placement=prepared.placement,
            encodings=learned.quantized.encodings,
            samples=gathered.samples,
            held_out=held,
            choices={
                "method": method,
                "refine": [*refiners, "finetune"],
                "headroom": headroom_of(widths.activations, gathered.samples),
                "bits": str(widths),
                "steps": learned.steps,
                "held_out_agreement": learned.agreement,
                "recipe": asdict(recipe),
            },
            seed=seed,
            preprocess=preprocess,
            warnings=(*load_notes(source), *gathered.samples.notes, *learned.warnings),
        )
        result = finish(outcome, _name(model), output if first else None, clock, shown)
        if gathered.kept_by is not None:
            gathered.kept_by.clear()
        return result


def _name(model: ModelSource) -> str:
    return Path(model).name if isinstance(model, str | PathLike) else model.graph.name or "model"


def _call(
    material: TrainingData, recipe: Recipe, method: str, refiners: Sequence[str], processes: Processes
) -> dict[str, Any]:
    """Everything that decides the result, as plain JSON."""
    data = material.data
    return {
        "model": fingerprint([material.model]),
        "synth": str(material.synth),
        "data": None if data is None else sha256(np.ascontiguousarray(data.images).data).hexdigest()[:16],
        "samples": material.count,
        "tolerance": material.tolerance,
        "bits": str(material.bits),
        "target": material.target.name,
        "method": method,
        "refine": list(refiners),
        "preprocess": str(material.preprocess),
        "seed": material.seed,
        "recipe": asdict(recipe),
        "processes": processes.count,
    }


@dataclass(frozen=True, eq=False)
class _Gathered:
    """What training begins with.

    Args:
        source: what goes on drawing, where the samples come from one.
        state: of the training that goes on; None where it begins.
        kept_by: the checkpoints, in the process that writes them.
    """

    samples: Samples
    source: Source | None
    state: dict[str, Any] | None
    kept_by: Checkpoints | None

    @property
    def keep(self) -> Callable[[Mapping[str, Any]], None] | None:
        """What is handed the state now and then."""
        return None if self.kept_by is None else self.kept_by.save


def _gathered(
    material: TrainingData, processes: Processes, checkpoints: Checkpoints | None, resume: bool, progress: Progress
) -> _Gathered:
    unfinished = material.unfinished is not None and material.unfinished.exists()
    before = checkpoints.samples() if resume and checkpoints is not None and not unfinished else None
    state = checkpoints.state() if resume and checkpoints is not None else None
    source = None
    if material.data is None and generative(material.synth) is not None:
        source = material.source(processes.rank, trained=state is None, progress=progress)

    def make() -> Samples:
        return material.synthesize(resume, progress) if source is None else material.drawn(source)

    samples = before or material.data or processes.made_once(make)
    check_samples_fit(material.model, samples)
    kept_by = checkpoints if processes.rank == 0 else None
    if kept_by is not None and before is None:
        kept_by.begin(samples)
        material.forget()
    return _Gathered(samples, source, state, kept_by)
