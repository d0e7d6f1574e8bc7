"""Compare each bias of a quantized file with the float model's.

A quantized file rarely has float's biases: bias correction and reconstruction move them by what rounding the weights
moves the mean of each channel, and equalization multiplies them. Both are worked out here, from the weights of both
files and the float model's values; only what neither explains is named.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.evaluation.derived_scales import wrong_activation
from dfq_deploy.evaluation.file_fault import FileFault
from dfq_deploy.evaluation.float_weights import FloatWeights
from dfq_deploy.evaluation.layer_bias import LayerBias, bias_of
from dfq_deploy.evaluation.qdq_pairs import WeightPair
from dfq_deploy.evaluation.tensor_values import tensor_values
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.samples.samples import Samples

__all__ = ["bias_faults"]

PROPORTIONAL = 0.97
"""Cosine from which a bias is a multiple of float's."""

MULTIPLE = 1.5
"""Factor, or its inverse, from which a multiple is none that a correction makes."""

UNEXPLAINED = 1 / 3
"""Part of float's bias that has to be unexplained for a multiple of it to count."""

FEWEST = 3
"""Channels below which two biases are proportional by chance."""

FOREIGN = 1.0
"""Standard deviations of the layer's output by which other values have to move its channels, in the mean. Files of this
package move them by 0.06 at 8 bits and 0.32 at 4, beyond what is worked out here."""

OUTLIER = 3.0
"""The same for a single channel (0.25 at 8 bits; twice as far below), ..."""

FINE = 8
"""Bits of a weight from which a correction moves no channel far."""

APART = 10.0
"""... if that is so many times what the channel in the middle is moved by."""

NEGLIGIBLE = 0.02
"""The same of float's bias, for one that is zero or a multiple: a smaller one says nothing."""

ALIVE = 1e-3
"""Power of a weight's channel, relative to the mean of all, below which it tells nothing of its scale."""

LARGEST = 1000.0
"""Largest factor of a channel by equalization, and its inverse the smallest."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class _Layer:
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


def bias_faults(
    floats: FloatWeights,
    pairs: Sequence[WeightPair],
    factors: Mapping[str, Floats],
    samples: Samples,
    sizes: Mapping[str, float],
) -> list[FileFault]:
    """The biases that are a multiple of float's, zero, or something else, or the activations whose scales make them so.

    Args:
        pairs: the quantized weights of the file, whose layers are looked at.
        factors: tensor of the float model -> factor of each of its channels by equalization.
        samples: a few.
        sizes: activation -> how many times larger its scale is than its values on these samples need.

    Raises:
        ModelError, SamplesError: ONNX Runtime fails on them.
    """
    judged = [(pair, node, bias) for pair in pairs for node, bias in _float_layer(floats, pair)]
    if not judged:
        return []
    ends = [value for _, node, _ in judged for value in (node.inputs[0], node.outputs[0])]
    axes = {name_of(value): _channel_axis(node) for _, node, _ in judged for value in (*node.inputs[:1], *node.outputs)}
    values = tensor_values(floats.folded, [name_of(value) for value in ends], samples, axes)
    found: dict[tuple[str, str], FileFault] = {}
    for pair, node, exact in judged:
        layer = _layer(pair, node, exact, values, factors)
        fault = None if layer is None else _fault(layer, sizes)
        if fault is not None:
            found.setdefault((fault.kind, fault.tensor), fault)  # several layers read an activation
    return list(found.values())


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
) -> _Layer | None:
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
    return _Layer(pair, given, bias, bias - (after - before * scale), spread, alive)


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


def _fault(layer: _Layer, sizes: Mapping[str, float]) -> FileFault | None:
    """What is wrong with a bias, or with the scale that its own follows from; None where nothing is known to be."""
    given, left = layer.given.values, layer.unexplained()
    effect, size = layer.rms(left), layer.rms(layer.exact / layer.spread)
    name = f"the bias '{layer.given.name}' of {layer.where}"
    noise = -20 * math.log10(max(effect, 1e-12))
    behind = f"that alone leaves {noise:.1f} dB signal to noise behind the layer"
    if not given.any():
        if size < NEGLIGIBLE:
            return None
        return FileFault("bias", layer.given.name, layer.where, f"{name} is zero, and float's is not: {behind}", noise)
    times = _multiple(layer)
    if times is not None and effect >= UNEXPLAINED * size and size >= NEGLIGIBLE:
        how = f"{times:.2g} times float's" if times > 0 else f"{-times:.2g} times float's, with the other sign"
        tensor = wrong_activation(layer.pair, times, sizes)
        if tensor:
            wrong = f"{times:.2g} times too large" if times >= 1 else f"{1 / times:.2g} times too small"
            said = f"the scale of activation '{tensor}' is about {wrong}: {name}, whose scale follows from it, is {how}"
            return FileFault("scale", tensor, layer.where, f"{said}: {behind}", noise)
        return FileFault("bias", layer.given.name, layer.where, f"{name} is {how}: {behind}", noise)
    said = _other_values(layer, left)
    if not said:
        return None
    ending = f": {behind}" if "channel" not in said else ""
    return FileFault("bias", layer.given.name, layer.where, f"{name} has {said}{ending}", noise)


def _other_values(layer: _Layer, left: Floats) -> str:
    """Whether a bias has another value than float's in one channel, or in many; empty for neither."""
    given, channel = layer.given.values, int(left.argmax())
    least = OUTLIER if layer.pair.encoding.qtype.bits >= FINE else 2 * OUTLIER
    if left[channel] >= max(least, APART * float(np.median(left[layer.alive]))):
        values = f"{given[channel]:.4g}, where float needs {layer.exact[channel]:.4g}"
        return f"another value than float's in channel {channel}: {values}"
    return "other values than float's" if layer.rms(left) >= FOREIGN else ""


def _multiple(layer: _Layer) -> float | None:
    """How many times float's bias it is, corrected in part; None if it is no multiple, or one to be expected."""
    given, exact, shift = (
        (values / layer.spread)[layer.alive]
        for values in (layer.given.values, layer.exact, layer.corrected - layer.exact)
    )
    if len(given) < FEWEST:
        return None
    for parts in (np.stack([exact], axis=1), np.stack([exact + shift], axis=1), np.stack([exact, shift], axis=1)):
        factors = np.linalg.lstsq(parts, given, rcond=None)[0]
        fitted, times = parts @ factors, float(factors[0])
        cosine = float(given @ fitted) / math.sqrt(max(float(given @ given) * float(fitted @ fitted), 1e-30))
        partly = len(factors) == 1 or 0 <= float(factors[1]) / times <= MULTIPLE if times else False
        if cosine >= PROPORTIONAL and partly and not 1 / MULTIPLE <= times <= MULTIPLE:
            return times
    return None
