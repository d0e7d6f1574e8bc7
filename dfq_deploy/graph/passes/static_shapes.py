"""Close all dimensions, for runtimes that take static shapes only."""

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.editing import replace_by_constant
from dfq_deploy.graph.file_shapes import size_name
from dfq_deploy.graph.infer_shapes import infer_shapes
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.passes.fold_constants import fold_constants
from dfq_deploy.graph.passes.input_shapes import known_dimension
from dfq_deploy.graph.passes.open_sizes import restore_output_shapes

__all__ = ["GRID", "fix_batch"]

GRID = 2**20
"""Bytes that a constant made of sizes may have where these are fixed: the anchors of a detector."""


def fix_batch(model: ir.Model, batch: int) -> None:
    """Close every dimension of ``model``, in place, for runtimes that take static shapes only.

    Rules: (1) where the first dimension of an input is open, it becomes ``batch``, and so does every other dimension
    of that name; (2) shapes inside the graph are inferred again; (3) a Shape of what is static now is a constant, and
    what is computed from it too.

    Raises:
        ModelError: an input is open beyond the batch.
    """
    fed = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    known: dict[str, int] = {}
    for value in fed:
        first = value.shape[0] if value.shape else None
        if first is not None and (name := size_name(first)):
            known[name] = batch
    for value in fed:
        if value.shape:
            dims = [known_dimension(dim, known) for dim in value.shape]
            is_fixed = isinstance(dims[0], int) and dims[0] >= 0  # some exporters write -1 for an open batch
            value.shape = ir.Shape([dims[0] if is_fixed else batch, *dims[1:]])
        if value.shape is None or not _is_closed(value.shape):
            shown = "unknown" if value.shape is None else f"({', '.join(str(dim) for dim in value.shape)})"
            raise ModelError(
                f"input '{value.name}': shape {shown} is open, and the runtime takes static shapes only; fix it with "
                f"--input-shape {value.name}:1,3,224,224"
            )
    declared = [value.shape for value in model.graph.outputs]
    for value in (*(v for node in model.graph.all_nodes() for v in node.outputs), *model.graph.outputs):
        if value.shape is not None and not _is_closed(value.shape):
            value.shape = None
    infer_shapes(model)
    # Again until nothing is left: a Reshape to a shape that is known now makes the next one static.
    while [node for node in list(model.graph) if _fold_shape(model.graph, node)]:
        fold_constants(model, leave=("QuantizeLinear", "DequantizeLinear"), room=GRID)
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        infer_shapes(model)
    restore_output_shapes(model, declared, known)


def _is_closed(shape: ir.Shape) -> bool:
    return shape.is_static() and all(dim >= 0 for dim in shape.numpy())


def _fold_shape(graph: ir.Graph, node: ir.Node) -> bool:
    """Replace a Shape node whose input is static by an initializer."""
    source = node.inputs[0] if is_op(node, "Shape") else None
    if source is None or source.shape is None or not source.shape.is_static() or node.outputs[0].is_graph_output():
        return False
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(source.shape))
    replace_by_constant(graph, node.outputs[0], np.asarray(source.shape.numpy()[start:end], np.int64))
    graph.remove(node, safe=True)
    return True
