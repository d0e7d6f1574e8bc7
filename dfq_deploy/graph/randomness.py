"""Name the outputs that random numbers decide, which differ from run to run."""

import onnx_ir as ir

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.traversal import after

__all__ = ["random_outputs"]

RANDOM_OPS = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)

SIZES = ("Shape", "Size")
"""Operators that look at no value."""


def random_outputs(model: ir.Model) -> dict[str, str]:
    """Name of each output that depends on random numbers -> the node that draws them.

    A node with a seed draws the same numbers in both of two sessions, and is left out.
    """
    found: dict[str, str] = {}
    for node in model.graph:
        if _draws(node):
            nodes = [node, *after(node, lambda reader: not is_op(reader, SIZES))]
            random = {value for reached in nodes if not is_op(reached, SIZES) for value in reached.outputs}
            name = f"{node.op_type} '{node.name or node.outputs[0].name}'"
            found |= {str(out.name): name for out in model.graph.outputs if out in random and out.name not in found}
    return found


def _draws(node: ir.Node) -> bool:
    """Whether ``node``, or one in a subgraph of it, draws numbers without a seed."""
    if is_op(node, RANDOM_OPS):
        return "seed" not in node.attributes
    graphs = [entry.as_graph() for entry in node.attributes.values() if entry.type == ir.AttributeType.GRAPH]
    return any(_draws(inner) for graph in graphs for inner in graph.all_nodes())
