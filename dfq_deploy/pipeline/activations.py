"""Static or dynamic activations: quantize both ways, measure, and take the better one."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir

from dfq_deploy.errors import DfqError
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of
from dfq_deploy.pipeline.fit import Fitted
from dfq_deploy.pipeline.remedies.attempts import Bench, Measured, Setting
from dfq_deploy.pipeline.remedies.floor import Floor
from dfq_deploy.pipeline.remedies.run import Work
from dfq_deploy.progress import SILENT, Clock, Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.dynamic import is_worth_it
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.verdict.agreement.held_out import held_out_sets

__all__ = ["choose_activations"]

logger = logging.getLogger(__name__)

LEAST_SHARE = 0.5
"""Part of all constant weights in layers that can be dynamic, from which on this is tried: not for convolutions."""

SAME = 0.05
"""Part of the latency by which two files have to differ to count as faster and slower."""


@dataclass(frozen=True, eq=False)
class _Candidate:
    """One of the two: ``slowdown`` is its latency as a multiple of the static one's."""

    name: str
    measured: Measured
    slowdown: float = 1.0

    @property
    def is_ok(self) -> bool:
        return Floor().is_reached(self.measured.agreement)

    @property
    def figure(self) -> float:
        return Floor().figure(self.measured.agreement)


def choose_activations(
    work: Work, setting: Setting, fitted: Fitted, clock: Clock, progress: Progress = SILENT
) -> tuple[Setting, Fitted]:
    """The better of ``fitted``, whose activations are static, and the same with dynamic ones.

    Nothing is tried where most weights are in convolutions, or below 8 bits. Of two that reach the floor ``ok``, the
    faster one is taken, and the more accurate one where they are equally fast; else the one that reaches it, or comes
    closer.

    Args:
        setting: that ``fitted`` was made with.
        clock: gets the lap ``activations``.

    Returns:
        the setting of the one that is taken, and what it made; its ``choices`` tell what was measured.
    """
    plan = setting.plan
    plain = isinstance(plan.bits, Bits) and plan.bits.is_plain
    if plan.activations != "auto" or not plain or not _share(work.source, setting) >= LEAST_SHARE:
        return setting, fitted
    try:
        with TemporaryDirectory() as folder:
            static, dynamic = _measured(work, setting, fitted, Path(folder), progress)
    except DfqError as problem:
        logger.info("activations: static, since dynamic ones could not be measured: %s", problem)
        return setting, fitted
    finally:
        clock.lap("activations")
    taken = _better(static, dynamic)
    said = _said(taken, static, dynamic)
    logger.info("activations: %s", said)
    return taken.measured.setting, replace(
        taken.measured.fitted, choices={**taken.measured.fitted.choices, "activations": said}
    )


def _share(source: ir.Model, setting: Setting) -> float:
    """Part of the constant weights that layers with a dynamic kernel hold."""
    sizes = {True: 0, False: 0}
    for node in source.graph:
        weight = constant_of(node.inputs[1]) if is_op(node, WEIGHTED_OPS) and len(node.inputs) > 1 else None
        if weight is not None:
            sizes[is_worth_it(node, setting.plan.target)] += weight.size
    return sizes[True] / max(1, sum(sizes.values()))


def _measured(
    work: Work, setting: Setting, fitted: Fitted, folder: Path, progress: Progress
) -> tuple[_Candidate, _Candidate]:
    plan = setting.plan
    bench = Bench(
        work.source, Runner(work.source, name="the float model"), work.synth, work.teachers, work.batch, folder,
        work.ranges, progress=progress,
    )  # fmt: skip
    sets = held_out_sets(work.source, setting.samples, preprocess=plan.preprocess, seed=plan.seed, ranges=work.ranges)
    static = bench.measured(setting, fitted, sets, "static")
    other = setting.planned(activations="dynamic")
    dynamic = bench.measured(other, bench.fitted(other), sets, "dynamic")
    slowdown, _ = bench.slowdown(static, dynamic) or (1.0, 1.0)
    return _Candidate("static", static), _Candidate("dynamic", dynamic, slowdown)


def _better(static: _Candidate, dynamic: _Candidate) -> _Candidate:
    if static.is_ok != dynamic.is_ok:
        return static if static.is_ok else dynamic
    if static.is_ok and abs(dynamic.slowdown - 1) > SAME:
        return static if dynamic.slowdown > 1 else dynamic
    return dynamic if dynamic.figure > static.figure else static


def _said(taken: _Candidate, static: _Candidate, dynamic: _Candidate) -> Mapping[str, Any]:
    """What was measured, for the report."""
    unit = Floor().unit(static.measured.agreement)
    return {
        "taken": taken.name,
        "unit": unit,
        "static": round(static.figure, 2),
        "dynamic": round(dynamic.figure, 2),
        "slowdown_of_dynamic": round(dynamic.slowdown, 3),
    }
