"""Fuse Gelu where it is written with Erf."""

import math

import onnx_ir as ir

from dfq_deploy.graph.editing import Names
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["LEAST_GELU", "fuse_gelu", "gelu_outputs"]

DOMAIN = "com.microsoft"
"""ONNX Runtime's own operators; ONNX has Gelu from opset 20 on."""

LEAST_GELU = -0.17
"""No value of a Gelu is smaller, up to rounding."""

STEPS = 3
"""Products after the Erf, at most: by x, by a half, in either order."""

CLOSE = 1e-3
"""Relative difference of a constant that was rounded to half precision."""


def fuse_gelu(model: ir.Model) -> tuple[str, ...]:
    """Replace, in place, ``x / 2 * (1 + erf(x / sqrt(2)))`` by ONNX Runtime's Gelu, however the products are ordered.

    Returns:
        the names of the nodes that were replaced: the last product of each.
    """
    names, fused = Names(model.graph), []
    for erf in [node for node in model.graph if is_op(node, "Erf")]:
        found = _gelu(erf)
        if found is None:
            continue
        source, last = found
        gelu = ir.node("Gelu", [source], domain=DOMAIN, name=names.fresh(f"{last.name}_Gelu"))
        old, new = last.outputs[0], gelu.outputs[0]
        new.shape, new.type = old.shape, old.type
        model.graph.insert_before(last, [gelu])
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        name, old.name = old.name, None
        new.name = name
        _remove_unused(model.graph, last)
        fused.append(str(last.name))
    if fused:
        model.opset_imports.setdefault(DOMAIN, 1)
    return tuple(fused)


def gelu_outputs(graph: ir.Graph) -> frozenset[ir.Value]:
    """What a Gelu writes, written with Erf or not."""
    ends = [found[1] for erf in graph if is_op(erf, "Erf") and (found := _gelu(erf)) is not None]
    whole = [node for node in graph if node.op_type in ("Gelu", "FastGelu", "BiasGelu")]
    return frozenset(node.outputs[0] for node in (*ends, *whole))


def _gelu(erf: ir.Node) -> tuple[ir.Value, ir.Node] | None:
    """The input of the Gelu that ``erf`` is part of, and the node that ends it; None where it is part of none."""
    inner = None if erf.inputs[0] is None else _scaled(erf.inputs[0])
    shifted = _only_reader(erf.outputs[0])
    if inner is None or shifted is None or not math.isclose(inner[1], math.sqrt(0.5), rel_tol=CLOSE):
        return None
    if not is_op(shifted, "Add") or not any(_scalar(value) == 1 for value in shifted.inputs):
        return None
    source, node, factor, multiplied = inner[0], shifted, 1.0, False
    for _ in range(STEPS):
        reader = _only_reader(node.outputs[0])
        if reader is None or not is_op(reader, "Mul"):
            return None
        other = reader.inputs[1 if reader.inputs[0] is node.outputs[0] else 0]
        constant, scaled = _scalar(other), None if other is None else _scaled(other)
        if constant is not None:
            factor *= constant
        elif not multiplied and (other is source or (scaled is not None and scaled[0] is source)):
            factor, multiplied = factor * (1.0 if other is source or scaled is None else scaled[1]), True
        else:
            return None
        node = reader
        if multiplied and math.isclose(factor, 0.5, rel_tol=CLOSE):
            return source, node
    return None


def _scaled(value: ir.Value) -> tuple[ir.Value, float] | None:
    """Source and factor of a product or quotient with one constant."""
    node = value.producer()
    if node is None or not is_op(node, ("Div", "Mul")) or len(node.inputs) != 2:
        return None
    for source, constant in (tuple(node.inputs), tuple(node.inputs[::-1])):
        number = _scalar(constant)
        if source is None or number is None or number == 0 or (is_op(node, "Div") and source is not node.inputs[0]):
            continue
        return source, 1 / number if is_op(node, "Div") else number
    return None


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _scalar(value: ir.Value | None) -> float | None:
    constant = constant_of(value)
    return float(constant.numpy().reshape(-1)[0]) if constant is not None and constant.size == 1 else None


def _remove_unused(graph: ir.Graph, node: ir.Node) -> None:
    """Remove ``node`` and what only it has read."""
    if any(value.uses() or value.is_graph_output() for value in node.outputs):
        return
    sources = [value.producer() for value in node.inputs if value is not None]
    graph.remove(node, safe=True)
    for source in dict.fromkeys(sources):
        if source is not None and source.graph is graph:
            _remove_unused(graph, source)
