"""Fold scales and shifts by constants into the weights before them."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.channel_scaling import output_channels, scale_outputs, take_over, takes_shift
from dfq_deploy.graph.editing import drop_unused_initializers
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["fold_affine"]

Floats = NDArray[np.float64]


def fold_affine(model: ir.Model) -> tuple[str, ...]:
    """Fold, in place, each Mul, Div, Add or Sub of a constant whose other input is a Conv, ConvTranspose or Gemm.

    Exporters write biases as an Add of shape (1, C, 1, 1), and networks learn a scale and a shift behind each
    convolution (PP-LCNetV3). As operators of their own they cost a pass over the tensor, and separate the convolution
    from its activation function in integers.

    Rules: (1) weights, bias and the constant are floats, the constant has one value or one for each output channel;
    (2) nothing else reads what the weighted node writes; (3) its output takes the name of the folded node's.

    Returns:
        the names of the nodes that were folded, in graph order.
    """
    folded = [str(node.name) for node in list(model.graph) if _fold(model.graph, node)]
    drop_unused_initializers(model.graph)
    return tuple(folded)


def _fold(graph: ir.Graph, node: ir.Node) -> bool:
    if not is_op(node, ("Mul", "Div", "Add", "Sub")):
        return False
    place = next((place for place, value in enumerate(node.inputs) if constant_of(value) is None), 0)
    source, constant = node.inputs[place], node.inputs[1 - place]
    layer = None if source is None else source.producer()
    channels = None if layer is None or layer.graph is not graph else output_channels(layer)
    if source is None or layer is None or channels is None or not takes_shift(layer):
        return False
    if len(tuple(source.uses())) != 1 or source.is_graph_output() or source.shape is None:
        return False
    values = _of_channels(constant, channels, len(source.shape))
    if values is None or (is_op(node, "Div") and (place == 1 or not values.all())):
        return False
    factor, shift = np.ones(channels), None
    if is_op(node, ("Mul", "Div")):
        factor = values if is_op(node, "Mul") else 1 / values
    else:
        factor = -factor if is_op(node, "Sub") and place == 1 else factor
        shift = -values if is_op(node, "Sub") and place == 0 else values
    scale_outputs(graph, layer, factor, shift)
    take_over(node, layer)
    return True


def _of_channels(value: ir.Value | None, channels: int, rank: int) -> Floats | None:
    """The constant as one number for each channel; None where it is none, or changes from place to place."""
    constant = constant_of(value)
    if constant is None or constant.dtype != ir.DataType.FLOAT or len(constant.shape) > rank or rank < 2:
        return None
    array = constant.numpy().astype(np.float64)
    shape = (*[1] * (rank - array.ndim), *array.shape)
    if array.size != 1 and (array.size != channels or shape[1] != channels):
        return None
    return np.array(np.broadcast_to(array.reshape(-1), (channels,)))
