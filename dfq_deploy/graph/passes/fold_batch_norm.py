"""Fold BatchNormalization into the weights before it."""

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.channel_scaling import scale_outputs, take_over
from dfq_deploy.graph.editing import drop_unused_initializers
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import batch_normalizations, constant_of

__all__ = ["clone", "fold_batch_normalization"]

SCALED = ("Conv", "ConvTranspose", "Gemm")
"""What has a bias of its own."""


def clone(model: ir.Model) -> ir.Model:
    """A copy that can be changed freely; the tensors of the initializers are shared, not copied."""
    return model.clone()


def fold_batch_normalization(model: ir.Model) -> tuple[str, ...]:
    """Fold, in place, each BatchNormalization whose only input is a Conv, ConvTranspose or Gemm of constant weights.

    Rules: (1) an Identity of an initializer is replaced by that initializer; (2) with ``s = scale / sqrt(var + eps)``,
    the weights of output channel c become ``w * s[c]`` and the bias ``(b - mean[c]) * s[c] + shift[c]``, worked out in
    float64 and stored in the weights' own type; a missing bias is made; (3) weights or biases that another node reads
    too are copied first; (4) the weighted node's output takes the name of the BatchNormalization's, so that the names
    of graph outputs and of everything downstream stay; (5) one whose input is read elsewhere, is a graph output, or
    comes from another operator (pre-activation networks) stays.

    Returns:
        the names of the nodes that were folded, in graph order.
    """
    _resolve_identities(model.graph)
    folded = [node for node in batch_normalizations(model) if _fold(model.graph, node)]
    drop_unused_initializers(model.graph)
    return tuple(node.name or "" for node in folded)


def _resolve_identities(graph: ir.Graph) -> None:
    for node in list(graph):
        if not is_op(node, "Identity") or node.outputs[0].is_graph_output():
            continue
        source = node.inputs[0]
        if source is not None and constant_of(source) is not None:
            node.outputs[0].replace_all_uses_with(source)
            graph.remove(node, safe=True)


def _fold(graph: ir.Graph, batch_norm: ir.Node) -> bool:
    source = batch_norm.inputs[0]
    node = source.producer() if source is not None else None
    if source is None or node is None or node.graph is not batch_norm.graph or not is_op(node, SCALED):
        return False
    if len(source.uses()) != 1 or source.is_graph_output() or not _is_inference(batch_norm):
        return False
    constants = [constant_of(value) for value in batch_norm.inputs[1:5]]
    weight = constant_of(node.inputs[1])
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = constant_of(bias_value)
    if weight is None or None in constants or (bias_value is not None and bias is None):
        return False
    scale, shift, mean, variance = (c.numpy().astype(np.float64) for c in constants if c is not None)
    factor = scale / np.sqrt(variance + batch_norm.attributes.get_float("epsilon", 1e-5))
    scale_outputs(graph, node, factor, shift - mean * factor)
    take_over(batch_norm, node)
    return True


def _is_inference(batch_norm: ir.Node) -> bool:
    training = batch_norm.attributes.get_int("training_mode", 0)
    return not training and all(not value.uses() for value in batch_norm.outputs[1:])
