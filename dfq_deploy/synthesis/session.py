"""Prepare the request for a synthesis method and run it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
import torch

from dfq_deploy.errors import ModelError, OptionError, first_line
from dfq_deploy.graph.inputs import (
    ExtraInputs,
    is_channels_last,
    main_input,
    model_inputs,
    other_inputs,
    sample_shape,
)
from dfq_deploy.graph.large_models import fingerprint
from dfq_deploy.graph.query import batch_normalizations, score_count
from dfq_deploy.plugins.contracts import EarlyStopping, Student, SynthesisRequest, Synthesizer
from dfq_deploy.plugins.options import is_paper
from dfq_deploy.plugins.registry import synthesizer_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.feature_statistics import feature_statistics
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.samples.sizes import default_count
from dfq_deploy.synthesis.bounds import bounds_note, sample_bounds
from dfq_deploy.synthesis.inversion.early_stopping import AUTO, DEFAULT, range_function
from dfq_deploy.synthesis.inversion.journal import FolderJournal
from dfq_deploy.synthesis.measured_statistics import with_measured_statistics
from dfq_deploy.synthesis.procedural.inputs import InputRanges, InputRule, is_drawn, refuse_unknown, rule_of
from dfq_deploy.synthesis.states import fed_back
from dfq_deploy.twin.teacher import teacher_of
from dfq_deploy.validation.budget import ENOUGH, budget

__all__ = ["FALLBACK", "RULE", "Checkpointing", "StudentFactory", "pick_device", "synthesize_from"]

logger = logging.getLogger(__name__)

FALLBACK = "procedural"
"""The method that is used if a method needs BatchNormalization statistics and the model has none."""

MEASURED_SEED = 104_729
"""Added to the seed of the pictures whose statistics are matched."""

TARGETS_MISSED, FEWEST_TARGETS = 0.5, 8
"""A smaller share of at least so many samples that get their target class is worth a note."""

FEATURES = "the graph standardizes its input, whose features seem to have"

StudentFactory: TypeAlias = Callable[[SynthesisRequest, ExtraInputs], Student]
"""Creates the quantized network for a request; the other inputs of the model are fixed to their first rows."""


@dataclass(frozen=True)
class Checkpointing:
    """Where the state of an unfinished synthesis is stored.

    Args:
        folder: the folder of the journal; the caller deletes it once the samples are saved.
        resume: continue from the contents of the folder.
        facts: what the samples depend on in addition to the arguments of :func:`synthesize_from`.
    """

    folder: Path
    resume: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


RULE = "rule"
"""The name of the method if all inputs of a model are integers, which are drawn by rules."""


def synthesize_from(
    model: ir.Model,
    synth: str | Synthesizer,
    teachers: Sequence[ir.Model],
    *,
    count: int | None,
    preprocess: Preprocess | None,
    seed: int,
    device: str,
    ranges: InputRanges | None = None,
    student: StudentFactory | None = None,
    checkpointing: Checkpointing | None = None,
    tolerance: float | str | None = None,
    statistics: str | None = None,
    progress: Progress = SILENT,
) -> Samples:
    """Synthesize samples for ``model`` from ``teachers``, or from the model itself if there are none.

    Args:
        count: number of samples; None is the default for the size of the input.
        student: called by methods that search for samples on which the quantized network differs from the teacher.
        checkpointing: where the state of the unfinished synthesis is stored; None stores nothing.
        tolerance: of :class:`dfq_deploy.plugins.contracts.EarlyStopping`, or ``auto``; None and 0 disable early
            stopping.
        statistics: the method that draws pictures whose statistics are matched where no BatchNormalization is left
            (:mod:`dfq_deploy.synthesis.measured_statistics`); None draws :data:`FALLBACK` samples instead.

    Raises:
        ModelError: a teacher does not fit the model, or the graph cannot be inverted.
        PluginError: no method of that name is installed.
    """
    for teacher in teachers:
        _check_teacher(model, teacher)
    method = synthesizer_of(synth)
    name = synth if isinstance(synth, str) else method.name
    sources = list(teachers) or [model]
    inputs = model_inputs(model)
    main = main_input(inputs)
    refuse_unknown(model, ranges or {})
    notes: tuple[str, ...] = ()
    if method.needs_statistics and not any(batch_normalizations(source) for source in sources) and statistics:
        pictures = synthesize_from(
            model,
            statistics,
            (),
            count=None,
            preprocess=preprocess,
            seed=seed + MEASURED_SEED,
            device=device,
            ranges=ranges,
        )
        sources = [with_measured_statistics(model, pictures)]
        notes = (
            f"no BatchNormalization is left in the model, so {name} matched the statistics of {len(pictures)} "
            f"{pictures.method} samples",
        )
    elif method.needs_statistics and not any(batch_normalizations(source) for source in sources):
        notes = (
            f"{name} matches BatchNormalization statistics and none are left in the model (exporters fold them), so "
            f"{FALLBACK} samples were used; for better ones give the same network exported with its BatchNormalization "
            "as --teacher",
        )
        name, method = FALLBACK, synthesizer_of(FALLBACK)
    shape = sample_shape(model)
    count = default_count(shape) if count is None else count
    rules = [rule_of(model, other, ranges or {}) for other in other_inputs(inputs)]
    bounds = None if is_drawn(main) else sample_bounds(model, preprocess, ranges or {}, teachers)
    extra = {rule.port.name: rule.draw(count, seed, bounds) for rule in rules}
    notes = (*notes, *(str(rule) for rule in rules))
    if is_drawn(main):
        rule = rule_of(model, main, ranges or {})
        logger.info("synthesis: %d samples of shape %s drawn by rules, seed %d", count, shape, seed)
        return fed_back(model, _drawn(rule, rules, count, seed, extra), ranges or {})
    if bounds is not None and preprocess is None and main.is_float and main.name not in (ranges or {}):
        notes = (*notes, bounds_note(model, teachers))
    channels_last = is_channels_last(model)
    request = SynthesisRequest(
        count=count,
        shape=_channels_first(shape, channels_last, bounds),
        classes=score_count(model),
        preprocess=bounds,
        seed=seed,
        device=pick_device(device),
    )
    if student is not None:
        request = replace(request, student=partial(student, request, extra))
    needs_twins = method.needs_statistics or method.needs_twin
    twins = [teacher_of(source, extra, request.device) for source in sources] if needs_twins else []
    tolerance = _tolerance(tolerance, method, request)
    if checkpointing is not None:
        facts = {**_facts(name, method, sources, request, tolerance), **checkpointing.facts}
        request = replace(request, journal=FolderJournal(checkpointing.folder, facts, resume=checkpointing.resume))
    if tolerance is not None and twins:
        request = replace(request, early_stopping=EarlyStopping(range_function(twins[0]), tolerance))
    logger.info(
        "synthesis: %d samples of shape %s by %s on %s, seed %d, %d teacher(s)",
        *(count, request.shape, name, request.device, seed, len(twins)),
    )
    logger.debug("synthesis: method %s, tolerance %s, preprocess %s", method, tolerance, request.preprocess)
    samples = method.synthesize(twins, request, progress)
    logger.info("synthesis: %s", _figures(samples.figures))
    images = samples.images.transpose(0, 2, 3, 1) if channels_last else samples.images
    images = np.ascontiguousarray(images if main.is_float else np.rint(images))
    features = feature_statistics(model) if bounds is None and not twins else None
    if features is not None:
        images, notes = features.scaled(images), (*notes, f"{FEATURES} {features}, which the samples have")
    made = replace(samples, images=images, method=name, synthetic=True, extra=extra, preprocess=preprocess)
    return fed_back(model, replace(made, notes=(*samples.notes, *_missed_targets(samples), *notes)), ranges or {})


def _drawn(rule: InputRule, others: Sequence[InputRule], count: int, seed: int, extra: ExtraInputs) -> Samples:
    """Samples of a main input that is drawn by a rule, with the other inputs."""
    images = rule.draw(count, seed).astype(np.float32)
    return Samples(images, method=RULE, synthetic=True, notes=(str(rule), *map(str, others)), extra=extra)


def _missed_targets(samples: Samples) -> tuple[str, ...]:
    """A note if most of the samples do not get the class that they were made for."""
    hit = samples.figures.get("target_hit", 1.0)
    if hit >= TARGETS_MISSED or len(samples) < FEWEST_TARGETS:
        return ()
    return (
        f"only {100 * hit:.3g} % of the samples get the class that they were made for, so they say little of the last "
        "layers; check --preprocess, or use another method or a longer schedule",
    )


def _figures(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items()) or "no figures"


def _tolerance(tolerance: float | str | None, method: Synthesizer, request: SynthesisRequest) -> float | None:
    """The tolerance as a number; None disables early stopping."""
    if tolerance != AUTO:
        return float(tolerance) if tolerance else None
    has_fixed_iterations = method.iterations is not None
    return None if has_fixed_iterations or not is_paper(method.schedule, request) else DEFAULT


def _facts(
    name: str, method: Synthesizer, sources: Sequence[ir.Model], request: SynthesisRequest, tolerance: float | None
) -> dict[str, Any]:
    """Everything that the samples depend on, by the name that the user knows it by."""
    names = [option.name for option in fields(method)]  # type: ignore[arg-type]
    options = {f"--option {option}": getattr(method, option) for option in names}
    return {
        "the method": name,
        **options,
        "the model or a teacher (its fingerprint)": fingerprint(sources),
        "--samples": request.count,
        "--preprocess": request.preprocess,
        "--seed": request.seed,
        "--device": request.device.partition(":")[0],
        "--tolerance": tolerance,
        "--max-memory": f"{budget():,} bytes" if budget() < ENOUGH else "not below 2 GiB",
    }


def _channels_first(shape: tuple[int, ...], channels_last: bool, bounds: Preprocess | None) -> tuple[int, ...]:
    """The shape of a sample as methods make it; bounds for another number of channels are refused before any work."""
    first = (shape[2], *shape[:2]) if channels_last else shape
    if bounds is not None and len(first) == 3:
        bounds.bounds(first[0])
    return first


def pick_device(device: str) -> str:
    """Resolve a device name: ``auto`` is the first GPU, or the CPU if there is none.

    Raises:
        OptionError: the device is not available on this machine.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as problem:
        reason = "no such device" if "device string" in str(problem) else first_line(problem)
        raise OptionError(f"device '{device}' is not available here ({reason}); use --device cpu or auto") from None
    return device


def _check_teacher(model: ir.Model, teacher: ir.Model) -> None:
    properties: dict[str, Callable[[ir.Model], Any]] = {"input shape": sample_shape, "number of classes": score_count}
    for name, property_of in properties.items():
        expected, actual = property_of(model), property_of(teacher)
        if expected != actual:
            raise ModelError(
                f"--teacher does not fit the model: its {name} is {actual}, the model's {expected}; give the same "
                "network exported with its BatchNormalization, or others with the same input and classes"
            )
