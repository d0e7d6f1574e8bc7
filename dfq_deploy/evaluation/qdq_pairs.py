"""Read the quantized activations and weights of a QDQ graph, of any tool."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph.operators import WEIGHTED_OPS
from dfq_deploy.graph.query import constant_of, name_of, weight_axis
from dfq_deploy.quantization.weights import encoding_of_weight

__all__ = ["ActivationPair", "WeightPair", "activation_pairs", "float_pairs", "unread_weights", "weight_pairs"]

WIDTHS = {
    **{ir.DataType.INT4: (4, True), ir.DataType.UINT4: (4, False), ir.DataType.INT8: (8, True)},
    **{ir.DataType.UINT8: (8, False), ir.DataType.INT16: (16, True), ir.DataType.UINT16: (16, False)},
}

FULL = 0.9
"""Share of the channels of a weight that must reach the limit of a narrower type for it to have that type's bits."""


@dataclass(frozen=True, eq=False)
class ActivationPair:
    """A QuantizeLinear and the DequantizeLinear that reads it.

    Args:
        tensor: name of the quantized tensor in the float model.
        source: name of the input of the QuantizeLinear.
        written: how it is quantized.
        read: how it is dequantized; equal to ``written`` in a correct file.
    """

    tensor: str
    source: str
    written: Encoding
    read: Encoding

    def restored(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """``values`` after quantization and dequantization."""
        return self.read.dequantize(self.written.quantize(values))


@dataclass(frozen=True, eq=False)
class WeightPair:
    """A constant after DequantizeLinear that is the weight of a convolution or matrix product.

    Args:
        tensor: the name of the integers, or of the floats that a QuantizeLinear reads.
        node: the weighted node.
        place: index of the input of the node.
        axis: of its output channels.
        values: the dequantized weight.
        encoding: how it is quantized.
        exact: the float weight, if the file contains it.
    """

    tensor: str
    node: ir.Node
    place: int
    axis: int
    values: NDArray[np.float32]
    encoding: Encoding
    exact: NDArray[np.float32] | None


def activation_pairs(model: ir.Model) -> tuple[ActivationPair, ...]:
    """Every activation that is quantized with a constant scale, in the graph's order."""
    found: dict[str, ActivationPair] = {}
    for node in model.graph:
        value = node.inputs[0] if node.op_type == "DequantizeLinear" else None
        quantizer, ends = _quantizer(value)
        source = None if quantizer is None else quantizer.inputs[0]
        if quantizer is None or source is None or constant_of(source) is not None:
            continue
        written, read = (_encoding(one, None, ends) for one in (quantizer, node))
        if written is None or read is None or written.axis is not None or read.axis is not None:
            continue
        # A quantized graph output keeps its name behind the DQ; the tensor before the Q has a new one.
        name = name_of(node.outputs[0] if node.outputs[0].is_graph_output() else source)
        found.setdefault(name, ActivationPair(name, name_of(source), written, read))
    return tuple(found.values())


def weight_pairs(model: ir.Model) -> tuple[WeightPair, ...]:
    """Every quantized constant that a weighted node reads, in the graph's order."""
    read = (_weight(*operand) for operand in _dequantized_operands(model))
    found = [pair for pair in read if pair is not None]
    return tuple(_with_usual_bits(pair, found) for pair in found)


def unread_weights(model: ir.Model) -> list[str]:
    """Nodes, as ``MatMul 'fc'``, with a constant behind a DequantizeLinear that :func:`weight_pairs` does not read."""
    found = []
    for node, place, dequantizer in _dequantized_operands(model):
        stored = constant_of(dequantizer.inputs[0])
        if stored is not None and len(stored.shape) > 1 and _weight(node, place, dequantizer) is None:
            found.append(f"{node.op_type} '{node.name}'")
    return found


def _dequantized_operands(model: ir.Model) -> Iterator[tuple[ir.Node, int, ir.Node]]:
    """Weighted nodes, the places of their operands behind a DequantizeLinear, and the latter, in the graph's order."""
    for node in model.graph:
        if node.op_type in WEIGHTED_OPS:
            for place, value in enumerate(node.inputs[:2]):
                producer = None if value is None else value.producer()
                if producer is not None and producer.op_type == "DequantizeLinear":
                    yield node, place, producer


def float_pairs(model: ir.Model) -> tuple[WeightPair, ...]:
    """Every constant in float that a weighted node reads as its second input, encoded as 8 bits would be."""
    found = []
    for node in model.graph:
        constant = constant_of(node.inputs[1]) if node.op_type in WEIGHTED_OPS and len(node.inputs) > 1 else None
        values = None if constant is None or constant.dtype != ir.DataType.FLOAT else constant.numpy()
        if values is None or values.ndim < 2:
            continue
        axis = weight_axis(node) if values.ndim == 2 or node.op_type != "MatMul" else values.ndim - 1
        encoding = encoding_of_weight(values, QuantType(8, signed=True, symmetric=True), axis)
        found.append(WeightPair(name_of(node.inputs[1]), node, 1, axis, values, encoding, None))
    return tuple(found)


def _with_usual_bits(pair: WeightPair, pairs: Sequence[WeightPair]) -> WeightPair:
    """``pair`` with the bits of most weights, if it alone seems to have fewer: a too coarse scale has that effect."""
    counts = Counter(other.encoding.qtype for other in pairs)
    usual, count = counts.most_common(1)[0]
    mine = pair.encoding.qtype
    if counts[mine] > 1 or 2 * count <= len(pairs) or mine.bits >= usual.bits or mine.signed != usual.signed:
        return pair
    return replace(pair, encoding=replace(pair.encoding, qtype=usual))


def _weight(node: ir.Node, place: int, dequantizer: ir.Node) -> WeightPair | None:
    stored = constant_of(dequantizer.inputs[0])
    quantizer, _ = _quantizer(dequantizer.inputs[0])
    exact = None if quantizer is None else constant_of(quantizer.inputs[0])
    encoding = _encoding(dequantizer, None if stored is None else stored.dtype)
    if encoding is None or (stored is None and (quantizer is None or exact is None)):
        return None
    if stored is not None:
        floats, integers = None, stored.numpy().astype(np.int32)
    else:
        written = None if quantizer is None else _encoding(quantizer, None)
        if exact is None or written is None or not _fits(written, exact.numpy().shape):
            return None
        floats, integers = exact.numpy().astype(np.float32), written.quantize(exact.numpy())
    if integers.ndim < 2 or not _fits(encoding, integers.shape):
        return None
    encoding = Encoding(encoding.scale, encoding.zero_point, _narrowed(encoding, integers), encoding.axis)
    name = name_of(dequantizer.inputs[0] if quantizer is None else quantizer.inputs[0])
    axis = weight_axis(node) if integers.ndim == 2 or node.op_type != "MatMul" else integers.ndim - 1
    return WeightPair(name, node, place, axis, encoding.dequantize(integers), encoding, floats)


def _fits(encoding: Encoding, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of ``shape`` has a channel for each scale; the files of other tools may say anything."""
    axis = encoding.axis
    return axis is None or (-len(shape) <= axis < len(shape) and shape[axis] == encoding.scale.size)


def _quantizer(value: ir.Value | None) -> tuple[ir.Node | None, tuple[int, int] | None]:
    """The QuantizeLinear that writes ``value``, and the ends of a Clip of its integers."""
    node, ends = None if value is None else value.producer(), None
    if node is not None and node.op_type == "Clip" and node.inputs[0] is not None:
        bounds = [constant_of(bound) for bound in node.inputs[1:3]]
        if len(bounds) == 2 and bounds[0] is not None and bounds[1] is not None:
            ends = int(bounds[0].numpy()), int(bounds[1].numpy())
        node = node.inputs[0].producer()
    return (node, ends) if node is not None and node.op_type == "QuantizeLinear" else (None, None)


def _encoding(node: ir.Node, kind: ir.DataType | None, ends: tuple[int, int] | None = None) -> Encoding | None:
    """Scale, zero point and type of a Q or DQ node; None if they are computed, or of another type."""
    scale = constant_of(node.inputs[1])
    zero = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    kind = kind or (ir.DataType.UINT8 if zero is None else zero.dtype)
    if scale is None or kind not in WIDTHS or scale.numpy().ndim > 1:
        return None
    scales = scale.numpy().astype(np.float32)
    zeros = np.zeros(scales.shape, np.int32) if zero is None else zero.numpy().astype(np.int32)
    if scales.size == 1:
        scales, zeros = scales.reshape(()), zeros.reshape(())
    if scales.shape != zeros.shape or not np.isfinite(scales).all() or not (scales > 0).all():
        return None
    axis = node.attributes.get_int("axis", 1) if scales.ndim else None
    return Encoding(scales, zeros, _type(kind, ends), axis)


def _type(kind: ir.DataType, ends: tuple[int, int] | None) -> QuantType:
    bits, signed = WIDTHS[kind]
    if ends is None:
        return QuantType(bits, signed=signed, symmetric=False)
    low, high = ends
    return QuantType(max(2, (high - low).bit_length()), signed=low < 0, symmetric=low < 0 and low == -high)


def _narrowed(encoding: Encoding, integers: NDArray[np.int32]) -> QuantType:
    """The type of weights that are stored in a wider one: nearly all channels reach the limit of the narrower type."""
    qtype = encoding.qtype
    if not qtype.signed or encoding.zero_point.any():
        return qtype
    if encoding.axis is None:
        ends = np.abs(integers).max(keepdims=True).reshape(1)
    else:
        ends = np.abs(np.moveaxis(integers, encoding.axis, 0)).reshape(integers.shape[encoding.axis], -1).max(axis=1)
    for bits in range(2, qtype.bits):
        last = 2 ** (bits - 1) - 1
        if ends.max(initial=0) <= last and (ends == last).mean() >= FULL:
            return QuantType(bits, signed=True, symmetric=True)
    return QuantType(qtype.bits, signed=True, symmetric=True)
