"""Weighted layers: their operators, integer or float, and their multiply-accumulates."""

from collections.abc import Sequence
from math import prod
from typing import Literal, TypeAlias

import onnx_ir as ir

from dfq_deploy.graph.operators import FLOATS, WEIGHTED_OPS
from dfq_deploy.graph.query import constant_of

__all__ = ["Kind", "is_layer", "kind_of_node", "macs_of", "weights_of"]

Kind: TypeAlias = Literal["integer", "float8", "weights", "float"]
"""The type of a layer's products.

``integer``: integers. ``float8``: floats of 8 bits. ``weights``: floats, with integer weights. ``float``: all in float.
"""

RECURRENT = frozenset({"LSTM", "GRU", "RNN"})

FLOAT_OPS = (
    WEIGHTED_OPS
    | RECURRENT
    | {"Attention", "DeformConv", "DecoderMaskedMultiHeadAttention", "Einsum", "GroupQueryAttention"}
    | {"MultiHeadAttention", "FusedConv", "FusedGemm", "FusedMatMul", "FusedMatMulActivation", "NhwcConv"}
    | {"NhwcFusedConv", "TransposeMatMul"}
)
"""Float layers: ONNX's operators, and the kernels with which ONNX Runtime's optimizer replaces them."""

INTEGER_OPS = frozenset(
    {"ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat"}
    | {"QAttention", "QGemm", "QLinearConv", "QLinearConvTranspose", "QLinearMatMul"}
)
"""Layers that multiply integers: ONNX's, and ONNX Runtime's (its ContribOperators.md)."""

WEIGHT_ONLY_OPS = frozenset({"MatMulBnb4", "MatMulFpQ4", "MatMulNBits", "QMoE"})
"""Layers that store integers and multiply floats."""

INTEGER_ACCURACY = 4
"""``accuracy_level`` of a MatMulNBits whose activations are quantized to int8 as it runs."""

UNPACKING_OPS = frozenset({"DequantizeLinear", "Identity", "Transpose"})
"""What may stand between a constant and the layer that multiplies by it."""

SECOND_FACTOR = {"QLinearConv": 3, "QLinearConvTranspose": 3, "QLinearMatMul": 3, "QGemm": 3}
"""Index of the second factor among the inputs, if it is not 1."""


def is_layer(node: ir.Node) -> bool:
    """Return True for a node that multiplies by weights, or two activations; not for shape computations."""
    if node.op_type in INTEGER_OPS | WEIGHT_ONLY_OPS:
        return True
    kinds = {value.dtype for value in (*node.inputs[:2], *node.outputs[:1]) if value is not None}
    return node.op_type in FLOAT_OPS and bool(kinds & (FLOATS | {None}))


def kind_of_node(node: ir.Node) -> Kind:
    """Return the type of the products of a layer, by its operator."""
    if node.op_type == "MatMulNBits" and node.attributes.get_int("accuracy_level", 0) == INTEGER_ACCURACY:
        return "integer"
    if node.op_type in INTEGER_OPS:
        return "integer"
    return "weights" if node.op_type in WEIGHT_ONLY_OPS else "float"


def macs_of(node: ir.Node) -> int | None:
    """Return the multiply-accumulates of a layer for one sample (a dynamic batch counts as 1).

    None if a shape is dynamic or unknown.
    """
    if node.op_type in RECURRENT:
        return _recurrent(node)
    second = node.inputs[SECOND_FACTOR.get(node.op_type, 1)] if len(node.inputs) > 1 else None
    input_sizes, output_sizes, weight = _sizes(node.inputs[0]), _sizes(node.outputs[0]), _sizes(second)
    if node.op_type == "MatMulNBits":
        return _product([*output_sizes, node.attributes.get_int("K", 0)])
    if "Conv" in node.op_type and node.op_type != "DeformConv":
        # Each weight is used once for each position: of the output, or of the input of a ConvTranspose.
        positions = input_sizes if "Transpose" in node.op_type else output_sizes
        return _product([*positions[:1], *positions[2:], *weight]) if len(positions) > 2 and weight else None
    if "MatMul" in node.op_type and weight:
        return _product([*output_sizes, weight[-2] if len(weight) > 1 else weight[0]])
    if "Gemm" in node.op_type and len(weight) == 2:
        return _product([*output_sizes, weight[1 if node.attributes.get_int("transB", 0) else 0]])
    return None


def weights_of(node: ir.Node) -> int:
    """Return the size of the largest constant that a layer multiplies by, as it is or dequantized; 0 if none."""
    sizes = [0]
    for value in node.inputs:
        source = value
        while source is not None and (producer := source.producer()) is not None and producer.op_type in UNPACKING_OPS:
            source = producer.inputs[0]
        constant = constant_of(source)
        sizes += [] if constant is None else [constant.size]
    return max(sizes)


def _recurrent(node: ir.Node) -> int | None:
    """Return the multiply-accumulates of a recurrent layer: every step multiplies by the matrices W and R."""
    input_sizes, *weights = (_sizes(value) for value in node.inputs[:3])
    if len(input_sizes) != 3 or not all(weights):
        return None
    batch_first = node.attributes.get_int("layout", 0) == 1
    parts = [_product(weight) for weight in weights]
    steps = input_sizes[1 if batch_first else 0]
    return None if steps is None or None in parts else steps * sum(part or 0 for part in parts)


def _sizes(value: ir.Value | None) -> list[int | None]:
    """Return the dimensions, a dynamic batch as 1 and other dynamic ones as None; empty if unknown."""
    if value is None or value.shape is None:
        return []
    sizes = [dim if isinstance(dim, int) else None for dim in value.shape]
    return [1, *sizes[1:]] if sizes and sizes[0] is None else sizes


def _product(sizes: Sequence[int | None]) -> int | None:
    return None if not sizes or None in sizes else prod(size or 0 for size in sizes)
