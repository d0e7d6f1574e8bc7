"""Bring the graph into the form that is written: static shapes, no idle node, joined activations."""

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, ShapeInferencePass

from dfq_deploy.graph.editing import Names, add_constant, drop_unused_initializers
from dfq_deploy.graph.operators import QDQ_OPS, is_op
from dfq_deploy.graph.passes.fold_constants import fold_constants
from dfq_deploy.graph.passes.static_shapes import GRID, fix_batch
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.quantization.qdq_reader import constant_dequantizer

from .values import constant_array

__all__ = ["prepared"]

TRANSPARENT = QDQ_OPS | {"Relu", "Clip", "HardSwish", "LeakyRelu", "PRelu", "Sigmoid", "Add", "Mul"}
"""Operators that leave the axes where they are."""

CHANNELS_LAST_OPS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "Resize", "BatchNormalization"})
"""Operators that LiteRT computes with the channels last."""


def prepared(model: ir.Model, batch: int) -> ir.Model:
    """Return a copy of ``model``, float or with Q and DQ, in the form that is written.

    Rules: (1) all dimensions are static, an open batch is ``batch``; (2) constants are computed, Identity, Dropout and
    casts to the same type are removed; (3) the nodes of a GELU that is written with Erf become one, and so do a MatMul
    and the Add of its bias, which becomes the third input; (4) the rows of a dense layer's weight are put into the
    order in which a flattened image lies in the file, so that the image need not be transposed.

    Raises:
        ModelError: a dimension beyond the batch is open.
    """
    copy = model.clone()
    fix_batch(copy, batch)
    graph = copy.graph
    lift = LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    lift(copy)
    while fold_constants(copy, leave=("QuantizeLinear", "DequantizeLinear"), room=GRID):
        lift(copy)
    for node in list(graph):
        _remove_if_idle(graph, node)
    for node in list(graph):
        _join_gelu(graph, node)
    for node in list(graph):
        _join_bias(graph, node)
    ShapeInferencePass(check_type=False, strict_mode=False)(copy)
    names = Names(graph)
    for node in list(graph):
        _flatten_channels_last(graph, node, names)
    drop_unused_initializers(graph)
    graph.sort()
    return copy


def _remove_if_idle(graph: ir.Graph, node: ir.Node) -> None:
    value = node.inputs[0] if node.inputs else None
    cast = (
        is_op(node, "Cast") and value is not None and value.dtype is not None and value.dtype == node.outputs[0].dtype
    )
    if value is None or not (cast or is_op(node, ("Identity", "Dropout"))) or any(v.uses() for v in node.outputs[1:]):
        return
    output = node.outputs[0]
    if output.is_graph_output():
        if value.is_graph_input() or value.is_initializer() or value.is_graph_output():
            return  # written as a copy
        name, output.name = output.name, None
        value.name = name
    output.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _join_gelu(graph: ir.Graph, node: ir.Node) -> None:
    """Replace x / sqrt(2), Erf, + 1 and two multiplications by one Gelu."""
    if not is_op(node, "Erf"):
        return
    inner = None if node.inputs[0] is None else node.inputs[0].producer()
    source = _scaled(inner, np.sqrt(0.5))
    added = _only_reader(node.outputs[0])
    if source is None or added is None or not is_op(added, "Add") or _other_number(added, node.outputs[0]) != 1:
        return
    product, halved = _only_reader(added.outputs[0]), False
    steps = [added]
    last = None
    while product is not None and is_op(product, ("Mul", "Div")):
        others = [value for value in product.inputs if value is not steps[-1].outputs[0]]
        other = others[0] if others else None
        number = _number(other)
        half = number is not None and np.isclose(number, 0.5 if is_op(product, "Mul") else 2.0)
        if half and not halved:
            halved = True
        elif other is source and last is None and is_op(product, "Mul"):
            last = product
        elif last is None and not halved and is_op(product, "Mul") and _scaled(_producer(other), 0.5) is source:
            halved, last = True, product
        else:
            return
        steps.append(product)
        if halved and last is not None:
            break
        product = _only_reader(product.outputs[0])
    if not (halved and last is not None):
        return
    before = [producer for value in steps[-1].inputs if (producer := _producer(value)) is not None]
    _take_over(graph, steps[-1], ir.node("Gelu", [source], name=node.name))
    for producer in dict.fromkeys(before):
        _remove_unread(graph, producer)


def _join_bias(graph: ir.Graph, node: ir.Node) -> None:
    weight = constant_array(node.inputs[1]) if is_op(node, "MatMul") else None
    add = None if weight is None or weight.ndim != 2 else _only_reader(node.outputs[0])
    if weight is None or add is None or not is_op(add, "Add"):
        return
    bias = next((value for value in add.inputs if value is not node.outputs[0]), None)
    constant = constant_of(bias)
    shape = None if constant is None else constant.shape.numpy()
    if shape is None or constant is None or constant.size != weight.shape[1] or (shape and shape[-1] != constant.size):
        return
    joined = ir.node("MatMul", [*node.inputs, bias], name=node.name)
    _take_over(graph, add, joined)
    graph.remove(node, safe=True)


def _take_over(graph: ir.Graph, last: ir.Node, joined: ir.Node) -> None:
    """Put ``joined`` behind ``last``, whose output it computes, and remove ``last``."""
    old, new = last.outputs[0], joined.outputs[0]
    graph.insert_after(last, [joined])
    name, new.type, new.shape = old.name, old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(last, safe=True)
    old.name, new.name = None, name


def _remove_unread(graph: ir.Graph, node: ir.Node) -> None:
    if any(value.uses() or value.is_graph_output() for value in node.outputs):
        return
    before = [producer for value in node.inputs if (producer := _producer(value)) is not None]
    graph.remove(node, safe=True)
    for producer in dict.fromkeys(before):
        _remove_unread(graph, producer)


def _producer(value: ir.Value | None) -> ir.Node | None:
    return None if value is None else value.producer()


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _number(value: ir.Value | None) -> float | None:
    constant = constant_of(value)
    return float(constant.numpy().reshape(-1)[0]) if constant is not None and constant.size == 1 else None


def _other_number(node: ir.Node, value: ir.Value) -> float | None:
    return next((_number(other) for other in node.inputs if other is not value), None)


def _scaled(node: ir.Node | None, factor: float) -> ir.Value | None:
    """Return x if ``node`` computes x * factor; else None."""
    if node is None or not is_op(node, ("Mul", "Div")):
        return None
    numbers = [_number(value) for value in node.inputs]
    if is_op(node, "Div"):
        return node.inputs[0] if numbers[1] is not None and np.isclose(numbers[1] * factor, 1, rtol=1e-4) else None
    for index, number in enumerate(numbers):
        if number is not None and np.isclose(number, factor, rtol=1e-4):
            return node.inputs[1 - index]
    return None


def _flatten_channels_last(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    """Rule 4: put a Transpose before the Flatten, which costs nothing there, and reorder the weight."""
    if not is_op(node, ("Gemm", "MatMul")) or node.attributes.get_int("transA"):
        return
    flatten = _before(node.inputs[0])
    image = flatten.inputs[0] if flatten is not None and is_op(flatten, ("Flatten", "Reshape")) else None
    shape = None if image is None or image.shape is None or not image.shape.is_static() else image.shape.numpy()
    if (
        flatten is None
        or image is None
        or shape is None
        or len(shape) != 4
        or shape[2] * shape[3] == 1
        or shape[1] == 1
    ):
        return
    flat = flatten.outputs[0].shape
    if flat is None or not flat.is_static() or flat.numpy() != (shape[0], shape[1] * shape[2] * shape[3]):
        return
    if not _lies_channels_last(image) or not _read_by(flatten.outputs[0], node):
        return
    holder = constant_dequantizer(node.inputs[1])
    stored = node.inputs[1] if holder is None else holder.inputs[0]
    weight = constant_of(stored)
    if weight is None or stored is None or len(stored.uses()) != 1:
        return
    rows = 1 if node.attributes.get_int("transB", 0) else 0
    new = np.arange(flat.numpy()[1]).reshape(shape[1:]).transpose(1, 2, 0).reshape(-1)
    values = np.ascontiguousarray(np.take(weight.numpy(), new, axis=rows))
    tensor = ir.Tensor(values, dtype=weight.dtype, name=names.fresh(f"{stored.name}_channels_last"))
    replacement = add_constant(graph, str(tensor.name), tensor)
    reader = node if holder is None else holder
    reader.replace_input_with(1 if holder is None else 0, replacement)
    move = ir.node("Transpose", [image], {"perm": [0, 2, 3, 1]}, name=names.fresh(f"{flatten.name}_channels_last"))
    moved = move.outputs[0]
    moved.name, moved.type = names.fresh(f"{image.name}_channels_last"), image.type
    moved.shape = ir.Shape([shape[0], shape[2], shape[3], shape[1]])
    graph.insert_before(flatten, [move])
    flatten.replace_input_with(0, moved)


def _before(value: ir.Value | None) -> ir.Node | None:
    node = _producer(value)
    while node is not None and is_op(node, QDQ_OPS):
        node = _producer(node.inputs[0])
    return node


def _read_by(value: ir.Value, node: ir.Node) -> bool:
    """Return True if ``node`` alone reads ``value``, possibly through Q and DQ."""
    while True:
        reader = _only_reader(value)
        if reader is node or reader is None or not is_op(reader, QDQ_OPS):
            return reader is node
        value = reader.outputs[0]


def _lies_channels_last(value: ir.Value) -> bool:
    node = value.producer()
    seen: set[ir.Node] = set()
    waiting: list[ir.Node | None] = [node]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if is_op(node, CHANNELS_LAST_OPS):
            return True
        if is_op(node, TRANSPARENT | {"Concat", "Pad"}):
            waiting += [_producer(part) for part in _floats(node.inputs)]
    return False


def _floats(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    return [value for value in values if value is not None and constant_of(value) is None and name_of(value)]
