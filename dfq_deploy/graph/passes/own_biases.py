"""Give every weighted node a bias of its own."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.editing import add_constant
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, weighted_nodes

__all__ = ["CHANNEL_AXIS", "give_own_biases"]

CHANNEL_AXIS = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1}
"""Operators that take a bias -> the axis of their output that it is added along."""


def give_own_biases(model: ir.Model) -> dict[str, ir.Node]:
    """The weighted nodes whose bias can be shifted, by output name; each gets a bias of its own."""
    found = {}
    for node in weighted_nodes(model):
        if not is_op(node, CHANNEL_AXIS) or node.outputs[0].name is None:
            continue
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None and constant_of(bias) is None:
            continue
        if bias is None or len(bias.uses()) > 1:
            _give_bias(model, node, bias)
        found[node.outputs[0].name] = node
    return found


def _give_bias(model: ir.Model, node: ir.Node, shared: ir.Value | None) -> None:
    weight = constant_of(node.inputs[1])
    assert weight is not None
    if shared is not None:
        tensor = constant_of(shared)
        assert tensor is not None
        values = tensor.numpy().copy()
    else:
        values = np.zeros(_channels(node, weight.shape.numpy()), weight.dtype.numpy())
    name = f"{node.outputs[0].name}_bias"
    bias = add_constant(model.graph, name, values)
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, bias)


def _channels(node: ir.Node, weight: Sequence[int]) -> int:
    """Number of output channels of a weighted node."""
    group = node.attributes.get_int("group", 1)
    transposed = node.attributes.get_int("transB", 0)
    if is_op(node, "Conv") or (is_op(node, "Gemm") and transposed):
        return weight[0]
    return weight[1] * (group if is_op(node, "ConvTranspose") else 1)
