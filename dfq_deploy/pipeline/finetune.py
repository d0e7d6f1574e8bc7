"""Quantization-aware training from end to end: ``dfq_deploy.finetune``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Unpack

from dfq_deploy.errors import OptionError
from dfq_deploy.files.arrays import digest
from dfq_deploy.files.atomic import check_writable
from dfq_deploy.files.overwriting import refuse_overwriting
from dfq_deploy.files.paths import AnyPath, as_path
from dfq_deploy.files.unfinished import unfinished_beside
from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.large_models import fingerprint
from dfq_deploy.graph.loading import load_notes
from dfq_deploy.graph.reading import ModelSource, blames_the_file
from dfq_deploy.graph.torch_export import TorchSource
from dfq_deploy.pipeline.calibrate import DEFAULT_METHOD
from dfq_deploy.pipeline.fit import CalibrationPlan
from dfq_deploy.pipeline.keywords import FinetuneKeywords, refuse_unknown
from dfq_deploy.pipeline.options import (
    ModelInputs,
    SynthesisOptions,
    check_seed,
    grouped,
    names_of,
    one_of_synth_and_data,
    overrides_of,
    preprocess_warning,
)
from dfq_deploy.pipeline.outcome import Outcome
from dfq_deploy.pipeline.reporting import Call
from dfq_deploy.pipeline.results import Calibration, finish, results_in
from dfq_deploy.pipeline.synthesize import SampleOrder, chosen_method, load_verifier
from dfq_deploy.pipeline.train import Run, train
from dfq_deploy.pipeline.training_data import TrainingData, generative
from dfq_deploy.plugins.contracts import Source, Synthesizer
from dfq_deploy.plugins.registry import calibrator_of
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.qat.checkpoints import Checkpoints
from dfq_deploy.qat.distributed import Processes, join_processes, own_device
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.quantization.bit_widths import Bits, check_widths
from dfq_deploy.quantization.encode import headroom_of, prepare
from dfq_deploy.quantization.overrides import Overrides
from dfq_deploy.samples.batches import check_samples_fit, split_held_out
from dfq_deploy.samples.preprocess import Preprocess, as_preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.session import pick_device
from dfq_deploy.synthesis.text import data_for
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.validation.budget import ENOUGH, budget

__all__ = ["finetune"]


@blames_the_file
def finetune(
    model: "ModelSource | TorchSource",
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
    """Train the quantized network to reproduce the outputs of ``model``, on synthesized samples or on ``data``.

    A method with a generator draws new samples in each step, and trains the generator in turn with the student. An
    eighth of the samples is held out of the training. Under ``torchrun`` all processes train one student; the first
    one writes.

    Args:
        model, synth, data, target, preprocess, seed, device, inputs, synthesis: as
            :func:`~dfq_deploy.pipeline.calibrate.calibrate` takes them.
        bits: widths of weights and activations; every layer has them, the first and the last too. The network's input
            has 8 bits, its outputs are float.
        edge_bits: width of the first and the last layer, if it should be larger.
        method: the calibrator whose ranges training starts from; None is the default.
        refine: names of refinements before the training; None takes the defaults.
        epochs: passes over the samples, instead of the recipe's.
        recipe: schedule, learning rates and losses; None is the default for the size of the input.
        output: the folder for the results, and for checkpoints until they are written.
        resume: continue from the checkpoint in ``output``; the result is bit-identical to that of an uninterrupted run.
        keywords: fields of :class:`~dfq_deploy.pipeline.options.ModelInputs` and
            :class:`~dfq_deploy.pipeline.options.SynthesisOptions`; ``keep_float``, ``exclude`` and ``overrides`` as
            :func:`~dfq_deploy.pipeline.calibrate.calibrate` takes them, and ``compare`` and ``labels`` likewise.

    Raises:
        DfqError: one of its subclasses, with a one-line message.
    """
    refuse_unknown("finetune", keywords, FinetuneKeywords)
    one_of_synth_and_data("finetune", synth, data)
    if resume and output is None:
        raise OptionError("finetune: resume needs the output folder that holds the checkpoint")
    fed, options = grouped(ModelInputs, inputs, keywords), grouped(SynthesisOptions, synthesis, keywords)
    check_seed(seed)
    asked = Call.of(finetune, locals(), keywords)
    chosen, pixels = find_target(target), as_preprocess(preprocess)
    widths = bits if isinstance(bits, Bits) else Bits.parse(str(bits), edge_bits)
    check_widths(widths, chosen)
    if widths.floating:
        raise OptionError("bits: finetune trains integers; give widths such as w4a4")
    method = method or DEFAULT_METHOD
    calibrator = calibrator_of(method)
    folder = None if output is None else as_path(output, "output")
    if folder is not None:
        check_writable(folder)
        refuse_overwriting(results_in(folder), (model, data, options.verifier, *options.teachers))
    device = own_device(pick_device(device))
    overrides = overrides_of(keywords)
    plan = CalibrationPlan(chosen, widths, calibrator, names_of(refine), pixels, seed, device, overrides)
    refiners = plan.refiners(widths)
    teachers = [fed.teacher(teacher, pixels) for teacher in options.teachers]
    source, name = asked.checked(*fed.load(model, data))
    synth, choice = chosen_method(synth, source, teachers, widths)
    if overrides:
        prepare(source, chosen, widths, overrides)  # refused before any work
    verifier = load_verifier(options.verifier, source, pixels, fed)
    recipe = recipe or Recipe.suited_to(sample_shape(source), device)
    recipe = recipe if epochs is None else replace(recipe, epochs=epochs)
    given = (
        None
        if data is None
        else data_for(data, source, pixels, options.count, keywords.get("labels"), beside=model, seed=seed)
    )
    order = SampleOrder(source, teachers, synth or "", fed, options, pixels, chosen, widths, seed, device)
    unfinished = None if folder is None else unfinished_beside(folder)
    training_data = TrainingData(order, given, verifier, unfinished)
    with join_processes(device) as processes:
        first, clock = processes.rank == 0, Clock()
        shown = progress if first else SILENT
        call = _call(training_data, recipe, method, refiners, processes, overrides)
        start = _start(training_data, processes, None if folder is None else Checkpoints(folder, call), resume, shown)
        clock.lap("samples")
        used, held = split_held_out(start.samples)
        run = Run(start.source, processes, start.state, start.keep)
        learned = train(source, used, held, plan, widths, recipe, run, clock, shown)
        prepared = learned.quantized.prepared
        outcome = Outcome(
            source=source,
            prepared=prepared.model,
            reference=learned.reference,
            target=chosen,
            placement=prepared.placement,
            encodings=learned.quantized.encodings,
            samples=start.samples,
            held_out=held,
            choices={
                **choice,
                "method": method,
                "refine": [*refiners, "finetune"],
                "headroom": headroom_of(widths.activations, start.samples),
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
            about=asked.about(source, name),
            warnings=(
                *load_notes(source),
                *start.samples.notes,
                *preprocess_warning(start.samples, pixels),
                *learned.warnings,
            ),
        )
        result = finish(outcome, name, folder if first else None, clock, shown)
        if start.kept_by is not None:
            start.kept_by.clear()
        return result


def _call(
    training_data: TrainingData,
    recipe: Recipe,
    method: str,
    refiners: Sequence[str],
    processes: Processes,
    overrides: Overrides,
) -> dict[str, Any]:
    """Everything that determines the result, as plain JSON."""
    data, order = training_data.data, training_data.order
    return {
        "model": fingerprint([training_data.model]),
        "synth": str(order.synth),
        "data": None if data is None else digest(data.images),
        "samples": order.options.count,
        "tolerance": order.options.tolerance,
        "statistics": order.options.statistics,
        "bits": str(order.bits),
        "target": order.target.name,
        "method": method,
        "refine": list(refiners),
        "preprocess": str(order.preprocess),
        "seed": order.seed,
        "recipe": asdict(recipe),
        "processes": processes.count,
        **({"overrides": str(overrides)} if overrides else {}),
        **({"max_memory": budget()} if budget() < ENOUGH else {}),
    }


@dataclass(frozen=True, eq=False)
class _Start:
    """What training starts with.

    Args:
        source: the generator, if samples are drawn during training.
        state: of the training to continue; None for a new one.
        kept_by: the checkpoints, in the process that writes them.
    """

    samples: Samples
    source: Source | None
    state: dict[str, Any] | None
    kept_by: Checkpoints | None

    @property
    def keep(self) -> Callable[[Mapping[str, Any]], None] | None:
        """The function that saves the state, in the process that writes."""
        return None if self.kept_by is None else self.kept_by.save


def _start(
    training_data: TrainingData, processes: Processes, checkpoints: Checkpoints | None, resume: bool, progress: Progress
) -> _Start:
    unfinished = training_data.unfinished is not None and training_data.unfinished.exists()
    before = checkpoints.samples() if resume and checkpoints is not None and not unfinished else None
    state = checkpoints.state() if resume and checkpoints is not None else None
    source = None
    if training_data.data is None and generative(training_data.order.synth) is not None:
        source = training_data.source(processes.rank, trained=state is None, progress=progress)

    def make() -> Samples:
        return training_data.synthesize(resume, progress) if source is None else training_data.drawn(source)

    samples = before or training_data.data or processes.made_once(make)
    check_samples_fit(training_data.model, samples)
    kept_by = checkpoints if processes.rank == 0 else None
    if kept_by is not None and before is None:
        kept_by.begin(samples)
        training_data.remove_unfinished()
    return _Start(samples, source, state, kept_by)
