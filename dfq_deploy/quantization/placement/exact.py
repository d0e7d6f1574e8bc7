"""Find outputs that are inputs, so that they come back as they were given."""

import onnx_ir as ir

from dfq_deploy.graph.inputs import input_values
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.traversal import walk

__all__ = ["exact_values"]


def exact_values(model: ir.Model) -> set[ir.Value]:
    """What an Identity makes of an input, alone or with more of them, where that is an output.

    It is never quantized, and what that Identity reads is the input itself.
    """
    outputs = set(model.graph.outputs)
    copies = {copy for value in input_values(model) for copy in _chain(value) if copy is not value}
    return {copy for copy in copies if not outputs.isdisjoint(_chain(copy))}


def _chain(value: ir.Value) -> list[ir.Value]:
    """``value`` and what Identities make of it."""
    return list(walk([value], lambda one: [use.node.outputs[0] for use in one.uses() if is_op(use.node, "Identity")]))
