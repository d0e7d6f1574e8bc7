"""Quantize with changed settings and measure what comes out."""

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.latency import speed_of
from dfq_deploy.graph.file_info import stored_bytes
from dfq_deploy.graph.inputs import main_input_value
from dfq_deploy.pipeline.fit import CalibrationPlan, Fitted, fit
from dfq_deploy.pipeline.outcome import closed_model
from dfq_deploy.pipeline.remedies.floor import PERCENT
from dfq_deploy.plugins.contracts import Synthesizer
from dfq_deploy.plugins.registry import exporter_of
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.quantization.overrides import Override, Overrides
from dfq_deploy.runtime.kernels import SAME_KERNELS
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.batches import split_held_out
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.procedural.inputs import InputRanges
from dfq_deploy.verdict.agreement.held_out import HeldOut
from dfq_deploy.verdict.agreement.measure import Agreement, agreement_of, measure_agreement

__all__ = ["Bench", "Measured", "OutOfTime", "Setting", "fewer", "fewer_samples", "with_calibrated"]

TIMING_S = 0.6
"""Seconds that two files are timed in turn."""

TRIED = 16
"""Inputs of each kind on which an attempt is measured where the noise of outputs counts."""


FITTED, PART = 32, 4
"""An attempt is calibrated with a fourth of the samples there, and 32 at least."""


class OutOfTime(Exception):  # noqa: N818 - no error: the attempt is dropped
    """The time for remedies is up."""


COMPILING = frozenset({"ort", "ort-runtime", "qnn"})
"""Exporters that compile a QDQ file: the file itself computes the same, and is written in less time."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What a calibration is made of.

    Args:
        samples: all of them; an eighth is held out.
    """

    plan: CalibrationPlan
    samples: Samples

    def overriding(self, entries: Sequence[Override] = (), keep_float: Sequence[str] = ()) -> "Setting":
        """The same with more overrides; those that were there come last, and count."""
        own = self.plan.overrides
        kept = tuple(dict.fromkeys([*own.keep_float, *keep_float]))
        return self.planned(overrides=Overrides(kept, own.exclude, (*entries, *own.entries)))

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
        found = fit(self.source, used, setting.plan, self.synth, self.teachers, Clock(), watched)
        read = main_input_value(found.quantized.prepared.model).name
        if self.integer_io and read not in found.quantized.encodings:
            raise ModelError(f"input '{read}' would not be quantized, so that no bytes could be fed")
        return found

    def measured(self, setting: Setting, fitted: Fitted, sets: tuple[HeldOut, ...], name: str) -> Measured:
        """Write what was quantized, and compare it with the float model on ``sets``.

        Raises:
            DfqError: it cannot be written or run.
        """
        prepared, target = fitted.quantized.prepared, setting.plan.target
        model, encodings = closed_model(prepared.model, fitted.quantized.encodings, target, self.batch)
        path = self.folder / f"{name}.onnx"
        exporter_of("qdq" if target.exporter in COMPILING else target.exporter).export(model, encodings, path)
        agreement = measure_agreement(self.reference, path, sets, _Deadline(self.progress, self.ends))
        return Measured(setting, fitted, sets, agreement, path)

    def slowdown(self, first: Measured, other: Measured) -> tuple[float, float] | None:
        """Latency of ``other`` as a multiple of that of ``first``, and the least that it may be (:class:`Speed`).

        One thread, the two in turn; None where this machine cannot tell.
        """
        if first.setting.plan.target.name not in SAME_KERNELS:
            return None
        pair = [Runner(entry.path, quiet_threads=True, threads=1) for entry in (first, other)]
        speed = speed_of(pair[0], pair[1], replace(other.sets[-1].samples, labels=None), TIMING_S)
        return None if speed is None else (1 / speed.ratio, 1 / speed.high)


def fewer(sets: tuple[HeldOut, ...], unit: str) -> tuple[HeldOut, ...]:
    """Parts of the held-out sets that tell attempts apart: noise of outputs is measured on few inputs.

    Args:
        unit: of the figure that counts. Classes that change take all inputs.
    """
    if unit == PERCENT:
        return sets
    return tuple(replace(held, samples=held.samples.part(slice(TRIED))) for held in sets)


def fewer_samples(setting: Setting) -> Setting:
    """``setting`` with the part of its samples that attempts are calibrated with; itself where there are not more.

    The first ones, of which the same are held out as of the whole.
    """
    count = max(FITTED, len(setting.samples) // PART)
    return setting if count >= len(setting.samples) else replace(setting, samples=setting.samples.part(slice(count)))


def with_calibrated(found: Measured, kinds: Collection[str]) -> Measured:
    """The same, judged as if inputs of these kinds had calibrated."""
    sets = tuple(replace(held, calibrated=held.calibrated or held.kind in kinds) for held in found.sets)
    judged = [replace(kind, calibrated=kind.calibrated or kind.kind in kinds) for kind in found.agreement.kinds]
    return replace(found, sets=sets, agreement=agreement_of(judged))


@dataclass(frozen=True, eq=False)
class _Deadline(Progress):
    """Passes progress on, and ends the work when the time is up."""

    shown: Progress
    ends: float

    def start(self, task: str, total: int) -> None:
        self._check()
        self.shown.start(task, total)

    def advance(self, steps: int = 1, **figures: float) -> None:
        self._check()
        self.shown.advance(steps, **figures)

    def _check(self) -> None:
        if time.perf_counter() > self.ends:
            raise OutOfTime
