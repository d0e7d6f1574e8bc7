"""Undo cross-layer equalization in a quantized file: find the factor of each channel.

Equalization multiplies weight ``w[o, i]`` and bias ``b[o]`` by a factor of output channel ``o``, and divides the weight
of the next layer by it (:mod:`dfq_deploy.refinement.cross_layer_equalization`). A wrong scale multiplies the weight
too, but neither the bias nor the next layer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.evaluation.float_weights import FloatWeight, channel_factors, deviations
from dfq_deploy.evaluation.layer_bias import bias_of
from dfq_deploy.evaluation.qdq_pairs import WeightPair
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import name_of
from dfq_deploy.quantization.weights import best_bounds, encoding_of_weight

__all__ = ["UNKNOWN", "Equalized"]

RESCALED = 0.05
"""Largest deviation of the factor of a weight's channel from that of most channels, if it was not rescaled."""

SLIGHT = 0.01
"""The same where the bias has the same factor: rounding the weight leaves the bias alone."""

FEW = 2
"""Number of channels that wrong scales may rescale; if there are more, the weight was equalized."""

TURNED = 0.004
"""1 minus the cosine between a float channel and a quantized one: larger than 8 bits ever cause."""

ALIKE = 0.99
"""Cosine between a weight and the fitted float one, below which it does not count as equalized; few bits allow less."""

WRONG = 1.5
"""Factor of a whole layer, beyond that of its bias and of the layer before it, from which its scale is wrong."""

AGREEING = 0.2
"""Largest median deviation of the logarithms of factors that should be alike, if they are trusted: of the biases and of
the weight, or of a layer's input channels and of what writes them."""

USUAL = 6.0
"""Factor of a channel, or its inverse, up to which the bias is believed: a bias may take a larger one from a scale."""

ALIVE = 1e-3
"""Power of a float channel, relative to the mean of all, below which rounding leaves nothing to tell its factor by."""

UNKNOWN = 1e-12
"""Factor of such a channel: its values then count for nothing."""

HOMOGENEOUS = frozenset(
    {"Relu", "LeakyRelu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Flatten"}
)
"""Operators that pass on the factor of a channel; a Clip does where no value of a scaled channel reaches it."""

Floats = NDArray[np.floating[Any]]


@dataclass
class Equalized:
    """The equalized layers of a file that were found so far, in the graph's order.

    Args:
        outputs: tensor of the float model that an equalized layer writes, or a Mul of the file multiplies -> factor of
            each channel (C,).
        unknown: the same -> whether a channel's weight is too small to tell its factor (C,).
    """

    outputs: dict[str, Floats] = field(default_factory=dict)
    unknown: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def weight(self, exact: FloatWeight, pair: WeightPair) -> Floats:
        """The weight that the file should hold: equalized as the file is, at the right scale.

        ``exact.values`` itself where the file is not equalized there.
        """
        before = None if exact.node is None else self._before(exact.node)
        few = exact.values.shape[pair.axis] <= FEW  # too few to find factors by
        fit = None if few and before is not None else _fitted(exact.values, pair)
        if fit is None or exact.node is None:
            back = exact.values if before is None else _taken_back(exact.values, pair, before)
            closer = max((exact.values, back), key=lambda values: _cosine(values, pair.values))
            factors = None if exact.node is None else _few_factors(exact.node, closer, pair)
            if factors is None or exact.node is None:
                return closer
            self.outputs[name_of(exact.node.outputs[0])] = factors
            return closer * np.expand_dims(factors, [axis for axis in range(closer.ndim) if axis != pair.axis])
        fitted, outer, inner = fit
        told = _told_apart(exact.node, pair, outer, inner, before)
        name, channels = name_of(exact.node.outputs[0]), exact.values.shape[pair.axis]
        if told is None:
            self.outputs[name], self.unknown[name] = np.ones(channels), np.ones(channels, bool)
            return fitted
        wrong, own = told
        rows = np.moveaxis(exact.values, pair.axis, 0).reshape(exact.values.shape[pair.axis], -1)
        powers = np.square(rows, dtype=np.float64).sum(axis=1)
        self.outputs[name] = np.exp(own)
        self.unknown[name] = (powers < ALIVE * powers.mean()) | (own < np.log(UNKNOWN) / 2)
        return fitted / wrong

    def tensors(self, model: ir.Model) -> Mapping[str, Floats]:
        """All tensors of the float model whose channels are multiplied, and by what; next to nothing if not known."""
        found: dict[str, Floats] = {}
        written = (value for node in model.graph for value in node.outputs)
        factors = {
            name: np.where(self.unknown[name], UNKNOWN, own) if name in self.unknown else own
            for name, own in self.outputs.items()
        }
        waiting = [(value, factors[name_of(value)]) for value in written if name_of(value) in factors]
        while waiting:
            value, own = waiting.pop()
            found[name_of(value)] = own
            waiting += [
                (use.node.outputs[0], own) for use in value.uses() if is_op(use.node, HOMOGENEOUS) and use.idx == 0
            ]
        return found

    def _before(self, node: ir.Node) -> Floats | None:
        """Logarithm of the factors of the channels that ``node`` reads; None if they are not multiplied."""
        value = node.inputs[0]
        while value is not None:
            name = name_of(value)
            if name in self.outputs:
                untold = self.unknown.get(name, np.zeros(len(self.outputs[name]), bool))
                return np.log(np.where(untold, UNKNOWN, self.outputs[name]))
            producer = value.producer()
            if producer is None or is_op(producer, WEIGHTED_OPS) or not is_op(producer, HOMOGENEOUS):
                return None
            value = producer.inputs[0]
        return None


def _few_factors(node: ir.Node, exact: Floats, pair: WeightPair) -> Floats | None:
    """The factors of the output channels (O,), of which few are not 1; None unless the bias has these, too."""
    first, second = bias_of(node), bias_of(pair.node)
    factors = channel_factors(exact, pair)
    if first is None or second is None or not len(first.values) == len(second.values) == len(factors):
        return None
    moved, slight = np.abs(factors - 1) > RESCALED, np.abs(factors - 1) > SLIGHT
    powers = np.square(np.moveaxis(exact, pair.axis, 0).reshape(len(factors), -1), dtype=np.float64).sum(axis=1)
    alive = powers >= ALIVE * powers.mean()  # rounding leaves nothing of the others
    same = first.values * second.values > 0
    ratios = np.where(same, second.values / np.where(same, first.values, 1.0), np.nan)
    # A slight factor counts where the bias has it too.
    moved = alive & (moved | (slight & (np.abs(ratios - factors) < np.abs(factors - 1) / 2)))
    factors = np.where(moved, factors, 1.0)
    usual = (factors > 1 / USUAL) & (factors < USUAL)
    if not moved.any() or not usual.all() or np.isnan(ratios[moved]).any():
        return None
    apart = np.abs(np.log(ratios[moved] / factors[moved]))
    return factors if apart.max() < AGREEING / 2 else None


def _taken_back(exact: Floats, pair: WeightPair, before: Floats) -> Floats:
    """``exact`` with its input channels divided by what multiplies them, as logarithms; itself where they differ.

    Where a factor is not known the file's own values stand, at the scale that the others have.
    """
    rows, given = (np.moveaxis(array, pair.axis, 0) for array in (exact, pair.values))
    if rows.shape[1] != len(before):
        return exact
    shape = (-1, *(1,) * (rows.ndim - 2))
    known = (before > np.log(UNKNOWN)).reshape(shape)
    divided = rows / np.exp(np.maximum(before, np.log(UNKNOWN))).reshape(shape)
    told = divided * known
    times = float((told * given).sum()) / max(_power(told), 1e-30)
    own = given / times if times > 0 else given
    return np.moveaxis(np.where(known, divided, own), 0, pair.axis).astype(np.float32)


def _told_apart(
    node: ir.Node, pair: WeightPair, outer: Floats, inner: Floats, before: Floats | None
) -> tuple[float, Floats] | None:
    """The factor of a wrong scale, 1 if there is none, and the logarithm of the factors of the output channels.

    None where the factors of the input channels are not those of what writes them.

    Args:
        outer, inner: logarithm of the factors of the weight's output (O,) and input channels (I,).
        before: that of the channels that the layer reads.
    """
    own, left = outer, float(np.median(inner))
    if before is not None and len(before) == len(inner):
        apart = (inner + before)[(inner > np.log(UNKNOWN)) & (before > np.log(UNKNOWN))]
        left = float(np.median(apart)) if len(apart) else left
        if len(apart) and float(np.median(np.abs(apart - left))) > AGREEING:
            return None  # something that was not found multiplies the channels
    elif before is not None and len(inner) == 1 and len(before) == len(outer):  # depthwise
        own, left = outer + before, float(inner[0])
    elif before is None and float(np.median(np.abs(inner - np.median(inner)))) > RESCALED:
        # An operator in float before the layer multiplies the channels, the largest of them by 1 (channel_ranges).
        left = float(inner.max())
    shift = _bias_shift(node, pair, own)
    if before is None and len(inner) == 1 and shift is None and _bias_shift(node, pair, np.zeros_like(own)) is not None:
        return 1.0, np.zeros_like(own)  # a depthwise layer takes back what multiplies the channels that it reads
    if shift is None:
        return 1.0, own + left
    wrong, middle = math.exp(left - shift), float(np.median(own))
    # Either the scale of the weight is wrong, or the bias: equalization multiplies most layers by about 1.
    of_weight = abs(middle + shift) < abs(middle + left)
    return (wrong, own + shift) if abs(math.log(wrong)) > math.log(WRONG) and of_weight else (1.0, own + left)


def _bias_shift(node: ir.Node, pair: WeightPair, factors: Floats) -> float | None:
    """How much more the bias is multiplied than ``factors`` say; None if the bias does not tell."""
    first, second = bias_of(node), bias_of(pair.node)
    if first is None or second is None:
        return None
    exact, given = first.values, second.values
    if exact.shape != given.shape or len(exact) != len(factors):
        return None
    told = (np.abs(exact) >= np.median(np.abs(exact))) & (exact * given > 0)
    if told.sum() < max(2, len(exact) // 4):
        return None
    shifts = np.log(given[told] / exact[told]) - factors[told]
    middle = float(np.median(shifts))
    return middle if float(np.median(np.abs(shifts - middle))) <= AGREEING else None


def _fitted(exact: Floats, pair: WeightPair) -> tuple[Floats, Floats, Floats] | None:
    """The rescaled float weight, and the logarithm of the factors of output and input channels; None if it is not."""
    first, second = (np.moveaxis(array, pair.axis, 0).astype(np.float64) for array in (exact, pair.values))
    powers = np.square(first).reshape(len(first), -1).sum(axis=1)
    alive = powers >= ALIVE * powers.mean()  # rounding leaves nothing of the others
    apart = deviations(channel_factors(exact, pair)[alive])
    good = encoding_of_weight(exact, pair.encoding.qtype, pair.encoding.axis, best_bounds).fake_quantize(exact)
    rounded = _power(good - exact) / _power(exact)
    cosines = np.array([_cosine(one, other) for one, other in zip(first[alive], second[alive], strict=True)])
    alike = 1 - cosines < max(TURNED, rounded)
    moved = int((~((apart < RESCALED) & alike)).sum())
    # A single wrong scale leaves the other channels alone.
    if np.isinf(apart).any() or moved <= max(FEW, len(apart) // 20):
        return None
    flat, quantized = (rows.reshape(*rows.shape[:2], -1) for rows in (first, second))
    outer, inner = _log_factors(flat, quantized, pair.encoding.axis)
    fitted = first * np.exp(outer[:, None] + inner).reshape(*first.shape[:2], *(1,) * (first.ndim - 2))
    if _cosine(fitted, second) < min(ALIKE, 1 - 4 * rounded):
        return None
    return np.moveaxis(fitted, 0, pair.axis).astype(np.float32), outer, inner


def _log_factors(first: Floats, second: Floats, axis: int | None) -> tuple[Floats, Floats]:
    """Logarithm of the factors of output (O,) and input channels (I,) between two weights (O, I, n).

    Medians over single values, then least squares, which rounding errors disturb less.
    """
    sizes = np.abs(second).max(axis=None if axis is None else (1, 2), keepdims=True)
    same = (first * second > 0) & (np.abs(second) >= sizes / 64)
    ratios = np.where(same, np.log(np.where(same, second / np.where(same, first, 1.0), 1.0)), np.nan)
    outer: Floats = np.zeros((len(first), 1))
    inner: Floats = np.zeros((1, first.shape[1]))
    for _ in range(4):
        outer = _medians(ratios - inner[..., None], (1, 2))[:, None]
        inner = _medians(ratios - outer[..., None], (0, 2))[None, :]
    outer[:, 0] = _by_sums(first * np.exp(inner)[..., None], second, (1, 2))
    inner[0] = _by_sums(first * np.exp(outer)[..., None], second, (0, 2))
    return outer[:, 0], inner[0]


def _by_sums(first: Floats, second: Floats, axes: tuple[int, int]) -> Floats:
    """Logarithm of the least-squares factors between two weights."""
    factors = (first * second).sum(axis=axes) / np.maximum(np.square(first).sum(axis=axes), 1e-30)
    return np.asarray(np.log(np.maximum(factors, 1e-12)))


def _cosine(first: Floats, second: Floats) -> float:
    """Cosine of the angle between two weights, independent of their scale."""
    norms = math.sqrt(_power(first) * _power(second))
    return float((first.astype(np.float64) * second).sum()) / norms if norms > 0 else 0.0


def _medians(values: Floats, axes: tuple[int, int]) -> Floats:
    """Medians of the values that are not NaN; 0 if there are none."""
    known = ~np.isnan(values).all(axis=axes, keepdims=True)
    return np.nanmedian(np.where(known, values, 0.0), axis=axes)


def _power(values: Floats) -> float:
    return float(np.square(values, dtype=np.float64).sum())
