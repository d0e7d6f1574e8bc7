"""Turn a float model and samples into encodings: bit widths, refinements and ranges, in order."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir

from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.graph.file_info import stored_bytes
from dfq_deploy.graph.large_models import message_bytes
from dfq_deploy.plugins.contracts import Calibrator, Exporter, RangeSource, Synthesizer
from dfq_deploy.plugins.registry import exporter_of, synthesizer_of
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.quantization.bit_widths import Bits, Budget
from dfq_deploy.quantization.dynamic import Activations
from dfq_deploy.quantization.encode import Prepared, Quantized, encode, headroom_of, prepare
from dfq_deploy.quantization.known_ranges import RangeMemory
from dfq_deploy.quantization.overrides import NO_OVERRIDES, Overrides
from dfq_deploy.refinement.registry import default_refinements, in_order, refine_encodings, refine_weights, some_of
from dfq_deploy.refinement.weight_blocks import store_in_blocks
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.target import Target

__all__ = ["CalibrationPlan", "Fitted", "exporter_for_trial", "fit"]

logger = logging.getLogger(__name__)

COMPILING = frozenset({"ort", "ort-runtime", "qnn"})
"""Exporters that compile the QDQ file too, which takes a tool of the vendor, and minutes."""


@dataclass(frozen=True, eq=False)
class CalibrationPlan:
    """The settings of a calibration.

    Args:
        bits: of the layers, or a budget within which they are chosen.
        refine: names of refinements; None takes the defaults, and leaves out those that the graph does not support.
        device: on which refinements run.
        overrides: exceptions from the rules of the target.
        activations: which layers quantize their activations at run time.
        float_bytes: size of the float file, of which a budget's size is a part; None is that of the model in memory.
    """

    target: Target
    bits: Bits | Budget
    calibrator: Calibrator
    refine: Sequence[str] | None = None
    preprocess: Preprocess | None = None
    seed: int = 0
    device: str = "cpu"
    overrides: Overrides = NO_OVERRIDES
    activations: Activations = "auto"
    float_bytes: int | None = None

    def refiners(self, widths: Bits) -> tuple[str, ...]:
        """The refinements at these widths, in order.

        Raises:
            PluginError: a name is unknown.
        """
        default = () if self.activations == "float" else (*self.target.refine, *default_refinements(widths))
        names = default if self.refine is None else self.refine
        return in_order(names)

    def optional(self, refiners: tuple[str, ...]) -> tuple[str, ...]:
        """Those that are left out if the graph does not support them: all of them, unless they were requested."""
        return refiners if self.refine is None else ()


@dataclass(frozen=True, eq=False)
class Fitted:
    """A quantized model, with the choices that led to it.

    Args:
        reference: the prepared model in float, before bias correction and learned rounding.
        choices: bits, refinements and the like, for the report.
        warnings: sentences on what was left out.
    """

    quantized: Quantized
    reference: ir.Model
    choices: Mapping[str, Any]
    warnings: tuple[str, ...]


def fit(
    source: ir.Model,
    samples: Samples,
    plan: CalibrationPlan,
    synth: str | Synthesizer | None,
    teachers: Sequence[ir.Model],
    clock: Clock,
    progress: Progress = SILENT,
    memory: RangeMemory | None = None,
) -> Fitted:
    """Find encodings for ``source``, which is not changed.

    Args:
        synth, teachers: a method that gives ranges without samples (:class:`dfq_deploy.plugins.contracts.RangeSource`)
            computes them from the teachers.
        clock: gets the laps ``ranges`` and ``refinement``.
        memory: ranges of another fit on these samples, with the same bits and refinements of weights.
    """
    widths, allocation = _widths(source, samples, plan, progress)
    refiners = plan.refiners(widths)
    optional = plan.optional(refiners)
    logger.info(
        "calibration: bits %s for target '%s', calibrator %s, refinements: %s",
        *(widths, plan.target.name, type(plan.calibrator).__name__, ", ".join(refiners) or "none"),
    )
    ready = prepare(source, plan.target, widths, plan.overrides, plan.activations)
    ready, skipped = refine_weights(ready, refiners, samples, optional=optional, device=plan.device, progress=progress)
    known, unknown = _known(synth, source, teachers, ready, plan.preprocess, refiners)
    quantized = encode(ready, plan.calibrator, samples, plan.preprocess, progress, known, memory)
    if plan.activations == "float":
        store_in_blocks(ready, samples, progress)
    clock.lap("ranges")
    reference = ready.model.clone()
    refined, left_out = refine_encodings(
        quantized, refiners, samples, optional=optional, seed=plan.seed, device=plan.device, progress=progress
    )
    clock.lap("refinement")
    choices = {
        "refine": list(refiners),
        "headroom": headroom_of(widths.activations, samples),
        "known_ranges": len(known),
        "bits": str(widths),
        **allocation,
    }
    warnings = tuple(dict.fromkeys((*unknown, *quantized.warnings, *skipped, *left_out)))
    return Fitted(refined, reference, choices, warnings)


def _widths(
    source: ir.Model, samples: Samples, plan: CalibrationPlan, progress: Progress
) -> tuple[Bits, Mapping[str, Any]]:
    """The bits of every layer, and for a budget the trade-off for the report."""
    if isinstance(plan.bits, Bits):
        return plan.bits, {}
    from dfq_deploy.refinement.mixed_precision.allocation import allocate

    ready = prepare(source, plan.target, Bits(), plan.overrides)
    first = encode(ready, plan.calibrator, samples, plan.preprocess, progress)
    found = allocate(
        first,
        some_of(samples),
        budget=plan.bits,
        in_float=plan.float_bytes or message_bytes(source),
        stored=partial(_stored, ready.model, plan.target),
        device=plan.device,
        progress=progress,
    )
    return found.bits, found.to_json()


def _stored(model: ir.Model, target: Target, encodings: Mapping[str, Encoding]) -> int:
    """The size in bytes of the QDQ file of ``target``."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        exporter_for_trial(target).export(model, encodings, path)
        return stored_bytes(path)


def exporter_for_trial(target: Target) -> Exporter:
    """The exporter of ``target``, or of the QDQ file alone where it would compile it."""
    return exporter_of("qdq" if target.exporter in COMPILING else target.exporter)


def _known(
    synth: str | Synthesizer | None,
    source: ir.Model,
    teachers: Sequence[ir.Model],
    ready: Prepared,
    preprocess: Preprocess | None,
    refiners: Sequence[str],
) -> tuple[Mapping[str, Range], tuple[str, ...]]:
    """The ranges that the method gives without samples, and a note on those that it does not give."""
    method = synth if synth is None else synthesizer_of(synth)
    if not isinstance(method, RangeSource):
        return {}, ()
    if "equalize" in refiners:
        return {}, ("ranges in closed form end where equalize moves scales between layers, so all were measured",)
    tensors = ready.placement.activations
    known = method.known_ranges(source, teachers, ready.model, tensors, preprocess)
    if not known:
        return {}, (
            "the model tells no range without samples: no BatchNormalization is left (exporters fold it), so the "
            "ranges were measured on procedural samples; better give the same network with it kept as --teacher",
        )
    missing = [name for name in tensors if name not in known]
    if not missing:
        return known, ()
    shown = f"'{missing[0]}'" if len(missing) == 1 else f"'{missing[0]}' and {len(missing) - 1} more"
    return known, (f"no range in closed form for {shown} of {len(tensors)} tensors: measured on samples",)
