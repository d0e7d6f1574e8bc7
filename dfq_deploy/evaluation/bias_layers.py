"""The biases of a quantized file beside those that the float model explains.

A quantized file rarely has float's biases: bias correction and reconstruction move them by what rounding the weights
moves the mean of each channel, and equalization multiplies them. Both are worked out here, from the weights of both
files and the float model's values.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.evaluation.float_weights import FloatWeights
from dfq_deploy.evaluation.layer_bias import LayerBias, bias_of
from dfq_deploy.evaluation.qdq_pairs import WeightPair
from dfq_deploy.evaluation.tensor_values import tensor_values
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.samples.samples import Samples

__all__ = ["BiasLayer", "Multiple", "bias_layers"]

ALIVE = 1e-3
"""Power of a weight's channel, relative to the mean of all, below which it tells nothing of its scale."""

LARGEST = 1000.0
"""Largest factor of a channel by equalization, and its inverse the smallest."""

Floats = NDArray[np.floating[Any]]


class Multiple(NamedTuple):
    """A bias as a multiple of float's.

    Args:
        times: that of float's bias.
        correction: that of what corrects it, relative to ``times``.
        cosine: between the bias and the fitted one.
    """

    times: float
    correction: float
    cosine: float


@dataclass(frozen=True, eq=False)
class BiasLayer:
    """A layer of the quantized file, and the float one that it was made from; values are those of its channels.

    Args:
        given: the bias of the quantized file.
        exact: float's, at the scale of equalized channels.
        corrected: the same, moved by what the weights' rounding moves the mean.
        spread: standard deviation of the layer's output at that scale (C,).
        alive: bool (C,), whether a channel has a weight to tell its scale by.
    """

    pair: WeightPair
    given: LayerBias
    exact: Floats
    corrected: Floats
    spread: Floats
    alive: Floats

    @property
    def where(self) -> str:
        return f"{self.pair.node.op_type} '{self.pair.node.name}'"

    def unexplained(self) -> Floats:
        """What neither the float bias nor its correction explains (C,), in standard deviations."""
        moved = np.stack([self.given.values - self.exact, self.given.values - self.corrected])
        # A correction may be partial.
        least = np.where(np.sign(moved[0]) == np.sign(moved[1]), np.abs(moved).min(axis=0), 0.0)
        return np.asarray(np.where(self.alive, least / self.spread, 0.0))

    def rms(self, values: Floats) -> float:
        """Root mean square over the channels that count."""
        return float(np.sqrt(np.mean(np.square(values[self.alive]))))

    def multiples(self) -> Iterator[Multiple]:
        """The bias as a multiple of float's alone, of the corrected one, and of both in any proportion."""
        given, exact, shift = (
            (values / self.spread)[self.alive]
            for values in (self.given.values, self.exact, self.corrected - self.exact)
        )
        for parts in (np.stack([exact], axis=1), np.stack([exact + shift], axis=1), np.stack([exact, shift], axis=1)):
            factors = np.linalg.lstsq(parts, given, rcond=None)[0]
            fitted, times = parts @ factors, float(factors[0])
            cosine = float(given @ fitted) / math.sqrt(max(float(given @ given) * float(fitted @ fitted), 1e-30))
            if times:
                yield Multiple(times, float(factors[1]) / times if len(factors) > 1 else 1.0, cosine)


def bias_layers(
    floats: FloatWeights, pairs: Sequence[WeightPair], factors: Mapping[str, Floats], samples: Samples
) -> Iterator[BiasLayer]:
    """The layers of both files that have a bias in the same form.

    Args:
        pairs: the quantized weights of the file, whose layers are looked at.
        factors: tensor of the float model -> factor of each of its channels by equalization.
        samples: a few.

    Raises:
        ModelError, SamplesError: ONNX Runtime fails on them.
    """
    judged = [(pair, node, bias) for pair in pairs for node, bias in _float_layer(floats, pair)]
    if not judged:
        return
    ends = [value for _, node, _ in judged for value in (node.inputs[0], node.outputs[0])]
    axes = {name_of(value): _channel_axis(node) for _, node, _ in judged for value in (*node.inputs[:1], *node.outputs)}
    values = tensor_values(floats.folded, [name_of(value) for value in ends], samples, axes)
    for pair, node, exact in judged:
        layer = _layer(pair, node, exact, values, factors)
        if layer is not None:
            yield layer


def _float_layer(floats: FloatWeights, pair: WeightPair) -> Iterator[tuple[ir.Node, LayerBias]]:
    """The float layer of a weight and its bias, where both files have it in the same form."""
    node = next((node for node in floats.nodes(pair.node) if node.op_type == pair.node.op_type), None)
    weight = None if node is None or len(node.inputs) <= 1 else constant_of(node.inputs[1])
    if node is None or weight is None or tuple(weight.shape.numpy()) != pair.values.shape or pair.place != 1:
        return
    readers = [use.node for use in node.outputs[0].uses()]
    affine = ("Mul", "Div", "Add", "Sub", "BatchNormalization")
    moved = (
        len(readers) == 1 and is_op(readers[0], affine) and any(constant_of(v) is not None for v in readers[0].inputs)
    )
    bias = bias_of(node)
    if bias is not None and not (moved and bias.adder is None):
        yield node, bias


def _channel_axis(node: ir.Node) -> int:
    return -1 if is_op(node, "MatMul") else 1


def _layer(
    pair: WeightPair, node: ir.Node, exact: LayerBias, values: Mapping[str, Floats], factors: Mapping[str, Floats]
) -> BiasLayer | None:
    given = bias_of(pair.node)
    read, written = (values.get(name_of(value)) for value in (node.inputs[0], node.outputs[0]))
    weight = constant_of(node.inputs[1])
    if given is None or read is None or written is None or weight is None:
        return None
    scale = factors.get(name_of(node.outputs[0]), np.ones(len(exact.values)))
    if not len(scale) == len(exact.values) == len(given.values):
        return None
    means = read.mean(axis=1, dtype=np.float64)
    scaled = means * factors.get(name_of(node.inputs[0]), 1.0)
    before, after = (_products(node, *part) for part in ((weight.numpy(), means), (pair.values, scaled)))
    if before is None or after is None or len(before) != len(scale):
        return None
    rows = np.moveaxis(weight.numpy(), pair.axis, 0).reshape(len(scale), -1)
    powers = np.square(rows, dtype=np.float64).sum(axis=1)
    alive = (powers > ALIVE * powers.mean()) & (np.abs(np.log(scale)) < math.log(LARGEST))
    spread = float(written.std()) * scale
    if not (spread > 0).all() or not alive.any():
        return None
    bias = exact.values * scale
    return BiasLayer(pair, given, bias, bias - (after - before * scale), spread, alive)


def _products(node: ir.Node, weight: Floats, means: Floats) -> Floats | None:
    """What a layer without bias writes where each channel has its mean everywhere (O,); None for other layers."""
    if is_op(node, ("MatMul", "Gemm")):
        matrix = weight.T if node.attributes.get_int("transB", 0) else weight
        return None if matrix.ndim != 2 or len(matrix) != len(means) else means @ matrix
    if not is_op(node, "Conv"):
        return None
    groups = node.attributes.get_int("group", 1)
    sums = weight.reshape(*weight.shape[:2], -1).sum(axis=2, dtype=np.float64).reshape(groups, -1, weight.shape[1])
    inputs = means.reshape(groups, -1) if len(means) == groups * weight.shape[1] else None
    return None if inputs is None else np.einsum("goi,gi->go", sums, inputs).reshape(-1)
