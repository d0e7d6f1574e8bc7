"""Read constants that are stored behind DequantizeLinear."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph.operators import DEQUANTIZE_OPS, is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["constant_dequantizer", "constant_values", "integers_and_encoding"]


def constant_dequantizer(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear of constants that writes ``value``."""
    node = None if value is None else value.producer()
    if node is None or not is_op(node, DEQUANTIZE_OPS):
        return None
    return node if all(constant_of(part) is not None for part in node.inputs if part is not None) else None


def integers_and_encoding(node: ir.Node) -> tuple[NDArray[Any], Encoding]:
    """Integers and encoding of a constant that a DequantizeLinear reads."""
    tensors = [constant_of(value) for value in node.inputs]
    integers, scale = (tensor.numpy() for tensor in tensors[:2] if tensor is not None)
    zero = tensors[2].numpy() if len(tensors) > 2 and tensors[2] is not None else np.zeros(scale.shape, np.int32)
    kind = tensors[0].dtype if tensors[0] is not None else ir.DataType.INT8
    scale, zero = (part.reshape(()) if part.size == 1 and integers.ndim > 1 else part for part in (scale, zero))
    bits, signed = (32, True) if kind == ir.DataType.INT32 else (8, kind != ir.DataType.UINT8)
    qtype = QuantType(bits, signed=signed, symmetric=not zero.any())
    axis = node.attributes.get_int("axis", 1) % integers.ndim if scale.ndim else None
    return integers, Encoding(scale.astype(np.float32), zero.astype(np.int32), qtype, axis)


def constant_values(value: ir.Value | None) -> NDArray[np.float64] | None:
    """A constant, stored as floats or as integers; None where it is computed."""
    tensor = constant_of(value)
    if tensor is not None:
        return tensor.numpy().astype(np.float64)
    node = constant_dequantizer(value)
    if node is None:
        return None
    integers, encoding = integers_and_encoding(node)
    return encoding.dequantize(integers).astype(np.float64)
