"""Relu and Clip that read floats of an integer product, as Max and Min."""

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.operators import is_op

__all__ = ["write_float_clips"]

PRODUCTS = ("Gemm", "MatMul")


def write_float_clips(graph: ir.Graph, names: Names) -> tuple[str, ...]:
    """Write, in place, a Relu or Clip as Max and Min where ONNX Runtime would leave the product before it in float.

    ONNX Runtime (1.31) takes any Relu or Clip behind a product for one that the next Q makes redundant. Where the
    product writes float, since it is an output of the model, has other readers too, or no Q follows, it then finds
    no integer kernel: with 256 by 256 weights and one row such a Gemm takes 82 microseconds in place of 5. A Max is
    not looked at. A Relu that is folded into a Q, and one that nothing but the model's output reads, stay.

    Returns:
        the names of the nodes that were rewritten.
    """
    done = []
    for product in [node for node in graph if is_op(node, PRODUCTS) and _reads_integers(node)]:
        written = product.outputs[0]
        readers = [use.node for use in written.uses() if use.idx == 0 and use.node.graph is graph]
        if any(is_op(reader, "QuantizeLinear") for reader in readers):
            continue
        alone = len(written.uses()) == 1 and not written.is_graph_output()
        for clip in readers:
            if is_op(clip, ("Relu", "Clip")) and not (alone and _stays(clip)):
                done.append(str(clip.name))
                _rewrite(graph, clip, names)
    return tuple(done)


def _reads_integers(node: ir.Node) -> bool:
    sources = [None if value is None else value.producer() for value in node.inputs[:2]]
    return all(source is not None and is_op(source, "DequantizeLinear") for source in sources)


def _stays(clip: ir.Node) -> bool:
    """True for a Relu or Clip that ONNX Runtime folds into a Q, or leaves behind an integer kernel."""
    readers, listed = [use.node for use in clip.outputs[0].uses()], clip.outputs[0].is_graph_output()
    return not readers or (not listed and len(readers) == 1 and is_op(readers[0], "QuantizeLinear"))


def _rewrite(graph: ir.Graph, clip: ir.Node, names: Names) -> None:
    bounds: list[ir.Value | None] = [*clip.inputs[1:3], None, None][:2]
    if is_op(clip, "Relu"):
        bounds[0] = add_constant(graph, names.fresh(f"{clip.name}_zero"), np.zeros((), np.float32))
    steps, read = list[ir.Node](), clip.inputs[0]
    for operator, bound in zip(("Max", "Min"), bounds, strict=True):
        if bound is not None:
            steps.append(ir.node(operator, [read, bound], name=names.fresh(f"{clip.name}_{operator}")))
            read = steps[-1].outputs[0]
            read.name = names.fresh(f"{steps[-1].name}_output")
            read.type, read.shape = clip.outputs[0].type, clip.outputs[0].shape
    if not steps:  # a Clip without bounds
        return
    old, new = clip.outputs[0], steps[-1].outputs[0]
    graph.insert_before(clip, steps)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(clip, safe=True)
    steps[-1].name, new.name, old.name = clip.name, old.name, None
