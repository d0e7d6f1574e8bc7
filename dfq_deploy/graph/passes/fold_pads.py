"""Fold zero Pads into the convolutions and pooling that read them, and write the others for all axes."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.query import constant_of

__all__ = ["fold_pads"]


def fold_pads(model: ir.Model) -> tuple[str, ...]:
    """Add, in place, what a Pad adds in space to the ``pads`` of all its readers; the float function stays the same.

    Between Q and DQ a Pad runs in float on ONNX Runtime, and keeps the convolution behind it from being fused. Rules:
    (1) the Pad adds zeros, in constant number, none negative, and to spatial axes alone; (2) each reader is a Conv, an
    AveragePool that counts its padding or has none (it counts it from then on), or a MaxPool of values that a Relu or
    a Clip keeps at zero or above, so that a zero never wins; (3) the reader states its own padding (``auto_pad`` is not
    set) and does not round its output size up (``ceil_mode``).

    A Pad of some axes is written as one of all axes first: ONNX Runtime 1.31 moves the Transposes of a quantized
    convolution through it without its axes, and then fails.

    Returns:
        the names of the Pads that were folded, in graph order.
    """
    names = Names(model.graph)
    for node in model.graph:
        _spread(model.graph, node, names)
    return tuple(str(node.name) for node in list(model.graph) if _fold(model.graph, node))


def _spread(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    """Give a Pad of some axes zeros for the others, where all of it is constant and the rank is known."""
    if not _is(node, "Pad") or len(node.inputs) < 4 or node.inputs[0] is None:
        return
    pads, axes, shape = constant_of(node.inputs[1]), constant_of(node.inputs[3]), node.inputs[0].shape
    if pads is None or axes is None or shape is None:
        return
    ends = np.zeros((2, len(shape)), np.int64)
    ends[:, axes.numpy()] = pads.numpy().reshape(2, -1)
    node.replace_input_with(1, add_constant(graph, names.fresh(f"{node.name}_pads"), ends.reshape(-1)))
    node.replace_input_with(3, None)


def _is(node: ir.Node | None, *op_types: str) -> bool:
    return node is not None and node.op_type in op_types and node.domain in ("", "ai.onnx")


def _fold(graph: ir.Graph, node: ir.Node) -> bool:
    if not _is(node, "Pad"):
        return False
    added, source, padded = _zeros_added(node), node.inputs[0], node.outputs[0]
    if added is None or source is None or padded.is_graph_output():
        return False
    readers = [use.node for use in padded.uses() if use.idx == 0]
    if (
        not readers
        or len(readers) != len(tuple(padded.uses()))
        or not all(_takes(reader, source, added) for reader in readers)
    ):
        return False
    for reader in readers:
        own = _own_pads(reader, len(added))
        if _is(reader, "AveragePool"):
            reader.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
        reader.attributes["pads"] = ir.AttrInt64s("pads", (own + added).tolist())
        reader.attributes.pop("auto_pad", None)
        reader.replace_input_with(0, source)
    graph.remove(node, safe=True)
    return True


def _zeros_added(node: ir.Node) -> NDArray[np.int64] | None:
    """Zeros before and behind each spatial axis, as ``pads`` of a Conv has them; None where rule 1 does not hold."""
    pads, value, axes = constant_of(node.inputs[1]), *(*node.inputs[2:4], None, None)[:2]
    if node.attributes.get_string("mode", "constant") != "constant" or pads is None or axes is not None:
        return None
    filled = constant_of(value)
    if value is not None and (filled is None or np.any(filled.numpy())):
        return None
    ends = pads.numpy().astype(np.int64).reshape(2, -1)
    if ends.shape[1] < 3 or np.any(ends[:, :2]) or np.any(ends < 0):
        return None
    return ends[:, 2:].reshape(-1)


def _own_pads(reader: ir.Node, count: int) -> NDArray[np.int64]:
    return np.asarray(reader.attributes.get_ints("pads", None) or [0] * count, np.int64)


def _takes(reader: ir.Node, source: ir.Value, added: NDArray[np.int64]) -> bool:
    """Rules 2 and 3, for one reader."""
    if reader.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    if _is(reader, "Conv"):
        return True
    if reader.attributes.get_int("ceil_mode", 0) or not _is(reader, "AveragePool", "MaxPool"):
        return False
    own, kernel = _own_pads(reader, len(added)), reader.attributes.get_ints("kernel_shape", ()) or ()
    if np.any(own + added >= np.tile(np.asarray(kernel), 2)):
        return False  # runtimes refuse a pooling window that may lie in the padding alone
    if _is(reader, "MaxPool"):
        return len(reader.outputs) == 1 and _is_never_negative(source)
    return not own.any() or bool(reader.attributes.get_int("count_include_pad", 0))


def _is_never_negative(value: ir.Value) -> bool:
    node = value.producer()
    if _is(node, "Clip") and node is not None:
        low = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        return low is not None and float(low.numpy()) >= 0
    return _is(node, "Relu", "Sigmoid", "HardSigmoid", "Softmax")
