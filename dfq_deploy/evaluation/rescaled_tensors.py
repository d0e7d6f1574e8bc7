"""Find the tensors of a float model that a Mul of its quantized file multiplies channel by channel."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of

__all__ = ["channel_scale", "rescaled_tensors"]

Floats = NDArray[np.floating[Any]]


def rescaled_tensors(reference: ir.Model, quantized: ir.Model) -> dict[str, Floats]:
    """Tensor of the float model -> the factor of each of its channels (C,), beyond those that float multiplies it by.

    ``--refine channels`` puts such a Mul behind a tensor (:mod:`dfq_deploy.refinement.channel_ranges`), or changes one
    that is there.
    """
    writers = {name_of(value): node for node in reference.graph for value in node.outputs}
    found = {}
    for node in quantized.graph:
        scale, writer = channel_scale(node), writers.get(name_of(node.outputs[0]))
        if scale is None or writer is None:
            continue
        known = channel_scale(writer)
        factors = scale if known is None or known.shape != scale.shape else scale / np.where(known == 0, 1.0, known)
        if not np.allclose(factors, 1.0):
            found[name_of(node.outputs[0])] = factors
    return found


def channel_scale(node: ir.Node) -> Floats | None:
    """The constants (C,) that a Mul multiplies the channels of its input (N, C, ...) by; None for other nodes."""
    constants = [constant_of(value) for value in node.inputs] if is_op(node, "Mul") else []
    values = next((entry.numpy() for entry in constants if entry is not None and entry.size > 1), None)
    if values is None or values.ndim < 3 or values.size != values.shape[-3]:
        return None
    return np.asarray(values, np.float64).reshape(-1)
