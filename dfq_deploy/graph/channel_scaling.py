"""Scale the output or the input channels of a weighted node, and shift the outputs, in its constants."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import channel_shape
from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["output_channels", "scale_inputs", "scale_outputs", "set_constant", "take_over", "takes_shift"]

Floats = NDArray[np.float64]


def output_channels(node: ir.Node) -> int | None:
    """Output channels of a Conv, ConvTranspose, Gemm, or MatMul by a matrix; None without a constant weight."""
    weight = constant_of(node.inputs[1]) if is_op(node, _SCALED) and len(node.inputs) > 1 else None
    if weight is None or (is_op(node, "MatMul") and len(weight.shape) != 2):
        return None
    shape = weight.shape.numpy()
    if is_op(node, "ConvTranspose"):
        return int(shape[1] * node.attributes.get_int("group", 1))
    by_row = is_op(node, "Conv") or bool(node.attributes.get_int("transB", 0))
    return int(shape[0] if by_row else shape[1])


def takes_shift(node: ir.Node) -> bool:
    """True for a weighted node with a constant bias, or that could have one."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return is_op(node, ("Conv", "ConvTranspose", "Gemm")) and (bias is None or constant_of(bias) is not None)


def scale_outputs(graph: ir.Graph, node: ir.Node, factor: Floats, shift: Floats | None = None) -> None:
    """Multiply each output channel of ``node`` by its ``factor`` and add its ``shift``, in weight and bias.

    Worked out in float64, stored in the weight's own type; constants that another node reads too are copied first.

    Args:
        node: one of those that :func:`output_channels` counts; :func:`takes_shift` where there is a shift or a bias.
        factor: one for each output channel.
        shift: one for each output channel; None leaves a missing bias out.
    """
    weight = constant_of(node.inputs[1])
    assert weight is not None
    dtype = weight.numpy().dtype
    scaled = _SCALED[node.op_type](weight.numpy().astype(np.float64), factor, node)
    set_constant(graph, node, 1, scaled.astype(dtype), f"{node.name}_weight")
    bias = constant_of(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is None and shift is None:
        return
    old = np.zeros(1) if bias is None else bias.numpy().astype(np.float64) * node.attributes.get_float("beta", 1.0)
    if "beta" in node.attributes:
        node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    moved = old * factor + (0.0 if shift is None else shift)
    set_constant(graph, node, 2, moved.astype(dtype), f"{node.name}_bias")


def scale_inputs(graph: ir.Graph, node: ir.Node, factor: Floats) -> None:
    """Multiply what the weight of a Conv, Gemm or MatMul makes of each input channel by its ``factor``."""
    weight = constant_of(node.inputs[1])
    assert weight is not None
    values = weight.numpy().astype(np.float64)
    if is_op(node, "Conv"):
        groups = node.attributes.get_int("group", 1)
        grouped = values.reshape(groups, values.shape[0] // groups, values.shape[1], -1)
        scaled = (grouped * factor.reshape(groups, 1, values.shape[1], 1)).reshape(values.shape)
    else:
        scaled = values * (factor if node.attributes.get_int("transB", 0) else factor[:, None])
    set_constant(graph, node, 1, scaled.astype(weight.numpy().dtype), f"{node.name}_weight")


def set_constant(graph: ir.Graph, node: ir.Node, index: int, array: NDArray[Any], name: str) -> None:
    """Make ``array`` the input ``index`` of ``node``: in place where no other node reads the old one."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is not None and len(value.uses()) == 1 and not value.is_graph_output():
        value.const_value = ir.tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
        return
    fresh = add_constant(graph, Names(graph).fresh(name), array)
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, fresh)


def take_over(gone: ir.Node, node: ir.Node) -> None:
    """Give ``node``'s output the name, the type and the readers of ``gone``'s; remove ``gone``."""
    kept, old = node.outputs[0], gone.outputs[0]
    name, kept.shape, kept.type = old.name, old.shape, old.type
    old.replace_all_uses_with(kept, replace_graph_outputs=True)
    graph = gone.graph
    if isinstance(graph, ir.Graph):
        graph.remove(gone, safe=True)
    old.name = None
    kept.name = name


def _scale_conv(weight: Floats, factor: Floats, _: ir.Node) -> Floats:
    """Weight (M, C/groups, ...): the output channel comes first."""
    return weight * factor.reshape(channel_shape(weight.ndim, 0))


def _scale_transposed(weight: Floats, factor: Floats, node: ir.Node) -> Floats:
    """Weight (C, M/groups, ...): the output channel is split over the groups of the first axis and the second."""
    groups = node.attributes.get_int("group", 1)
    grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    return (grouped * factor.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)


def _scale_matrix(weight: Floats, factor: Floats, node: ir.Node) -> Floats:
    """Weight (K, N), or (N, K) with transB."""
    return weight * (factor[:, None] if node.attributes.get_int("transB", 0) else factor)


_SCALED: dict[str, Callable[[Floats, Floats, ir.Node], Floats]] = {
    "Conv": _scale_conv,
    "ConvTranspose": _scale_transposed,
    "Gemm": _scale_matrix,
    "MatMul": _scale_matrix,
}
