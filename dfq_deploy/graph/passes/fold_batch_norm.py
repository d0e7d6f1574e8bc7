"""Fold BatchNormalization into the weights before it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import channel_shape
from dfq_deploy.graph.editing import Names, add_constant, drop_unused_initializers
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import batch_normalizations, constant_of

__all__ = ["clone", "fold_batch_normalization"]

Floats = NDArray[np.float64]


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
    if source is None or node is None or node.graph is not batch_norm.graph or not is_op(node, _SCALED):
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
    old = np.zeros(1) if bias is None else bias.numpy().astype(np.float64) * node.attributes.get_float("beta", 1.0)
    if "beta" in node.attributes:
        node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    dtype = weight.numpy().dtype
    scaled = _SCALED[node.op_type](weight.numpy().astype(np.float64), factor, node)
    _set_constant(graph, node, 1, scaled.astype(dtype), f"{node.name}_weight")
    _set_constant(graph, node, 2, ((old - mean) * factor + shift).astype(dtype), f"{node.name}_bias")
    _take_over(batch_norm, node)
    return True


def _is_inference(batch_norm: ir.Node) -> bool:
    training = batch_norm.attributes.get_int("training_mode", 0)
    return not training and all(not value.uses() for value in batch_norm.outputs[1:])


def _scale_conv(weight: Floats, factor: Floats, _: ir.Node) -> Floats:
    """Weight (M, C/groups, ...): the output channel comes first."""
    return weight * factor.reshape(channel_shape(weight.ndim, 0))


def _scale_transposed(weight: Floats, factor: Floats, node: ir.Node) -> Floats:
    """Weight (C, M/groups, ...): the output channel is split over the groups of the first axis and the second."""
    groups = node.attributes.get_int("group", 1)
    grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return (grouped * factor.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)


def _scale_gemm(weight: Floats, factor: Floats, node: ir.Node) -> Floats:
    """Weight (K, N), or (N, K) with transB."""
    return weight * (factor[:, None] if node.attributes.get_int("transB", 0) else factor)


_SCALED: dict[str, Callable[[Floats, Floats, ir.Node], Floats]] = {
    "Conv": _scale_conv,
    "ConvTranspose": _scale_transposed,
    "Gemm": _scale_gemm,
}


def _set_constant(graph: ir.Graph, node: ir.Node, index: int, array: NDArray[Any], name: str) -> None:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is not None and len(value.uses()) == 1 and not value.is_graph_output():
        value.const_value = ir.tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
        return
    fresh = add_constant(graph, Names(graph).fresh(name), array)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, fresh)


def _take_over(batch_norm: ir.Node, node: ir.Node) -> None:
    """Give ``node``'s output the name, the type and the readers of ``batch_norm``'s; remove the latter."""
    kept, gone = node.outputs[0], batch_norm.outputs[0]
    name, kept.shape, kept.type = gone.name, gone.shape, gone.type
    gone.replace_all_uses_with(kept, replace_graph_outputs=True)
    graph = batch_norm.graph
    if isinstance(graph, ir.Graph):
        graph.remove(batch_norm, safe=True)
    gone.name = None
    kept.name = name
