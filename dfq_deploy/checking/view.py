"""The quantized graph for the rules: integer kernels and the quantization of their tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from dfq_deploy.graph.infer_shapes import infer_shapes
from dfq_deploy.graph.operators import QDQ_OPS, QUANTIZE_OPS, WEIGHTED_OPS, is_op, operator_of
from dfq_deploy.graph.query import constant_of
from dfq_deploy.graph.reading import ModelSource, read_any, source_name
from dfq_deploy.quantization.qdq_reader import Quantization, dequantization_of, quantization, quantization_of

__all__ = ["QLINEAR", "Kernel", "View", "name", "view_of"]

QLINEAR = {
    **{"QLinearConv": "Conv", "com.microsoft::QLinearConv": "Conv", "QLinearMatMul": "MatMul"},
    "com.microsoft::QGemm": "Gemm",
}
"""Weighted operators on integers -> the equivalent float operator.

Their inputs are the activation, its scale and zero point, and then the weight, its scale and zero point.
"""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A weighted node and the quantization of its inputs; None for an input that is float.

    Args:
        operator: ``Conv`` also for QLinearConv.
        weight: None also if the node multiplies two activations.
        has_weight: False if the node multiplies two activations.
        bias: None also if there is no bias.
    """

    node: ir.Node
    operator: str
    activation: Quantization | None
    weight: Quantization | None
    has_weight: bool
    bias: Quantization | None


class View:
    """One model with the quantization of its tensors."""

    def __init__(self, model: ir.Model, place: str) -> None:
        self.model = model
        self.place = place
        self.opset = model.opset_imports.get("", 0)

    @cached_property
    def nodes(self) -> tuple[ir.Node, ...]:
        """All nodes of the main graph, in order."""
        return tuple(self.model.graph)

    @cached_property
    def quantizations(self) -> tuple[Quantization, ...]:
        """One for each QuantizeLinear and DequantizeLinear, in order."""
        return tuple(quantization_of(node) for node in self.nodes if is_op(node, QDQ_OPS))

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The weighted nodes, quantized or not, in order."""
        return tuple(kernel for node in self.nodes for kernel in _kernels(node))

    @cached_property
    def by_node(self) -> dict[ir.Node, Quantization]:
        """The quantizations by their Q or DQ node."""
        return {entry.node: entry for entry in self.quantizations}

    @cached_property
    def weighted(self) -> frozenset[ir.Node]:
        """The weighted nodes."""
        return frozenset(kernel.node for kernel in self.kernels)

    @cached_property
    def quantized_nodes(self) -> frozenset[ir.Node]:
        """The weighted nodes that read integers."""
        return frozenset(kernel.node for kernel in self.kernels if kernel.activation is not None)

    def source(self, node: ir.Node) -> ir.Node | None:
        """Return the node before a chain of Q and DQ that ends in ``node``; ``node`` itself if it is neither."""
        current: ir.Node | None = node
        while current is not None and is_op(current, QDQ_OPS):
            value = current.inputs[0]
            current = None if value is None else value.producer()
        return current

    def activations(self) -> Iterator[Quantization]:
        """Yield the quantizations of activations: one for each Q, and for each DQ that reads an integer input."""
        for entry in self.quantizations:
            integers = entry.node.inputs[0]
            fed = integers is not None and integers.producer() is None
            if not entry.constant and (is_op(entry.node, QUANTIZE_OPS) or fed):
                yield entry
        for kernel in self.kernels:
            if is_op(kernel.node, QLINEAR) and kernel.activation is not None:
                yield kernel.activation


def view_of(source: ModelSource) -> View:
    """Read any ONNX file, float or quantized; Constant nodes become initializers, all else stays as it is.

    Raises:
        ModelError: the file does not exist, or is not an ONNX model.
    """
    model = read_any(source)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    infer_shapes(model)
    return View(model, source_name(source))


def name(node: ir.Node) -> str:
    """Return the name of ``node``, or of its first output if it has none."""
    return node.name or next((value.name for value in node.outputs if value.name), None) or "?"


def _kernels(node: ir.Node) -> Iterator[Kernel]:
    if is_op(node, WEIGHTED_OPS) and len(node.inputs) > 1:
        weight = dequantization_of(node.inputs[1])
        constant = constant_of(node.inputs[1]) is not None or (weight is not None and weight.constant)
        bias = dequantization_of(node.inputs[2]) if len(node.inputs) > 2 else None
        yield Kernel(
            node, node.op_type, dequantization_of(node.inputs[0]), weight if constant else None, constant, bias
        )
    elif is_op(node, QLINEAR):
        parts = []
        for first, scale, zero in ((0, 1, 2), (3, 4, 5)):
            integers = node.inputs[first]
            constant = constant_of(integers) is not None
            parts.append(quantization(node, integers, (node.inputs[scale], node.inputs[zero]), 0, constant=constant))
        constant = parts[1].constant
        yield Kernel(node, QLINEAR[operator_of(node)], parts[0], parts[1] if constant else None, constant, None)
