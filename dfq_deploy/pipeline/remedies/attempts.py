"""Quantize with changed settings and measure what comes out."""

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.latency import Speed, speed_of
from dfq_deploy.graph.file_info import stored_bytes
from dfq_deploy.graph.inputs import main_input_value
from dfq_deploy.pipeline.fit import CalibrationPlan, Fitted, exporter_for_trial, fit
from dfq_deploy.pipeline.outcome import closed_model
from dfq_deploy.pipeline.remedies.floor import PERCENT
from dfq_deploy.pipeline.remedies.known import REMEDIES
from dfq_deploy.plugins.contracts import Synthesizer
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.known_ranges import RangeMemory
from dfq_deploy.quantization.overrides import Override, Overrides
from dfq_deploy.refinement.registry import REFINEMENTS
from dfq_deploy.runtime.kernels import SAME_KERNELS, count_kernels
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.batches import split_held_out
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.inputs import InputRanges
from dfq_deploy.verdict.agreement.held_out import HeldOut
from dfq_deploy.verdict.agreement.measure import Agreement, agreement_of, measure_agreement

__all__ = ["NO_INTEGERS", "Bench", "Measured", "OutOfTime", "Setting", "fewer", "fewer_samples", "with_calibrated"]

NO_INTEGERS = "nothing would run in integers"
"""Why an attempt is not kept that leaves a float model."""

TIMING_S = 0.6
"""Seconds that two files are timed in turn."""

TRIED = 16
"""Inputs of each kind on which an attempt is measured where the noise of outputs counts."""


FITTED, PART = 32, 4
"""An attempt is calibrated with a fourth of the samples there, and 32 at least."""

SURE_S, SURE = 3.0, ((0.1, 1.25), (0.0, 4.0))
"""Seconds after which it is known how long a task takes, and of which part of it on how many times too long that has to
be: the first steps tell less of the others, as the first blocks of a network take longer than the last."""

TOO_LONG = "it would not be done in time"

VALUES, FEWEST = 2**21, 8
"""Values of the main input over these samples and over the inputs to measure on, where they are large; at 8 bits eight
samples do (docs/no-data.md)."""


class OutOfTime(Exception):  # noqa: N818 - no error: the attempt is dropped
    """The time for remedies is up."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What a calibration is made of.

    Args:
        samples: all of them; an eighth is held out.
    """

    plan: CalibrationPlan
    samples: Samples

    def overriding(
        self, entries: Sequence[Override] = (), keep_float: Sequence[str] = (), reason: str = ""
    ) -> "Setting":
        """The same with more overrides; those that were asked for come last, and count.

        Args:
            entries: ranges take the place of those of other remedies for the same tensors, factors come on top.
            reason: why these nodes are kept in float, for the report.
        """
        own = self.plan.overrides
        kept = tuple(dict.fromkeys([*own.keep_float, *keep_float]))
        reasons = tuple((name, reason) for name in keep_float if name not in own.keep_float)
        new = {entry.match for entry in entries if entry.factor is None}
        before = [entry for entry in own.entries if entry.place == REMEDIES and entry.match not in new]
        asked = [entry for entry in own.entries if entry.place != REMEDIES]
        return self.planned(
            overrides=Overrides(kept, own.exclude, (*before, *entries, *asked), (*own.reasons, *reasons))
        )

    def planned(self, **changes: object) -> "Setting":
        """The same with other fields of the plan."""
        return replace(self, plan=replace(self.plan, **changes))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Measured:
    """A quantized model, and how good it is.

    Args:
        sets, agreement: the held-out inputs, and what was measured on them.
        path: its file.
    """

    setting: Setting
    fitted: Fitted
    sets: tuple[HeldOut, ...]
    agreement: Agreement
    path: Path

    @property
    def size(self) -> int:
        """Bytes of the file, with external data."""
        return stored_bytes(self.path)

    @cached_property
    def integer_layers(self) -> int:
        """How many layers run in integers; by the placement where that takes a compiler."""
        target = self.setting.plan.target.name
        if target in SAME_KERNELS:
            return count_kernels(self.path, target).integer
        return len(self.fitted.quantized.prepared.placement.weights)


@dataclass(frozen=True, eq=False)
class Bench:
    """Where settings are tried.

    Args:
        source: the float model; ``reference`` runs it.
        synth, teachers, batch: of the calibration.
        folder: for the files.
        ranges: what inputs are drawn from.
        ends: when the time is up, by ``time.perf_counter``.
        integer_io: the main input has to stay quantized.
        measured_ranges: of all settings that were tried, by what ranges depend on.
    """

    source: ir.Model
    reference: Runner
    synth: str | Synthesizer | None
    teachers: Sequence[ir.Model]
    batch: int
    folder: Path
    ranges: InputRanges | None = None
    ends: float = float("inf")
    progress: Progress = SILENT
    integer_io: bool = False
    measured_ranges: dict[tuple[object, ...], RangeMemory] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds until the time is up; 0 where it never is."""
        return max(0.0, self.ends - time.perf_counter()) if math.isfinite(self.ends) else 0.0

    def fitted(self, setting: Setting) -> Fitted:
        """Quantize with ``setting``.

        Raises:
            OutOfTime: the time is up before it is done.
            DfqError: it cannot be done.
        """
        used, _ = split_held_out(setting.samples)
        watched = _Deadline(self.progress, self.ends)
        found = fit(
            self.source, used, setting.plan, self.synth, self.teachers, Clock(), watched, self._memory(setting)
        )  # fmt: skip
        read = main_input_value(found.quantized.prepared.model).name
        if self.integer_io and read not in found.quantized.encodings:
            raise ModelError(f"input '{read}' would not be quantized, so that no bytes could be fed")
        return found

    def _memory(self, setting: Setting) -> RangeMemory | None:
        """The ranges that were measured with the same samples and weights; none where bits are chosen anew."""
        plan = setting.plan
        if not isinstance(plan.bits, Bits):
            return None
        weights = tuple(name for name in plan.refiners(plan.bits) if REFINEMENTS[name].weights is not None)
        key = setting.samples, str(plan.bits), weights, plan.activations
        return self.measured_ranges.setdefault(key, RangeMemory())

    def measured(self, setting: Setting, fitted: Fitted, sets: tuple[HeldOut, ...], name: str) -> Measured:
        """Write what was quantized, and compare it with the float model on ``sets``.

        Raises:
            DfqError: it cannot be written or run.
        """
        prepared, target = fitted.quantized.prepared, setting.plan.target
        model, encodings = closed_model(prepared.model, fitted.quantized.encodings, target, self.batch)
        path = self.folder / f"{name}.onnx"
        exporter_for_trial(target).export(model, encodings, path)
        agreement = measure_agreement(self.reference, path, sets, _Deadline(self.progress, self.ends), further=False)
        return Measured(setting, fitted, sets, agreement, path)

    def slowdown(self, first: Measured, other: Measured) -> tuple[float, float] | None:
        """Latency of ``other`` as a multiple of that of ``first``, and the least that it may be (:class:`Speed`).

        One thread, the two in turn; None where this machine cannot tell.
        """
        if first.setting.plan.target.name not in SAME_KERNELS:
            return None
        speed = _timed(first.path, other)
        return None if speed is None else (1 / speed.ratio, 1 / speed.high)

    def speed(self, found: Measured) -> Speed | None:
        """Of ``found`` against the float model, on one thread; None where this machine cannot tell."""
        if found.setting.plan.target.name not in SAME_KERNELS:
            return None
        return _timed(self.source, found)


def _timed(first: ir.Model | Path, other: Measured) -> Speed | None:
    pair = [Runner(model, quiet_threads=True, threads=1) for model in (first, other.path)]
    return speed_of(pair[0], pair[1], replace(other.sets[-1].samples, labels=None), TIMING_S)


def fewer(sets: tuple[HeldOut, ...], unit: str) -> tuple[HeldOut, ...]:
    """Parts of the held-out sets that tell attempts apart: noise of outputs is measured on few inputs that judge.

    Args:
        unit: of the figure that counts. Classes that change take all inputs.
    """
    if unit == PERCENT:
        return sets
    judging = [held for held in sets if not held.calibrated] or sets
    parts = (held.samples.part(slice(_few(held.samples, TRIED))) for held in judging)
    return tuple(replace(held, samples=part, further=None) for held, part in zip(judging, parts, strict=True))


def _few(samples: Samples, most: int) -> int:
    """So many of ``samples``, and fewer of large ones."""
    return min(most, max(FEWEST, VALUES // max(1, int(samples.images[0].size))))


def fewer_samples(setting: Setting) -> Setting:
    """``setting`` with the part of its samples that attempts are calibrated with; itself where there are not more.

    The first ones, of which the same are held out as of the whole.
    """
    count = _few(setting.samples, max(FITTED, len(setting.samples) // PART))
    return setting if count >= len(setting.samples) else replace(setting, samples=setting.samples.part(slice(count)))


def with_calibrated(found: Measured, kinds: Collection[str]) -> Measured:
    """The same, judged as if inputs of these kinds had calibrated."""
    sets = tuple(replace(held, calibrated=held.calibrated or held.kind in kinds) for held in found.sets)
    judged = [replace(kind, calibrated=kind.calibrated or kind.kind in kinds) for kind in found.agreement.kinds]
    return replace(found, sets=sets, agreement=agreement_of(judged))


class _Deadline(Progress):
    """Passes progress on, and ends the work when the time is up, or when a task will clearly not be done by then."""

    def __init__(self, shown: Progress, ends: float) -> None:
        self.shown, self.ends = shown, ends
        self.begun, self.total, self.done = time.perf_counter(), 0, 0

    def start(self, task: str, total: int) -> None:
        self._check()
        self.begun, self.total, self.done = time.perf_counter(), total, 0
        self.shown.start(task, total)

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.done += steps
        self._check()
        self.shown.advance(steps, **figures)

    def _check(self) -> None:
        now = time.perf_counter()
        if now > self.ends:
            raise OutOfTime
        if now - self.begun > SURE_S and self.done:
            expected = (now - self.begun) * self.total / self.done
            factor = next(factor for part, factor in SURE if self.done > part * self.total)
            if self.begun + expected / factor > self.ends:
                raise OutOfTime(TOO_LONG)
