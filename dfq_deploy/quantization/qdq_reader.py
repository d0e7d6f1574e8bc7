"""Read the quantization of tensors from the Q and DQ nodes around them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph.operators import DEQUANTIZE_OPS, QUANTIZE_OPS, is_op
from dfq_deploy.graph.query import constant_of

__all__ = [
    "Quantization",
    "constant_dequantizer",
    "constant_values",
    "dequantization_of",
    "dequantizers_of",
    "integers_and_encoding",
    "quantization",
    "quantization_of",
    "quantizer_of",
]

KINDS = {
    **{ir.DataType.UINT8: "u8", ir.DataType.INT8: "s8", ir.DataType.UINT16: "u16", ir.DataType.INT16: "s16"},
    **{ir.DataType.UINT4: "u4", ir.DataType.INT4: "s4", ir.DataType.INT32: "s32"},
    ir.DataType.FLOAT8E4M3FN: "e4m3",
}
"""Short names of types, as in :class:`dfq_deploy.encodings.QuantType`."""


@dataclass(frozen=True, eq=False)
class Quantization:
    """How one tensor is quantized.

    Args:
        node: the QuantizeLinear, DequantizeLinear or QLinear node that holds the parameters.
        dtype: type of the integers; None if unknown.
        scale, zero_point: None if they are computed; an omitted zero point is 0.
        axis: the channel axis if there are several scales, else None.
        constant: whether the integers are a constant.
    """

    node: ir.Node
    dtype: ir.DataType | None
    scale: NDArray[Any] | None
    zero_point: NDArray[Any] | None
    axis: int | None
    constant: bool

    @property
    def kind(self) -> str | None:
        """``u8``, ``s8``...; None if unknown."""
        return None if self.dtype is None else KINDS.get(self.dtype, str(self.dtype).lower())

    def same_scale(self, other: "Quantization") -> bool:
        """Return True if both have the same scale and zero point."""
        mine, yours = (
            [None if part is None else part.reshape(-1).tolist() for part in (q.scale, q.zero_point)]
            for q in (self, other)
        )
        return mine == yours


def quantization(
    node: ir.Node, integers: ir.Value | None, parameters: Sequence[ir.Value | None], axis: int, *, constant: bool
) -> Quantization:
    """Return the quantization of ``integers`` that ``node`` defines.

    Args:
        parameters: the scale and, if there is one, the zero point.
        axis: the channel axis, used if there are several scales.
        constant: whether the integers are a constant.
    """
    scale, zero_value = _numbers(parameters[0]), parameters[1] if len(parameters) > 1 else None
    zero_point = np.zeros(()) if zero_value is None else _numbers(zero_value)
    dtypes = [value.dtype for value in (zero_value, integers) if value is not None and value.dtype is not None]
    channels = axis if scale is not None and scale.size > 1 else None
    return Quantization(node, dtypes[0] if dtypes else None, scale, zero_point, channels, constant)


def _numbers(value: ir.Value | None) -> NDArray[Any] | None:
    constant = constant_of(value)
    return None if constant is None else np.asarray(constant.numpy())


def quantization_of(node: ir.Node) -> Quantization:
    """Return the quantization that a QuantizeLinear or DequantizeLinear node defines."""
    source = node.inputs[0]
    integers = source if is_op(node, DEQUANTIZE_OPS) else node.outputs[0]
    producer = None if source is None else source.producer()
    constant = constant_of(source) is not None or (
        # Weights that are stored as float pass through both nodes.
        producer is not None and is_op(producer, QUANTIZE_OPS) and constant_of(producer.inputs[0]) is not None
    )
    return quantization(node, integers, node.inputs[1:3], node.attributes.get_int("axis", 1), constant=constant)


def dequantization_of(value: ir.Value | None) -> Quantization | None:
    """Return the quantization of ``value`` if a DequantizeLinear writes it, possibly transposed; else None."""
    producer = None if value is None else value.producer()
    if producer is None:
        return None
    if is_op(producer, DEQUANTIZE_OPS):
        return quantization_of(producer)
    moved = dequantization_of(producer.inputs[0]) if is_op(producer, ("Transpose", "Identity")) else None
    if moved is None or moved.axis is None or is_op(producer, "Identity"):
        return moved
    perm = list(producer.attributes.get_ints("perm", ()) or ())
    rank = len(perm) or (0 if producer.outputs[0].shape is None else len(producer.outputs[0].shape))
    perm = perm or list(range(rank))[::-1]
    return replace(moved, axis=perm.index(moved.axis % rank) if rank else moved.axis)


def dequantizers_of(value: ir.Value) -> list[ir.Node]:
    """Return the DequantizeLinear nodes after the QuantizeLinear of ``value``, possibly with a Clip between them."""
    integers = [use.node.outputs[0] for use in value.uses() if is_op(use.node, QUANTIZE_OPS)]
    integers += [use.node.outputs[0] for entry in integers for use in entry.uses() if is_op(use.node, "Clip")]
    return [use.node for entry in integers for use in entry.uses() if is_op(use.node, DEQUANTIZE_OPS)]


def quantizer_of(node: ir.Node) -> ir.Node | None:
    """Return the QuantizeLinear before a DequantizeLinear, possibly with a Clip between; None for any other node."""
    integers = node.inputs[0] if is_op(node, DEQUANTIZE_OPS) else None
    source = None if integers is None else integers.producer()
    if source is not None and is_op(source, "Clip") and source.inputs[0] is not None:
        source = source.inputs[0].producer()
    return source if source is not None and is_op(source, QUANTIZE_OPS) else None


def constant_dequantizer(value: ir.Value | None) -> ir.Node | None:
    """Return the DequantizeLinear that writes ``value`` from constants; else None."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, DEQUANTIZE_OPS):
        return None
    return node if all(constant_of(part) is not None for part in node.inputs if part is not None) else None


def integers_and_encoding(node: ir.Node) -> tuple[NDArray[Any], Encoding]:
    """Return the integers and the encoding of a constant that a DequantizeLinear reads.

    Raises:
        ValueError: an input of ``node`` is not a constant.
    """
    parameters, integers = quantization_of(node), _numbers(node.inputs[0])
    if integers is None or parameters.scale is None or parameters.zero_point is None or parameters.dtype is None:
        raise ValueError(f"DequantizeLinear '{node.name}': its inputs are not constants")
    scale = parameters.scale.reshape(()) if parameters.scale.size == 1 and integers.ndim > 1 else parameters.scale
    zeros = np.ravel(parameters.zero_point).astype(np.float32).astype(np.int32)
    zero = np.broadcast_to(zeros if scale.ndim else zeros[0], scale.shape)
    floating = parameters.dtype == ir.DataType.FLOAT8E4M3FN
    signed = floating or parameters.dtype.is_signed()
    qtype = QuantType(parameters.dtype.bitwidth, signed, symmetric=not zero.any(), floating=floating)
    axis = node.attributes.get_int("axis", 1) % integers.ndim if scale.ndim else None
    return integers, Encoding(scale.astype(np.float32), zero, qtype, axis)


def constant_values(value: ir.Value | None) -> NDArray[np.float64] | None:
    """Return the values of a constant that is stored as floats or as integers; None if it is computed."""
    tensor = constant_of(value)
    if tensor is not None:
        return tensor.numpy().astype(np.float64)
    node = constant_dequantizer(value)
    if node is None:
        return None
    integers, encoding = integers_and_encoding(node)
    return encoding.dequantize(integers).astype(np.float64)
