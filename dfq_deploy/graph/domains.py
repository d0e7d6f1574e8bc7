"""Normalize the name of ONNX's own domain to the empty string.

"ai.onnx" means the same, and ONNX Runtime accepts both; onnx's checker, shape inference and converter accept only the
empty string.
"""

from collections.abc import Iterable, Iterator

import onnx
import onnx_ir as ir

__all__ = ["with_short_domain", "with_short_opset"]

LONG = "ai.onnx"


def with_short_domain(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Normalize nodes and opsets of ``proto`` in place, those of nested graphs and of functions too; return it."""
    nodes = [*proto.graph.node, *(node for function in proto.functions for node in function.node)]
    imports = [*proto.opset_import, *(entry for function in proto.functions for entry in function.opset_import)]
    for entry in (*imports, *_with_nested(nodes)):
        if entry.domain == LONG:
            entry.domain = ""
    return proto


def _with_nested(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _with_nested(graph.node)


def with_short_opset(model: ir.Model) -> ir.Model:
    """Store the opset of ``model`` under the empty string, in place; return it. (onnx_ir normalizes the nodes.)"""
    if LONG in model.opset_imports:
        model.opset_imports[""] = model.opset_imports.pop(LONG)
    return model
