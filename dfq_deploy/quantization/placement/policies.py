"""Select the tensors that each placement policy quantizes (kernels, inputs, everything)."""

from collections.abc import Collection, Sequence

import onnx_ir as ir

from dfq_deploy.encodings import QuantType
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.graph.traversal import before
from dfq_deploy.quantization.placement.predicates import activation_inputs, quantization_point, quantized_values
from dfq_deploy.targets.target import Target

__all__ = ["constant_operands", "count_weighted_before", "residual_branch", "values_to_quantize"]

OPERANDS = frozenset(
    {"Add", "Concat", "Div", "Gather", "GridSample", "InstanceNormalization", "LayerNormalization", "Max", "Mean"}
    | {"Min", "Mul", "PRelu", "Pow", "Sub", "Sum", "Where"}
)
"""Operators whose constant operands are quantized too, for targets of style ``everything``."""


def values_to_quantize(
    nodes: Sequence[ir.Node], quantized_nodes: set[ir.Node], target: Target, kept_float: Collection[str] = ()
) -> set[ir.Value]:
    """Return the activations that get Q and DQ.

    Args:
        quantized_nodes: the weighted nodes that are quantized.
        kept_float: names of nodes that stay float, by request or since one scale would break them; style ``everything``
            has no float nodes.
    """
    if target.style == "inputs":
        return _inputs([node for node in nodes if node.name not in kept_float], quantized_nodes)
    if target.style == "everything":
        return _everything(nodes, target)
    return quantized_values(nodes, quantized_nodes, target, kept_float)


def residual_branch(node: ir.Node, quantized_nodes: Collection[ir.Node]) -> ir.Value | None:
    """Return the operand of an Add that gets Q and DQ, so that the Add is fused into the convolution of the other one.

    This is the operand that no convolution of ``quantized_nodes`` computes for the Add alone. If both are outputs of
    such convolutions, it is the shortcut: the one with fewer weighted nodes before it. None if there is no convolution
    to fuse the Add into.
    """
    if not is_op(node, "Add") or len(set(node.inputs)) != 2:
        return None
    sides = [value for value in node.inputs if value is not None and value.dtype == ir.DataType.FLOAT]
    if len(sides) != 2 or any(constant_of(value) is not None for value in sides):
        return None
    foldable = [value for value in sides if _is_written_for(value, quantized_nodes)]
    if len(foldable) == 2:
        depths = [count_weighted_before(value.producer(), quantized_nodes) for value in sides]
        return sides[0] if depths[0] < depths[1] else sides[1]
    return next((value for value in sides if foldable and value not in foldable), None)


def _is_written_for(value: ir.Value, quantized_nodes: Collection[ir.Node]) -> bool:
    """Return True if a weighted node writes ``value`` and only one node reads it."""
    return value.producer() in quantized_nodes and len(value.uses()) == 1 and not value.is_graph_output()


def count_weighted_before(node: ir.Node | None, quantized_nodes: Collection[ir.Node]) -> int:
    """Count the nodes of ``quantized_nodes`` before ``node``, itself included."""
    return 0 if node is None else sum(step in quantized_nodes for step in (node, *before(node)))


def constant_operands(graph: ir.Graph, target: Target) -> dict[str, QuantType]:
    """Return constants other than weights and biases that are quantized, with their type (style ``everything``)."""
    kind = target.weight_per_tensor or target.weight
    return {
        name_of(value): kind
        for node in (graph if target.style == "everything" else ())
        if is_op(node, OPERANDS)
        for value in node.inputs
        if (constant := constant_of(value)) is not None and constant.dtype == ir.DataType.FLOAT and constant.size
    }


def _inputs(nodes: Sequence[ir.Node], quantized_nodes: set[ir.Node]) -> set[ir.Value]:
    branches = (residual_branch(node, quantized_nodes) for node in nodes)
    return {value for node in quantized_nodes for value in activation_inputs(node)} | {
        value for value in branches if value is not None
    }


def _everything(nodes: Sequence[ir.Node], target: Target) -> set[ir.Value]:
    """Return all float tensors except those between a kernel and the Relu or Clip that is folded into it."""
    floats: set[ir.Value] = set()
    fused: set[ir.Value] = set()
    for node in nodes:
        if not is_op(node, (target.whole_ops or ())):
            continue
        values = (value for value in (*node.inputs, *node.outputs) if value is not None)
        floats.update(v for v in values if v.dtype == ir.DataType.FLOAT and constant_of(v) is None)
        if is_op(node, target.quantized_ops) and quantization_point(node.outputs[0], target) is not node.outputs[0]:
            fused.add(node.outputs[0])
    return floats - fused
