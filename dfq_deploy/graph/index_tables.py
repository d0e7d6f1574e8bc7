"""Tables and axes that an input of integers indexes, and so which ids are valid."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.inputs import input_values
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.graph.traversal import walk

__all__ = ["columns_of", "table_of"]

MOVING_OPS = frozenset(
    {"Cast", "Expand", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Clip"}
)
"""What may stand between an input and the Gather that looks it up."""

INDEXING_ND_OPS = frozenset({"GatherND", "ScatterND"})

INDEXING_OPS = INDEXING_ND_OPS | {"Gather", "GatherElements", "ScatterElements"}
"""Operators whose second input indexes an axis of the first."""


def table_of(model: ir.Model, name: str) -> tuple[str, int] | None:
    """Name and number of rows of the smallest table that an input indexes: a constant, or a tensor of known size."""
    value = next(value for value in input_values(model) if value.name == name)
    tables = sorted((rows, table) for table, rows in _lookups(value))
    return (tables[0][1], tables[0][0]) if tables else None


def columns_of(model: ir.Model, name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The last row that each element of the last axis indexes; empty where the graph does not take them one by one."""
    value = next(value for value in input_values(model) if value.name == name)
    last = len(shape)
    rows: dict[int, int] = {}
    for node, position in ((use.node, use.idx) for use in value.uses()):
        index = constant_of(node.inputs[1]) if position == 0 and is_op(node, "Gather") else None
        if index is None or index.size != 1 or node.attributes.get_int("axis", 0) not in (-1, last):
            return ()
        found = [count for _, count in _lookups(node.outputs[0])]
        column = int(index.numpy().reshape(-1)[0]) % shape[-1]
        if found:
            rows[column] = min([rows.get(column, found[0]), *found])
    return tuple(rows[column] - 1 for column in range(shape[-1])) if shape and len(rows) == shape[-1] else ()


def _lookups(value: ir.Value) -> Iterator[tuple[str, int]]:
    """Name and number of rows of each table that ``value`` indexes, as it is or moved."""

    def moved(index: ir.Value) -> list[ir.Value]:
        return [use.node.outputs[0] for use in index.uses() if use.idx == 0 and _moves(use.node)]

    for node, position in (use for index in walk([value], moved) for use in index.uses()):
        rows = _rows(node) if is_op(node, INDEXING_OPS) and position == 1 else None
        if rows is not None:
            yield name_of(node.inputs[0]), rows
        elif (columns := _one_hot(node, position)) is not None:
            yield name_of(node.outputs[0]), columns


def _rows(node: ir.Node) -> int | None:
    """How many rows there are to index; None where that is open, or each column of the indices is for another axis."""
    table, indices = node.inputs[:2]
    if table is None or table.shape is None or not len(table.shape) or indices is None:
        return None
    axis = node.attributes.get_int("axis", 0)
    if is_op(node, INDEXING_ND_OPS):
        axis = node.attributes.get_int("batch_dims", 0)
        if indices.shape is None or not len(indices.shape) or indices.shape[-1] != 1:
            return None
    rows = table.shape[axis] if -len(table.shape) <= axis < len(table.shape) else None
    return rows if isinstance(rows, int) and rows > 0 else None


def _moves(node: ir.Node) -> bool:
    """True for a node that moves ids or takes some of them."""
    return is_op(node, MOVING_OPS) or (is_op(node, "Gather") and constant_of(node.inputs[1]) is not None)


def _one_hot(node: ir.Node, position: int) -> int | None:
    """Number of columns of the one-hot encoding that ``node`` makes of its input: OneHot, or Equal with 0, 1, 2..."""
    if is_op(node, "OneHot") and position == 0:
        depth = constant_of(node.inputs[1])
        return None if depth is None or depth.size != 1 else int(depth.numpy().reshape(-1)[0])
    steps = constant_of(node.inputs[1 - position]) if is_op(node, "Equal") else None
    if steps is None or steps.size < 2 or not np.issubdtype(steps.dtype.numpy(), np.integer):
        return None
    return steps.size if np.array_equal(steps.numpy().reshape(-1), np.arange(steps.size)) else None
