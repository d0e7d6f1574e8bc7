"""Keep the layers in float that are slower in integers, where the result is slower than float."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dfq_deploy.errors import DfqError
from dfq_deploy.evaluation.latency import EQUAL, Speed
from dfq_deploy.graph.operators import DEQUANTIZE_OPS, QDQ_OPS, QUANTIZE_OPS, is_op
from dfq_deploy.graph.query import name_of, weighted_nodes
from dfq_deploy.graph.reading import read_any
from dfq_deploy.pipeline.remedies.attempts import NO_INTEGERS, Bench, Measured, OutOfTime
from dfq_deploy.pipeline.remedies.floor import Floor
from dfq_deploy.pipeline.remedies.steps import RemedyStep
from dfq_deploy.quantization.placement.place import FASTER_IN_FLOAT
from dfq_deploy.runtime.kernels import SAME_KERNELS
from dfq_deploy.runtime.profile import NodeTime, node_times
from dfq_deploy.samples.samples import Samples

__all__ = ["faster", "slower_layers"]

logger = logging.getLogger(__name__)

ROUNDS = 3
"""How often layers are looked for: what becomes float leaves its neighbours with conversions of their own."""

LEAST_MS = 0.5
"""Milliseconds a run below which nothing is tried: calls and conversions are all that is to be gained there."""

NAMED = 3
"""How many names a sentence lists."""


def faster(bench: Bench, best: Measured, floor: Floor) -> tuple[Measured, tuple[RemedyStep, ...]]:
    """The fastest result that still is as good, and what was tried.

    Nothing is tried on a target whose kernels are not those of this machine, for a model that takes less than
    :data:`LEAST_MS`, or where the result may be 1.05 times as fast as float. An attempt is kept where its whole
    interval of the speed lies above that of the result before it, and the floor is still reached where it was.

    Args:
        bench: its time limit holds.
        best: the result to make faster.
        floor: what the result has to reach.

    Raises:
        DfqError: the two models cannot be timed.
    """
    if best.setting.plan.target.name not in SAME_KERNELS or best.setting.plan.target.name == "web":
        return best, ()
    samples = replace(best.sets[-1].samples, labels=None)
    first, speed, steps = best, bench.speed(best), list[RemedyStep]()
    while speed is not None and _is_slow(speed) and len(steps) < ROUNDS and bench.ends > time.perf_counter():
        layers = slower_layers(bench.source, best, samples.part(np.arange(speed.batch) % len(samples)))
        if not layers:
            break
        started, found, now, reason = time.perf_counter(), None, None, ""
        try:
            setting = best.setting.overriding(keep_float=layers, reason=FASTER_IN_FLOAT)
            found = bench.measured(setting, bench.fitted(setting), best.sets, f"faster{len(steps)}")
            now = bench.speed(found)
            reason = _refused(floor, best, found, speed, now)
        except OutOfTime:
            reason = "the time was up"
        except DfqError as problem:
            reason = f"it failed: {problem}"
        step = RemedyStep(
            "faster", _said(layers), floor.figure(best.agreement),
            None if found is None else floor.figure(found.agreement), not reason, reason,
            None if now is None else speed.ratio / now.ratio,
            None if found is None else found.size - first.size, round(time.perf_counter() - started, 3),
        )  # fmt: skip
        logger.info("remedy %s", step)
        steps.append(step)
        if reason or found is None:
            break
        best, speed = found, now
    return best, tuple(steps)


def slower_layers(source: ir.Model, result: Measured, batch: Samples) -> tuple[str, ...]:
    """The quantized layers that take longer in integers, with the conversions around them, than in float.

    Those that lose most, so that half of all layers stay quantized: a float model is not what was asked for.

    Args:
        source: the float model, whose nodes have the same names.
        batch: what both are run on, with one thread.
    """
    floats, integers = (_by_name(node_times(model, batch)) for model in (source, result.path))
    prepared = result.fitted.quantized.prepared
    layers = [
        str(node.name)
        for node in weighted_nodes(prepared.model)
        if name_of(node.inputs[1]) in prepared.placement.weights
    ]
    around = _conversions(read_any(result.path), integers, frozenset(layers))
    lost = {name: integers.get(name, 0.0) + around.get(name, 0.0) - floats[name] for name in layers if name in floats}
    slow = sorted((name for name, more in lost.items() if more > 0), key=lambda name: -lost[name])
    spare = len(layers) - math.ceil(len(weighted_nodes(prepared.model)) / 2)
    return tuple(slow[: max(0, spare)])


def _by_name(times: Iterable[NodeTime]) -> dict[str, float]:
    """Milliseconds of each node; one may run as several kernels."""
    found: dict[str, float] = defaultdict(float)
    for entry in times:
        found[entry.name] += entry.milliseconds
    return dict(found)


def _conversions(model: ir.Model, times: Mapping[str, float], layers: frozenset[str]) -> dict[str, float]:
    """Milliseconds of the Q and DQ kernels around each layer; what lies between several is shared by them."""
    found: dict[str, float] = defaultdict(float)
    for node in model.graph:
        spent = times.get(str(node.name), 0.0)
        if spent == 0 or not is_op(node, QDQ_OPS):
            continue
        users = [user for user in _readers(node) | _writers(node) if user in layers]
        for user in users:
            found[user] += spent / len(users)
    return found


def _readers(node: ir.Node) -> set[str]:
    """Names of the nodes that read what ``node`` writes, through a DequantizeLinear."""
    names = set()
    for output in node.outputs:
        for use in output.uses():
            names |= _readers(use.node) if is_op(use.node, DEQUANTIZE_OPS) else {str(use.node.name)}
    return names


def _writers(node: ir.Node) -> set[str]:
    """Names of the nodes that write what ``node`` reads, through a QuantizeLinear."""
    producer = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    if producer is None:
        return set()
    return _writers(producer) if is_op(producer, QUANTIZE_OPS) else {str(producer.name)}


def _is_slow(speed: Speed) -> bool:
    return speed.high < EQUAL[1] and speed.quantized_ms >= LEAST_MS


def _refused(floor: Floor, best: Measured, found: Measured, before: Speed, now: Speed | None) -> str:
    """Why an attempt is not kept; empty where it is."""
    if now is None or now.low <= before.high:
        return "it is not faster"
    if floor.is_reached(best.agreement) and not floor.is_reached(found.agreement):
        return f"the floor ({floor}) is no longer reached"
    if not found.integer_layers:
        return NO_INTEGERS
    return ""


def _said(layers: tuple[str, ...]) -> str:
    more = f" and {len(layers) - NAMED} more" if len(layers) > NAMED else ""
    plural = "s that are" if len(layers) > 1 else " that is"
    return f"float for the {len(layers)} layer{plural} slower in integers: {', '.join(layers[:NAMED])}{more}"
