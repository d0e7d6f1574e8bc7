"""Which tensors each placement policy quantizes (kernels, inputs, everything)."""

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
    {"Add", "Concat", "Div", "Gather", "InstanceNormalization", "LayerNormalization", "Max", "Mean", "Min", "Mul"}
    | {"PRelu", "Pow", "Sub", "Sum", "Where"}
)
"""Operators that compute with constants as with activations, where everything is quantized."""


def values_to_quantize(
    nodes: Sequence[ir.Node], heads: set[ir.Node], target: Target, apart: Collection[str] = ()
) -> set[ir.Value]:
    """The activations that get Q and DQ.

    Args:
        heads: the weighted nodes that are quantized.
        apart: names of nodes that one scale would break, or that are to stay float; ``everything`` has no float nodes.
    """
    if target.style == "inputs":
        return _inputs([node for node in nodes if node.name not in apart], heads)
    if target.style == "everything":
        return _everything(nodes, target)
    return quantized_values(nodes, heads, target, apart)


def residual_branch(node: ir.Node, heads: Collection[ir.Node]) -> ir.Value | None:
    """The side of an Add that gets Q and DQ, so that the Add is folded into the convolution of the other side.

    That is the side which no convolution of ``heads`` writes for the Add alone; of two convolutions the one that
    fewer weighted nodes stand before, which is the shortcut. None where there is nothing to fold the Add into.
    """
    if not is_op(node, "Add") or len(set(node.inputs)) != 2:
        return None
    sides = [value for value in node.inputs if value is not None and value.dtype == ir.DataType.FLOAT]
    if len(sides) != 2 or any(constant_of(value) is not None for value in sides):
        return None
    folding = [value for value in sides if _is_written_for(value, heads)]
    if len(folding) == 2:
        depths = [count_weighted_before(value.producer(), heads) for value in sides]
        return sides[0] if depths[0] < depths[1] else sides[1]
    return next((value for value in sides if folding and value not in folding), None)


def _is_written_for(value: ir.Value, heads: Collection[ir.Node]) -> bool:
    """True if a weighted node writes ``value`` and nothing else reads it."""
    return value.producer() in heads and len(value.uses()) == 1 and not value.is_graph_output()


def count_weighted_before(node: ir.Node | None, heads: Collection[ir.Node]) -> int:
    """How many of ``heads`` stand before ``node``, itself included."""
    return 0 if node is None else sum(step in heads for step in (node, *before(node)))


def constant_operands(graph: ir.Graph, target: Target) -> dict[str, QuantType]:
    """The constants besides weights and biases that are quantized, and their type: where everything is."""
    kind = target.weight_per_tensor or target.weight
    return {
        name_of(value): kind
        for node in (graph if target.style == "everything" else ())
        if is_op(node, OPERANDS)
        for value in node.inputs
        if (constant := constant_of(value)) is not None and constant.dtype == ir.DataType.FLOAT and constant.size
    }


def _inputs(nodes: Sequence[ir.Node], heads: set[ir.Node]) -> set[ir.Value]:
    branches = (residual_branch(node, heads) for node in nodes)
    return {value for node in heads for value in activation_inputs(node)} | {
        value for value in branches if value is not None
    }


def _everything(nodes: Sequence[ir.Node], target: Target) -> set[ir.Value]:
    """All float tensors but those between a kernel and the Relu or Clip that its quantization does the work of."""
    found: set[ir.Value] = set()
    inside: set[ir.Value] = set()
    for node in nodes:
        if not is_op(node, (target.whole_ops or ())):
            continue
        values = (value for value in (*node.inputs, *node.outputs) if value is not None)
        found.update(v for v in values if v.dtype == ir.DataType.FLOAT and constant_of(v) is None)
        if is_op(node, target.quantized_ops) and quantization_point(node.outputs[0], target) is not node.outputs[0]:
            inside.add(node.outputs[0])
    return found - inside
