"""Compare each weight of a quantized file with the float model's: scale, zero point, values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.evaluation.equalized_weights import Equalized
from dfq_deploy.evaluation.float_weights import FloatWeight, FloatWeights
from dfq_deploy.evaluation.metrics import signal_to_noise
from dfq_deploy.evaluation.qdq_pairs import WeightPair, float_pairs
from dfq_deploy.evaluation.rescaled_tensors import rescaled_tensors
from dfq_deploy.evaluation.scale_check import FAULT, Cause, ScaleCheck, excess_of, power_of
from dfq_deploy.quantization.weights import best_bounds, encoding_of_weight, raise_scale_for_sums
from dfq_deploy.runtime.processor import LARGEST_SUM, neighbor_sums

__all__ = ["weight_checks"]

ALIVE = 1e-3
"""Power of a weight's channel, relative to the mean of all, below which its scale does not matter."""

DECIBELS_PER_BIT, BELOW = 6.0, 10.0
"""Rounding leaves ``6 bits - 10`` dB of signal to noise in usual weights."""

SAME = 0.95
"""Cosine from which a channel holds the values of another one."""

TRIED = 64
"""Channels that are looked for among the others; in a weight of many thousands all of them would take hours."""

Floats = NDArray[np.floating[Any]]


def weight_checks(
    floats: FloatWeights, quantized: ir.Model, pairs: Sequence[WeightPair]
) -> tuple[list[ScaleCheck], Equalized]:
    """The check of each weight, and the factors of the channels that were equalized.

    Args:
        quantized: with Q and DQ; layers in it that stay float are equalized too.
        pairs: its quantized weights.
    """
    checks: list[ScaleCheck] = []
    equalized = Equalized(rescaled_tensors(floats.lowered, quantized))
    narrow = _keeps_sums(pairs)
    order = {node: place for place, node in enumerate(quantized.graph)}
    for pair in sorted([*pairs, *float_pairs(quantized)], key=lambda entry: order[entry.node]):
        exact = floats.closest(pair) if pair.exact is None else FloatWeight(pair.exact)
        if exact is None or not exact.values.any():
            continue
        expected = equalized.weight(exact, pair)
        if any(pair is entry for entry in pairs):
            checks.append(_weight(pair, expected, narrow=narrow))
    return checks, equalized


def _keeps_sums(pairs: Sequence[WeightPair]) -> bool:
    """True where most weights are small enough that no sum of two products saturates on any x86 processor."""
    sums = [neighbor_sums(pair.node, pair.encoding.quantize(pair.values)) for pair in pairs]
    kept = [bool(found.max() <= LARGEST_SUM) for found in sums if found is not None]
    return 2 * sum(kept) > len(kept)


def _weight(pair: WeightPair, exact: Floats, *, narrow: bool) -> ScaleCheck:
    qtype, axis = pair.encoding.qtype, pair.encoding.axis
    good = encoding_of_weight(exact, qtype, axis, best_bounds)
    if narrow:
        good = raise_scale_for_sums(good, exact, pair.node)
    found, best = pair.values - exact, good.fake_quantize(exact) - exact
    ratios = np.atleast_1d(pair.encoding.scale / good.scale)
    snr, usual = signal_to_noise(power_of(exact), power_of(found)), DECIBELS_PER_BIT * qtype.bits - BELOW
    alone = axis is not None and exact.size == exact.shape[axis]
    # A scale for each value makes any value exact, which tells nothing.
    least = 10 ** (-usual / 10) * power_of(exact) if alone else 0.0
    excess, factor = excess_of(power_of(found), max(power_of(best), least), exact), float(np.median(ratios))
    alone_wrong: int | None = None
    if axis is not None and not alone:
        channel, worst = _worst_channel(*(np.moveaxis(array, axis, 0) for array in (found, best, exact)))
        if worst > excess + FAULT / 2:
            excess, factor, alone_wrong = worst, float(ratios[channel]), channel
    cause, detail = _cause(pair, exact, max(power_of(best), least), alone_wrong) if excess >= FAULT else ("", "")
    node = f"{pair.node.op_type} '{pair.node.name}'" + ("" if alone_wrong is None else f", channel {alone_wrong},")
    return ScaleCheck(pair.tensor, "weight", node, qtype.bits, excess, snr, factor, cause=cause, detail=detail)


def _cause(pair: WeightPair, exact: Floats, best: float, channel: int | None) -> tuple[Cause, str]:
    """Whether the values are all shifted, or stand in other channels than float's.

    Args:
        best: power of the noise of a good scale.
        channel: of the scale, where that one alone is wrong.
    """
    axis = pair.encoding.axis
    others = tuple(index for index in range(exact.ndim) if axis is None or index != axis % exact.ndim)
    shift = (pair.values - exact).mean(axis=others, keepdims=True)
    scale = pair.encoding.scale
    steps = np.rint(shift / (scale if axis is None else np.expand_dims(scale, others))).reshape(-1)
    left: Floats = pair.values - exact - shift
    there = exact
    worst = int(np.abs(steps).argmax())
    if axis is not None and channel is not None:
        left, there, worst = np.take(left, [channel], axis), np.take(exact, [channel], axis), channel
        best = _rounding(pair, channel, left.size)
    if abs(steps[worst]) >= 1 and excess_of(power_of(left), best, there) < FAULT / 2:
        zero = int(np.broadcast_to(pair.encoding.zero_point, steps.shape)[worst])
        return "zero point", f"is {zero}, where float's values need about {zero + int(steps[worst])}"
    moved = _moved_channel(pair, exact)
    return ("", "") if moved is None else ("values", "channel {} holds what float has in channel {}".format(*moved))


def _rounding(pair: WeightPair, channel: int, count: int) -> float:
    """Power of the noise that rounding ``count`` values of a channel leaves in the mean."""
    scales = np.broadcast_to(pair.encoding.scale.reshape(-1), max(channel + 1, pair.encoding.scale.size))
    return float(scales[channel]) ** 2 / 12 * count


def _moved_channel(pair: WeightPair, exact: Floats) -> tuple[int, int] | None:
    """The first output channel that holds the values of another one, and that one; None if there is none.

    Both are multiples of each other but for rounding: among many channels of few values some are alike by chance.
    """
    held, floats = (
        np.moveaxis(array, pair.axis, 0).reshape(array.shape[pair.axis], -1).astype(np.float64)
        for array in (pair.values, exact)
    )
    rows, units = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-30) for part in (held, floats))
    own = (rows * units).sum(axis=1)
    for channel in np.flatnonzero((own < SAME) & rows.any(axis=1))[:TRIED]:
        likeness = units @ rows[channel]
        other = int(likeness.argmax())
        left, by_itself = (
            power_of(held[channel] - (held[channel] @ units[place]) * units[place]) for place in (other, channel)
        )
        rounding = _rounding(pair, channel, rows.shape[1])
        is_rounded = excess_of(left, rounding, held[channel]) < FAULT / 2
        is_closer = excess_of(by_itself, left, held[channel]) >= FAULT
        if likeness[other] >= SAME and rows.shape[1] > 1 and is_rounded and is_closer:
            return int(channel), other
    return None


def _worst_channel(found: Floats, best: Floats, exact: Floats) -> tuple[int, float]:
    """The channel with the largest excess, and that excess; channels close to zero are left out."""
    powers = [power_of(channel) for channel in exact]
    alive = [index for index, power in enumerate(powers) if power >= ALIVE * sum(powers) / len(powers)]
    excess = {index: excess_of(power_of(found[index]), power_of(best[index]), exact[index]) for index in alive}
    return max(excess.items(), key=lambda entry: entry[1])
