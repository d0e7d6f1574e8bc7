"""Give the decoding of a detector 16 bits where the target computes all of it in integers."""

from collections.abc import Iterable

import onnx_ir as ir

from dfq_deploy.graph.detection import head_parts
from dfq_deploy.graph.editing import Names
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of
from dfq_deploy.graph.traversal import after, before
from dfq_deploy.quantization.bit_widths import set_bits
from dfq_deploy.quantization.placement.predicates import is_projection, mark_narrow_copy
from dfq_deploy.targets.target import Target

__all__ = ["widen_heads"]

BITS = 16


def widen_heads(model: ir.Model, target: Target) -> tuple[str, ...]:
    """Mark, in place, every tensor behind the last layers of a detector for 16 bits.

    One scale for pixels up to 640 has steps of 2.5 pixels at 8 bits, and next to them a score is 0 or 1. Tensors that
    enter from layers of 8 bits are copied, and the copies have 16 bits. Heads that return what their layers write,
    boxes and scores apart, stay as they are; so do all models for targets that leave the decoding in float.

    Returns:
        names of the tensors.
    """
    wide = any(activation == "u16" for activation, _ in target.pairs)
    parts = head_parts(model) if target.style == "everything" and wide else ()
    joined = {part.output for part in parts if part.role == "boxes"} & {
        part.output for part in parts if part.role == "scores"
    }
    outputs = {part.output for part in parts if not part.raw and part.role == "boxes"} | joined
    inside = _decoding([value.producer() for value in model.graph.outputs if value.name in outputs])
    names, marked = Names(model.graph), []
    for value in _read(inside):
        constant = constant_of(value)
        outside = [use for use in value.uses() if use.node not in inside]
        if constant is not None and not outside and constant.dtype == ir.DataType.FLOAT:
            set_bits(value, BITS)
        elif constant is None and value.dtype == ir.DataType.FLOAT and value.producer() not in inside:
            marked.append(_copied(model.graph, value, inside, names))
    for node in inside:
        marked += [value for value in node.outputs if value.dtype == ir.DataType.FLOAT]
    for value in marked:
        set_bits(value, BITS)
    return tuple(str(value.name) for value in marked)


def _decoding(ends: Iterable[ir.Node | None]) -> set[ir.Node]:
    """The nodes before ``ends`` that no layer follows, and that are none."""

    def is_layer(node: ir.Node) -> bool:
        return is_op(node, WEIGHTED_OPS) and not is_projection(node)

    found = {node for end in ends if end is not None for node in (end, *before(end))}
    return {node for node in found if not is_layer(node) and not any(is_layer(reader) for reader in after(node))}


def _read(nodes: Iterable[ir.Node]) -> list[ir.Value]:
    return list(dict.fromkeys(value for node in nodes for value in node.inputs if value is not None))


def _copied(graph: ir.Graph, value: ir.Value, inside: set[ir.Node], names: Names) -> ir.Value:
    """A copy of ``value`` for the nodes that read it inside."""
    identity = ir.node("Identity", [value], name=names.fresh(f"{value.name}_Identity"))
    mark_narrow_copy(identity)
    copy = identity.outputs[0]
    copy.name, copy.type, copy.shape = names.fresh(f"{value.name}_wide"), value.type, value.shape
    readers = [use for use in value.uses() if use.node in inside]
    producer = value.producer()
    if producer is None:
        graph.insert_before(next(iter(graph)), [identity])
    else:
        graph.insert_after(producer, [identity])
    for use in readers:
        use.node.replace_input_with(use.idx, copy)
    return copy
