"""Quantization-aware training from end to end: ``dfq_deploy.finetune``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from dfq_deploy.errors import OptionError
from dfq_deploy.files.atomic import check_writable
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.large_models import fingerprint
from dfq_deploy.graph.loading import load_notes
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.pipeline.calibrate import DEFAULT_METHOD
from dfq_deploy.pipeline.fit import CalibrationPlan
from dfq_deploy.pipeline.options import (
    FinetuneKeywords,
    ModelInputs,
    SynthesisOptions,
    check_seed,
    grouped,
    names_of,
    one_of_synth_and_data,
    overrides_of,
    preprocess_warning,
    refuse_unknown,
)
from dfq_deploy.pipeline.results import Calibration, Outcome, finish
from dfq_deploy.pipeline.synthesize import SampleOrder, load_verifier
from dfq_deploy.pipeline.train import Run, train
from dfq_deploy.pipeline.training_data import TrainingData, generative
from dfq_deploy.plugins.contracts import Source, Synthesizer
from dfq_deploy.plugins.registry import calibrator_of
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.qat.checkpoints import Checkpoints
from dfq_deploy.qat.distributed import Processes, join_processes, own_device
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import headroom_of, prepare
from dfq_deploy.quantization.overrides import Overrides
from dfq_deploy.samples.batches import check_samples_fit, split_held_out
from dfq_deploy.samples.image_folder import samples_for
from dfq_deploy.samples.preprocess import Preprocess, as_preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.session import pick_device
from dfq_deploy.targets.catalog import find_target

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["finetune"]


def finetune(
    model: "ModelSource | Module",
    *,
    synth: str | Synthesizer | None = None,
    data: Samples | AnyPath | None = None,
    bits: str | Bits = "w4a4",
    edge_bits: int | None = None,
    target: str = "cpu",
    method: str | None = None,
    refine: Sequence[str] | str | None = None,
    epochs: int | None = None,
    recipe: Recipe | None = None,
    preprocess: Preprocess | str | None = None,
    seed: int = 0,
    device: str = "auto",
    output: AnyPath | None = None,
    resume: bool = False,
    inputs: ModelInputs | None = None,
    synthesis: SynthesisOptions | None = None,
    progress: Progress = SILENT,
    **keywords: Unpack[FinetuneKeywords],
) -> Calibration:
    """Train the quantized network to say what ``model`` says, on samples that are synthesized, or given as ``data``.

    A method that is a generator is drawn from anew in each step, and adapts to the student in turn. An eighth of the
    samples is held out of the training. Under ``torchrun`` all processes train one student; the first one writes.

    Args:
        model, synth, data, target, preprocess, seed, device, inputs, synthesis: as
            :func:`~dfq_deploy.pipeline.calibrate.calibrate` takes them.
        bits: widths of weights and activations; every layer has them, the first and the last too. The network's input
            has 8 bits, its outputs are float.
        edge_bits: widths of the first and the last layer, where they are to be larger.
        method: the calibrator whose ranges training starts from; None is the one that measures best.
        refine: names of refinements that come before the training; None is what measures best.
        epochs: passes over the samples, instead of the recipe's.
        recipe: schedule, rates and losses; None is what suits the size of the input.
        output: the folder for the results, and for checkpoints until they are there.
        resume: go on from the checkpoint in ``output``; the result is the same, bit for bit, as without the break.
        keywords: fields of :class:`~dfq_deploy.pipeline.options.ModelInputs` and
            :class:`~dfq_deploy.pipeline.options.SynthesisOptions`; ``keep_float``, ``exclude`` and ``overrides`` as
            :func:`~dfq_deploy.pipeline.calibrate.calibrate` takes them.

    Raises:
        DfqError: one of its kinds, in one line.
    """
    refuse_unknown("finetune", keywords, FinetuneKeywords)
    one_of_synth_and_data("finetune", synth, data)
    if resume and output is None:
        raise OptionError("finetune: resume needs the output folder that holds the checkpoint")
    fed, options = grouped(ModelInputs, inputs, keywords), grouped(SynthesisOptions, synthesis, keywords)
    check_seed(seed)
    chosen, pixels = find_target(target), as_preprocess(preprocess)
    widths = bits if isinstance(bits, Bits) else Bits.parse(str(bits), edge_bits)
    method = method or DEFAULT_METHOD
    calibrator = calibrator_of(method)
    folder = None if output is None else as_path(output, "output")
    if folder is not None:
        check_writable(folder)
    device = own_device(pick_device(device))
    overrides = overrides_of(keywords)
    plan = CalibrationPlan(chosen, widths, calibrator, names_of(refine), pixels, seed, device, overrides)
    refiners = plan.refiners(widths)
    teachers = [fed.teacher(teacher, pixels) for teacher in options.teachers]
    source, name = fed.load(model, data)
    if overrides:
        prepare(source, chosen, widths, overrides)  # refused before any work
    verifier = load_verifier(options.verifier, source, pixels, fed)
    recipe = recipe or Recipe.suited_to(sample_shape(source), device)
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
    given = None if data is None else samples_for(data, source, pixels, options.count)
    order = SampleOrder(source, teachers, synth or "", fed, options, pixels, chosen, widths, seed, device)
    unfinished = None if folder is None else folder.with_name(f"{folder.name}.unfinished")
    material = TrainingData(order, given, verifier, unfinished)
    with join_processes(device) as processes:
        first, clock = processes.rank == 0, Clock()
        shown = progress if first else SILENT
        call = _call(material, recipe, method, refiners, processes, overrides)
        gathered = _gathered(material, processes, None if folder is None else Checkpoints(folder, call), resume, shown)
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
            preprocess=pixels,
            teachers=teachers,
            ranges=fed.input_ranges,
            device=device,
            warnings=(
                *load_notes(source),
                *gathered.samples.notes,
                *preprocess_warning(gathered.samples, pixels),
                *learned.warnings,
            ),
        )
        result = finish(outcome, name, folder if first else None, clock, shown)
        if gathered.kept_by is not None:
            gathered.kept_by.clear()
        return result


def _call(
    material: TrainingData,
    recipe: Recipe,
    method: str,
    refiners: Sequence[str],
    processes: Processes,
    overrides: Overrides,
) -> dict[str, Any]:
    """Everything that decides the result, as plain JSON."""
    data, order = material.data, material.order
    return {
        "model": fingerprint([material.model]),
        "synth": str(order.synth),
        "data": None if data is None else sha256(np.ascontiguousarray(data.images).data).hexdigest()[:16],
        "samples": order.options.count,
        "tolerance": order.options.tolerance,
        "bits": str(order.bits),
        "target": order.target.name,
        "method": method,
        "refine": list(refiners),
        "preprocess": str(order.preprocess),
        "seed": order.seed,
        "recipe": asdict(recipe),
        "processes": processes.count,
        **({"overrides": str(overrides)} if overrides else {}),
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
    if material.data is None and generative(material.order.synth) is not None:
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
