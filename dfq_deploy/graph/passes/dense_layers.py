"""Write dense layers in the forms that runtimes have integer kernels for."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.editing import Names, drop_unused_initializers
from dfq_deploy.graph.query import constant_of, name_of

__all__ = ["normalize_dense_layers"]

Rewrite = Callable[[ir.Graph, ir.Node, Names], bool]


def normalize_dense_layers(model: ir.Model) -> tuple[str, ...]:
    """Rewrite, in place, dense layers of the main graph; the float function stays the same.

    ONNX Runtime joins a MatMul and the Add of its bias to a float Gemm before it looks for Q and DQ, unless it finds
    the Add in a form that it does not join (1.31: MatMulAddFusion). Rules, for float constants: (1) a MatMul of rank 2
    and the Add of its bias become a Gemm; (2) at other ranks the bias gets the rank of the output, ``(1, 1, N)``, which
    ONNX Runtime does not join, so that the product keeps its integer kernel; (3) a Gemm's ``alpha`` moves into the
    weight, ``beta`` into the bias, a bias of one number becomes one of each output, one with a row of its own for
    each sample an Add, and ``transA`` a Transpose; (4) a MatMul whose weight stands on the left is transposed, since
    integer kernels have one scale for each column of the right side; such a Gemm becomes that MatMul, and an Add; (5) a
    MatMul of a vector, which no integer kernel takes, becomes one of a row, with the Add of its bias a Gemm.

    Returns:
        the names of the nodes that were rewritten, rule by rule.
    """
    names = Names(model.graph)
    done: list[str] = []
    for rewrite in (_left_gemm, _swap_sides, _plain_gemm, _vector, _join_bias):
        done += [str(node.name) for node in list(model.graph) if rewrite(model.graph, node, names)]
    drop_unused_initializers(model.graph)
    return tuple(dict.fromkeys(done))


def _is(node: ir.Node, op_type: str) -> bool:
    return node.op_type == op_type and node.domain in ("", "ai.onnx")


def _floats(value: ir.Value | None) -> NDArray[np.float32] | None:
    tensor = constant_of(value)
    return tensor.numpy() if tensor is not None and tensor.dtype == ir.DataType.FLOAT else None


def _constant(graph: ir.Graph, names: Names, name: str, array: NDArray[np.float32 | np.int64]) -> ir.Value:
    value = ir.val(names.fresh(name), const_value=ir.tensor(np.ascontiguousarray(array)))
    graph.register_initializer(value)
    return value


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _left_gemm(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    """Rule 4 for Gemm."""
    if not _is(node, "Gemm") or _floats(node.inputs[1]) is not None or node.inputs[1] is None:
        return False
    weight, bias = _floats(node.inputs[0]), node.inputs[2] if len(node.inputs) > 2 else None
    offset = _floats(bias)
    if weight is None or (bias is not None and offset is None):
        return False
    alpha, beta = (np.float32(node.attributes.get_float(factor, 1.0)) for factor in ("alpha", "beta"))
    turned = weight.T if node.attributes.get_int("transA", 0) else weight
    right, nodes = node.inputs[1], []
    if node.attributes.get_int("transB", 0):
        nodes.append(ir.node("Transpose", [right], {"perm": [1, 0]}, name=names.fresh(f"{node.name}_Transpose")))
        _type(nodes[-1].outputs[0], names, right, [1, 0])
        right = nodes[-1].outputs[0]
    matrix = _constant(graph, names, f"{name_of(node.inputs[0])}_left", turned * alpha)
    nodes.append(ir.node("MatMul", [matrix, right], name=node.name))
    if offset is not None:
        product = nodes[-1].outputs[0]
        _type(product, names, node.outputs[0], [0, 1])
        added = _constant(graph, names, f"{name_of(bias)}_added", offset * beta)
        nodes.append(ir.node("Add", [product, added], name=names.fresh(f"{node.name}_Add")))
    _replace(graph, [node], nodes)
    return True


def _swap_sides(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    """Rule 4: ``W x`` is ``(x' W')'``."""
    if not _is(node, "MatMul") or _floats(node.inputs[1]) is not None:
        return False
    weight, rank = _floats(node.inputs[0]), _rank(node.inputs[1])
    if weight is None or weight.ndim != 2 or rank is None or rank < 2:
        return False
    axes = [*range(rank - 2), rank - 1, rank - 2]
    matrix = _constant(graph, names, f"{name_of(node.inputs[0])}_transposed", weight.T)
    turned = ir.node("Transpose", [node.inputs[1]], {"perm": axes}, name=names.fresh(f"{node.name}_Transpose"))
    product = ir.node("MatMul", [turned.outputs[0], matrix], name=names.fresh(f"{node.name}_swapped"))
    back = ir.node("Transpose", [product.outputs[0]], {"perm": axes}, name=names.fresh(f"{node.name}_back"))
    _type(turned.outputs[0], names, node.inputs[1], axes)
    _type(product.outputs[0], names, node.outputs[0], axes)
    _replace(graph, [node], [turned, product, back])
    return True


def _plain_gemm(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    """Rule 3."""
    weight = _floats(node.inputs[1]) if _is(node, "Gemm") else None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    offset = _floats(bias)
    if weight is None or (bias is not None and offset is None):
        return False
    alpha, beta = (node.attributes.get_float(factor, 1.0) for factor in ("alpha", "beta"))
    columns = weight.shape[0 if node.attributes.get_int("transB", 0) else 1]
    turned = bool(node.attributes.get_int("transA", 0))
    plain = offset is None or offset.shape in ((columns,), (1, columns))
    if (alpha, beta if offset is not None else 1.0) == (1.0, 1.0) and plain and not turned:
        return False
    if alpha != 1.0:
        node.replace_input_with(1, _constant(graph, names, f"{name_of(node.inputs[1])}_scaled", weight * alpha))
    if turned:
        _transpose_input(graph, node, names)
    if offset is not None:
        scaled = (offset * np.float32(beta)).astype(np.float32)
        row = scaled.size == 1 or (scaled.shape[-1:] == (columns,) and scaled.size == columns)
        if row:
            spread = np.broadcast_to(scaled.reshape(-1), (columns,))
            node.replace_input_with(2, _constant(graph, names, f"{name_of(bias)}_row", spread))
        else:
            node.resize_inputs(2)
            _add_after(graph, node, _constant(graph, names, f"{name_of(bias)}_scaled", scaled), names)
    for factor in ("alpha", "beta"):
        node.attributes.pop(factor, None)
    return True


def _transpose_input(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    source = node.inputs[0]
    turned = ir.node("Transpose", [source], {"perm": [1, 0]}, name=names.fresh(f"{node.name}_Transpose"))
    _type(turned.outputs[0], names, source, [1, 0])
    graph.insert_before(node, turned)
    node.replace_input_with(0, turned.outputs[0])
    node.attributes.pop("transA")


def _add_after(graph: ir.Graph, node: ir.Node, constant: ir.Value, names: Names) -> None:
    """An Add behind ``node``, whose output takes the name and the readers of the node's."""
    product = node.outputs[0]
    add = ir.node("Add", [product, constant], name=names.fresh(f"{node.name}_Add"))
    name, total = product.name, add.outputs[0]
    total.type, total.shape = product.type, product.shape
    graph.insert_after(node, add)
    product.replace_all_uses_with(total, replace_graph_outputs=True)
    add.replace_input_with(0, product)
    product.name = names.fresh(f"{node.name}_product")
    total.name = name


def _vector(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    """Rule 5."""
    weight = _floats(node.inputs[1]) if _is(node, "MatMul") else None
    if weight is None or weight.ndim != 2 or _rank(node.inputs[0]) != 1:
        return False
    product, columns = node.outputs[0], weight.shape[1]
    uses = tuple(product.uses())
    add = uses[0].node if len(uses) == 1 and not product.is_graph_output() and _is(uses[0].node, "Add") else None
    offset = _floats(add.inputs[1 - uses[0].idx]) if add is not None and add.graph is graph else None
    axis = _constant(graph, names, f"{node.name}_axis", np.zeros(1, np.int64))
    row = ir.node("Unsqueeze", [node.inputs[0], axis], name=names.fresh(f"{node.name}_Unsqueeze"))
    inputs, old = [row.outputs[0], node.inputs[1]], [node]
    if add is not None and offset is not None and offset.shape in ((), (1,), (columns,)):
        inputs.append(_constant(graph, names, f"{node.name}_bias", np.broadcast_to(offset.reshape(-1), (columns,))))
        old = [add, node]
    layer = ir.node("Gemm" if len(inputs) > 2 else "MatMul", inputs, name=names.fresh(f"{node.name}_row"))
    vector = ir.node("Squeeze", [layer.outputs[0], axis], name=names.fresh(f"{node.name}_Squeeze"))
    for value, size in ((row.outputs[0], weight.shape[0]), (layer.outputs[0], columns)):
        value.name, value.type = names.fresh(f"{value.producer().name}_output"), product.type  # type: ignore[union-attr]
        value.shape = ir.Shape([1, size])
    _replace(graph, old, [row, layer, vector])
    return True


def _join_bias(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    """Rules 1 and 2."""
    weight = _floats(node.inputs[1]) if _is(node, "MatMul") else None
    product = node.outputs[0]
    uses = tuple(product.uses())
    if weight is None or weight.ndim != 2 or len(uses) != 1 or product.is_graph_output():
        return False
    add, rank = uses[0].node, _rank(node.inputs[0])
    other = add.inputs[1 - uses[0].idx] if _is(add, "Add") else None
    offset, columns = _floats(other), weight.shape[1]
    if offset is None or rank is None or rank < 2 or add.graph is not graph:
        return False
    if (
        offset.size not in (1, columns)
        or (offset.size == columns and offset.shape[-1] != columns)
        or offset.ndim > rank
    ):
        return False
    row = np.broadcast_to(offset.reshape(-1), (columns,))
    if rank == 2:
        known = other if offset.shape == (columns,) else _constant(graph, names, f"{name_of(other)}_row", row)
        gemm = ir.node("Gemm", [node.inputs[0], node.inputs[1], known], name=node.name)
        _replace(graph, [add, node], [gemm])
        return True
    if offset.ndim == rank:
        return False
    shaped = _constant(graph, names, f"{name_of(other)}_shaped", row.reshape([1] * (rank - 1) + [columns]))
    add.replace_input_with(1 - uses[0].idx, shaped)
    return True


def _type(value: ir.Value, names: Names, like: ir.Value | None, axes: list[int]) -> None:
    """Name ``value``; its type and, transposed, its shape are those of ``like``."""
    node = value.producer()
    value.name = names.fresh(f"{node.name if node is not None else 'value'}_output")
    if like is not None:
        value.type = like.type
        value.shape = None if like.shape is None else ir.Shape([like.shape[axis] for axis in axes])


def _replace(graph: ir.Graph, old: list[ir.Node], new: list[ir.Node]) -> None:
    """Put ``new`` where the first of ``old`` stands; the last output takes the place and the name of its output."""
    gone, kept = old[0].outputs[0], new[-1].outputs[0]
    kept.type, kept.shape, name = gone.type, gone.shape, gone.name
    graph.insert_before(old[0], new)
    gone.replace_all_uses_with(kept, replace_graph_outputs=True)
    for node in old:
        graph.remove(node, safe=True)
    gone.name, kept.name = None, name
