"""Train the student of a prepared model."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from dfq_deploy.pipeline.fit import CalibrationPlan
from dfq_deploy.plugins.contracts import Source
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.qat.distributed import Processes
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.qat.setup import make_trainer
from dfq_deploy.qat.student import QuantizedStudent
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Quantized, encode, prepare
from dfq_deploy.refinement.registry import refine_encodings, refine_weights
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin import Twin
from dfq_deploy.twin.teacher import teacher_of
from dfq_deploy.validation.budget import noted

__all__ = ["Learned", "Run", "Start", "started", "train"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Run:
    """The settings of one training run that are not part of its recipe.

    Args:
        source: draws a part of each batch; None trains on the fixed samples alone.
        processes: that train together.
        state: of an interrupted training, to continue from.
        keep: called with the state at intervals, to save it.
    """

    source: Source | None = None
    processes: Processes = field(default_factory=Processes)
    state: Mapping[str, Any] | None = None
    keep: Callable[[Mapping[str, Any]], None] | None = None


@dataclass(frozen=True, eq=False)
class Start:
    """A student before its training.

    Args:
        teacher: the float network.
        reference: the prepared model in float, before anything was learned.
        warnings: sentences on what was left out.
    """

    quantized: Quantized
    teacher: Twin
    reference: ir.Model
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Learned:
    """A trained student.

    Args:
        quantized: its weights, biases and encodings.
        reference: the prepared model in float, before anything was learned.
        student: the trained module.
        steps: number of training steps.
        agreement: with the teacher on the held-out samples: percent of equal classes, or dB.
        warnings: sentences on what was left out.
    """

    quantized: Quantized
    reference: ir.Model
    student: QuantizedStudent
    steps: int
    agreement: float
    warnings: tuple[str, ...]


def train(
    source: ir.Model,
    used: Samples,
    held: Samples,
    plan: CalibrationPlan,
    bits: Bits,
    recipe: Recipe,
    run: Run,
    clock: Clock,
    progress: Progress = SILENT,
) -> Learned:
    """Train a quantized student of ``source``, which is not changed.

    Args:
        used, held: samples to train on, and held-out samples to measure the agreement on.
        plan: how the student is calibrated before training.
        clock: gets the laps ``ranges``, ``refinement`` and ``training``.
    """
    start = started(source, used, plan, bits, clock, progress)
    training = make_trainer(
        start.quantized, start.teacher, used, held, recipe, run.source, run.processes, plan.seed, plan.device
    )
    if run.state is not None:
        training.restore(run.state)
    with noted() as notes:
        agreement = training.run(run.keep, progress)
    clock.lap("training")
    logger.info("training: %d steps, agreement with the teacher %.4g on held-out samples", training.total, agreement)
    training.student.write_back(start.quantized.prepared.model)
    warnings = tuple(dict.fromkeys((*start.warnings, *notes)))
    quantized = replace(start.quantized, encodings=training.student.encodings())
    return Learned(quantized, start.reference, training.student, training.total, agreement, warnings)


def started(
    source: ir.Model,
    used: Samples,
    plan: CalibrationPlan,
    bits: Bits,
    clock: Clock | None = None,
    progress: Progress = SILENT,
) -> Start:
    """Calibrate and refine a student of ``source`` as ``plan`` says; the arguments are those of :func:`train`."""
    clock = clock or Clock()
    refiners = plan.refiners(bits)
    optional, device = plan.optional(refiners), plan.device
    ready = prepare(source, plan.target, bits, plan.overrides)
    ready, skipped = refine_weights(ready, refiners, used, optional=optional, device=device, progress=progress)
    quantized = encode(ready, plan.calibrator, used, plan.preprocess, progress)
    clock.lap("ranges")
    # The teacher is built from the float weights, before refinement changes them.
    teacher = teacher_of(ready.model, used.extra, device)
    reference = ready.model.clone()
    quantized, left_out = refine_encodings(
        quantized, refiners, used, optional=optional, seed=plan.seed, device=device, progress=progress
    )
    clock.lap("refinement")
    return Start(quantized, teacher, reference, (*quantized.warnings, *skipped, *left_out))
