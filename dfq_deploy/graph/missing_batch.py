"""Tell whether the main input of a model has a batch."""

from collections.abc import Collection

import onnx_ir as ir

from dfq_deploy.graph.file_shapes import size_name
from dfq_deploy.graph.inputs import NO_BATCH, input_values, main_input_value
from dfq_deploy.graph.main_input import words_of
from dfq_deploy.graph.operators import QDQ_OPS, is_op
from dfq_deploy.graph.query import constant_of

__all__ = ["lacks_batch", "state_missing_batch", "values_without_batch"]

BATCH_NAMES = frozenset({"b", "batch", "batches", "batchsize", "bs", "bsz", "n", "samples"})

ELEMENTWISE_OPS = frozenset(
    {"Add", "Cast", "Clip", "Concat", "Div", "Dropout", "Elu", "Erf", "Exp", "Gelu", "Gemm", "HardSigmoid", "HardSwish"}
    | {"Identity", "LayerNormalization", "LeakyRelu", "MatMul", "Mul", "Neg", "PRelu", "Pow", "RMSNormalization"}
    | {"Relu", "Selu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "Where", *QDQ_OPS}
    | {"DynamicQuantizeLinear", "MatMulInteger", "QLinearMatMul"}
)
"""Operators whose first axis is that of what they read first, as long as they mix no rows."""

PRODUCT_OPS = frozenset({"MatMul", "MatMulInteger", "QLinearMatMul"})
"""Matrix products, of floats and of integers: a quantized file has no batch where its float model has none."""

RECURRENT_OPS = frozenset({"GRU", "LSTM", "RNN"})

REDUCING_OPS = frozenset({"ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ArgMax"})


def lacks_batch(model: ir.Model) -> bool:
    """True where the first axis of the main input is no batch: nodes of a graph, frames, channels of one picture.

    Rules: (1) an axis is put before it, by Unsqueeze or Reshape, as in a model of one picture (C, H, W); (2) rows are
    mixed: rows are taken by computed indices, reduced over, steps of a recurrent layer, or multiplied with all other
    rows, as in an attention; or they are features that a weight sums up. A dimension that is called ``batch`` or the
    like is one, unless indices that are an input take rows of it, or a weight sums it up.
    """
    if not input_values(model):
        return False
    main = main_input_value(model)
    if main.shape is None or not len(main.shape) or main.shape[0] == 1 or main.dtype == ir.DataType.STRING:
        return False
    named = not words_of(size_name(main.shape[0])).isdisjoint(BATCH_NAMES)
    fed = {value for value in input_values(model) if value is not main}
    rows, columns, turned = {main}, set[ir.Value](), set[ir.Value]()
    for node in model.graph:
        if not fed.isdisjoint(node.inputs):
            fed.update(node.outputs)
        if not turned.isdisjoint(node.inputs):
            if not named and _is_put_before(node, turned):
                return True
            turned.update(node.outputs if is_op(node, ("Transpose", *ELEMENTWISE_OPS)) else ())
        if not node.inputs or rows.isdisjoint(node.inputs):
            continue
        if (
            _takes_rows(node, rows, fed)
            or _sums_up(node, rows)
            or (not named and (_is_put_before(node, rows) or _mixes(node, rows, columns, len(main.shape))))
        ):
            return True
        if is_op(node, "Transpose"):
            turned.update(node.outputs)
            columns.update(node.outputs if _rank(node.outputs[0]) == 2 else ())
        elif _appends_axes(node) or _looks_up(node, rows) or (is_op(node, ELEMENTWISE_OPS) and _keeps_rows(node, rows)):
            rows.update(node.outputs[:1])  # others hold a scale or a mean
    return False


def values_without_batch(model: ir.Model) -> frozenset[str]:
    """Names of the inputs and outputs that get a batch of 1 where the model has none; empty where it has one."""
    if not lacks_batch(model):
        return frozenset()
    inputs = {value for value in input_values(model) if value.shape is None or len(value.shape)}
    outputs = {
        value for value in model.graph.outputs if isinstance(value.type, ir.TensorType) and not value.is_graph_input()
    }
    return frozenset(str(value.name) for value in inputs | outputs if not value.shape or value.shape[0] != 1)


def state_missing_batch(model: ir.Model) -> None:
    """State in the metadata of ``model``, in place, which inputs and outputs have no batch, where it does not yet."""
    names = values_without_batch(model)
    if names:
        model.metadata_props.setdefault(NO_BATCH, "\n".join(sorted(names)))


def _keeps_rows(node: ir.Node, rows: Collection[ir.Value]) -> bool:
    rank = _rank(node.outputs[0])
    if is_op(node, PRODUCT_OPS | {"Gemm"}):
        left = node.inputs[0] in rows and not node.attributes.get_int("transA", 0)
        return left and rank == _rank(node.inputs[0])
    if is_op(node, "Concat") and node.attributes.get_int("axis", 0) == 0:
        return False
    return all(_rank(value) == rank for value in node.inputs if value is not None and value in rows)


def _is_put_before(node: ir.Node, rows: Collection[ir.Value]) -> bool:
    """Rule 1."""
    if node.inputs[0] not in rows or not is_op(node, ("Unsqueeze", "Reshape")) or len(node.inputs) < 2:
        return False
    constant, shape = constant_of(node.inputs[1]), node.inputs[0].shape  # type: ignore[union-attr]
    if constant is None or shape is None:
        return False
    numbers = [int(number) for number in constant.numpy().reshape(-1)]
    if is_op(node, "Unsqueeze"):
        return 0 in numbers or -len(shape) - len(numbers) in numbers
    grows = len(numbers) > len(shape) and numbers[:1] == [1]
    return grows and (len(shape) == 1 or numbers[-len(shape)] in (-1, shape[0]))


def _takes_rows(node: ir.Node, rows: Collection[ir.Value], fed: Collection[ir.Value]) -> bool:
    """True for rows that are taken by indices that depend on another input.

    A GatherND whose indices have more columns takes one token of each sample: the first column counts the batch.
    """
    if not is_op(node, ("Gather", "GatherND")) or node.inputs[0] not in rows or node.inputs[1] not in fed:
        return False
    indices = node.inputs[1].shape  # type: ignore[union-attr]
    if is_op(node, "GatherND") and (indices is None or not len(indices) or indices[-1] != 1):
        return False
    return _axis(node) == 0 and not node.attributes.get_int("batch_dims", 0)


def _sums_up(node: ir.Node, rows: Collection[ir.Value]) -> bool:
    """True for the product of a vector of features with a weight."""
    return is_op(node, PRODUCT_OPS) and node.inputs[0] in rows and _rank(node.inputs[0]) == 1


def _looks_up(node: ir.Node, rows: Collection[ir.Value]) -> bool:
    """True where each token takes a row of a table."""
    return is_op(node, "Gather") and node.inputs[1] in rows and node.inputs[0] not in rows and not _axis(node)


def _axis(node: ir.Node) -> int:
    return node.attributes.get_int("axis", 0)


def _appends_axes(node: ir.Node) -> bool:
    """True for an Unsqueeze behind the first axis."""
    axes = constant_of(node.inputs[1]) if is_op(node, "Unsqueeze") and len(node.inputs) > 1 else None
    return axes is not None and all(int(axis) > 0 for axis in axes.numpy().reshape(-1))


def _mixes(node: ir.Node, rows: Collection[ir.Value], columns: Collection[ir.Value], main_rank: int) -> bool:
    """Rule 2."""
    rank = _rank(node.inputs[0])
    if rank is None or node.inputs[0] not in rows:
        return False
    if is_op(node, REDUCING_OPS):
        axes = node.attributes.get_ints("axes", None)
        constant = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        if is_op(node, "ArgMax"):
            axes = [node.attributes.get_int("axis", 0)]
        elif constant is not None:
            axes = [int(axis) for axis in constant.numpy().reshape(-1)]
        return axes is not None and len(axes) < rank and not {0, -rank}.isdisjoint(axes)
    if is_op(node, "Softmax"):
        return rank > 1 and node.attributes.get_int("axis", -1) in (0, -rank)
    if is_op(node, RECURRENT_OPS):
        return main_rank < 3 and node.attributes.get_int("layout", 0) == 0
    return is_op(node, "MatMul") and node.inputs[1] in columns


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)
