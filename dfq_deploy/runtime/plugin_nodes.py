"""Cut a model at nodes that ONNX Runtime does not have, such as TensorRT's plug-ins."""

from collections.abc import Iterator
from functools import cache

import onnx_ir as ir
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.domains import with_short_opset
from dfq_deploy.graph.operators import is_standard, operator_of
from dfq_deploy.graph.traversal import walk

__all__ = ["behind_plugins", "is_missing_operator", "plugin_nodes", "runnable_part"]

MISSING = "is not a registered function/op"
"""What ONNX Runtime says of an operator that it does not have."""


@cache
def _operators() -> frozenset[tuple[str, str]]:
    return frozenset((schema.domain, schema.name) for schema in ort_state.get_all_operator_schema())


def is_missing_operator(problem: Exception) -> bool:
    """True where a session was refused for an operator that ONNX Runtime does not have."""
    return MISSING in str(problem)


def plugin_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes of the main graph whose operator, or one in their subgraphs, ONNX Runtime does not have."""
    local = {(function.domain, function.name) for function in model.functions.values()}
    known = _operators() | local

    def is_unknown(node: ir.Node) -> bool:
        return ("" if is_standard(node) else node.domain, node.op_type) not in known

    return [node for node in model.graph if any(map(is_unknown, _with_inner(node)))]


def _with_inner(node: ir.Node) -> Iterator[ir.Node]:
    """Yield ``node`` and the nodes of its subgraphs (of an If or Loop)."""
    yield node
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from attribute.as_graph().all_nodes()


def behind_plugins(model: ir.Model) -> set[ir.Node]:
    """The :func:`plugin_nodes`, and all that depends on one of them."""
    return set(walk(plugin_nodes(model), lambda node: node.successors()))


def runnable_part(model: ir.Model) -> ir.Model:
    """A copy of ``model`` up to its plug-in nodes.

    Its outputs are those of ``model`` that depend on none of them, and what is read for the others, in order.

    Raises:
        ModelError: nothing is left.
    """
    copy = with_short_opset(model.clone())
    gone = behind_plugins(copy)
    ends = [node for value in copy.graph.outputs if (node := value.producer()) is not None]
    needed = set(walk(ends, lambda node: node.predecessors())) & gone
    fed = [value for node in copy.graph if node in needed for value in node.inputs if value is not None]
    outputs = [value for value in copy.graph.outputs if value.producer() not in gone]
    outputs += [value for value in fed if value.producer() is not None and value.producer() not in gone]
    if not outputs:
        names = ", ".join(sorted({operator_of(node) for node in plugin_nodes(copy)}))
        raise ModelError(f"nothing can be run before {names}, which ONNX Runtime does not have")
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(dict.fromkeys(outputs))
    copy.graph.remove([node for node in reversed(list(copy.graph)) if node in gone], safe=True)
    return copy
