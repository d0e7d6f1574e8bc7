"""Open the batch dimension where the graph fixes it."""

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.operators import is_op

__all__ = ["open_batch"]


def open_batch(model: ir.Model, batch: int) -> None:
    """Let ``model``, in place, take any batch where its graph was exported for ``batch`` samples.

    Rules: (1) a constant shape of Reshape whose first entry is ``batch``, on a tensor of that first dimension, copies
    that dimension instead; (2) where it is a multiple of it, without another entry that is left to be computed, the
    first entry is (a shuffle of channels folds these into the batch); (3) one of Expand broadcasts it; (4) constant
    sizes of Resize become the scales that they are. What fixes the batch by other means still does, and rule 2 may mix
    samples: whoever runs the result compares it with single ones.
    """
    for node in list(model.graph):
        _scale(model.graph, node)
        value = node.inputs[1] if is_op(node, ("Reshape", "Expand")) else None
        if value is None or value.const_value is None or value.producer() is not None:
            continue
        wanted = value.const_value.numpy().copy()
        source = node.inputs[0].shape if node.inputs[0] is not None else None
        folded = is_op(node, "Reshape") and bool(wanted.size) and wanted[0] != batch
        if wanted.size == 0 or node.attributes.get_int("allowzero", 0) != 0:
            continue
        if is_op(node, "Reshape") and (source is None or not len(source) or source[0] != batch):
            continue
        if wanted[0] != batch and not (folded and wanted.min() > 0 and wanted[0] % batch == 0):
            continue
        wanted[0] = -1 if folded else 0 if is_op(node, "Reshape") else 1
        name = Names(model.graph).fresh(f"{node.name}_open_shape")
        node.replace_input_with(1, add_constant(model.graph, name, wanted))


def _scale(graph: ir.Graph, node: ir.Node) -> None:
    """Rule 4, where the scales give the same sizes."""
    given = node.inputs[3] if is_op(node, "Resize") and len(node.inputs) > 3 else None
    source = node.inputs[0].shape if node.inputs[0] is not None else None
    if given is None or given.const_value is None or source is None or "axes" in node.attributes:
        return
    wanted, dims = given.const_value.numpy(), [dim if isinstance(dim, int) else 0 for dim in source]
    if not wanted.size or wanted[0] != dims[0] or min(dims) < 1:
        return
    scales = (wanted / np.array(dims)).astype(np.float32)
    if (np.floor(np.array(dims, np.float32) * scales) != wanted).any():
        return
    node.replace_input_with(2, add_constant(graph, Names(graph).fresh(f"{node.name}_open_scales"), scales))
    node.resize_inputs(3)
