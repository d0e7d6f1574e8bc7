"""Convert files that ONNX Runtime reads to the form that the ONNX checker accepts."""

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from dfq_deploy.errors import ModelError

__all__ = ["refuse_cycles", "to_standard_form"]

UNNAMED = frozenset({"None", "?", "-1"})
"""Placeholders that converters write as the name of an unnamed dimension."""

LARGEST_SPARSE = 2**31
"""Largest size in bytes of a sparse initializer after conversion to a dense one."""


def to_standard_form(proto: onnx.ModelProto, place: str) -> None:
    """Rewrite ``proto`` in place; its outputs do not change.

    Rules, for the graph and all nested graphs: (1) sparse initializers become dense; (2) nodes are sorted
    topologically; (3) names of dimensions such as ``None`` or ``?`` are removed, since two of them may
    differ, and so are negative sizes.

    Raises:
        ModelError: a sparse initializer is damaged or too large, or the nodes form a cycle.
    """
    for graph in _graphs(proto.graph):
        _densify(graph, place)
        _sort(graph, place)
        _clear_placeholder_names(graph)


def refuse_cycles(proto: onnx.ModelProto, place: str) -> None:
    """Refuse a model with nodes that form a cycle, in a graph, a nested one or a function; ``proto`` is not changed.

    Raises:
        ModelError: there is such a node.
    """
    for graph in (*_graphs(proto.graph), *proto.functions):
        _order(graph.node, place)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield ``graph`` and all nested graphs, the inner ones first."""
    for node in graph.node:
        for inner in _inner(node):
            yield from _graphs(inner)
    yield graph


def _inner(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _densify(graph: onnx.GraphProto, place: str) -> None:
    for sparse in graph.sparse_initializer:
        name, dims = sparse.values.name, tuple(sparse.dims)
        size = int(np.prod(dims, dtype=object)) if dims else 1
        if min(dims, default=1) < 0 or size * 8 > LARGEST_SPARSE:
            raise ModelError(
                f"{place}: sparse initializer '{name}' of shape {dims} is too large for a dense one; export it dense"
            )
        try:
            values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
            flat = np.zeros(size, values.dtype)
            flat[indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dims)] = values
        except (ValueError, IndexError, TypeError) as problem:
            raise ModelError(
                f"{place}: sparse initializer '{name}' cannot be read ({problem}); export it dense"
            ) from None
        graph.initializer.append(numpy_helper.from_array(flat.reshape(dims), name))
    del graph.sparse_initializer[:]


def _input_names(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of the values that a node reads, including those that its nested graphs capture."""
    yield from (name for name in node.input if name)
    for inner in _inner(node):
        own = {value.name for value in (*inner.input, *inner.initializer)}
        own |= {name for each in inner.node for name in each.output}
        for each in inner.node:
            yield from (name for name in _input_names(each) if name not in own)
        yield from (value.name for value in inner.output if value.name not in own)


def _sort(graph: onnx.GraphProto, place: str) -> None:
    """Sort nodes topologically."""
    nodes = list(graph.node)
    order = _order(nodes, place)
    if order is not None:
        _reorder(graph, [nodes[index] for index in order])


def _order(nodes: Sequence[onnx.NodeProto], place: str) -> list[int] | None:
    """The topological order by Kahn's algorithm, in which ready nodes keep their original order; None if they have it.

    Raises:
        ModelError: the nodes form a cycle.
    """
    writer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{writer[name] for name in _input_names(node) if name in writer} for node in nodes]
    if all(max(need, default=-1) < index for index, need in enumerate(needs)):
        return None
    readers: list[list[int]] = [[] for _ in nodes]
    for index, need in enumerate(needs):
        for other in need:
            readers[other].append(index)
    pending = [len(need) for need in needs]
    ready = [index for index, count in enumerate(pending) if count == 0]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers[index]:
            pending[reader] -= 1
            if pending[reader] == 0:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        cyclic = next(node for index, node in enumerate(nodes) if pending[index])
        raise ModelError(f"{place}: {cyclic.op_type} '{cyclic.name}' depends on its own output; export the model again")
    return order


def _reorder(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def _clear_placeholder_names(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            if dim.dim_param in UNNAMED:
                dim.ClearField("dim_param")
            elif dim.dim_value < 0:  # Paddle2ONNX writes -1 for an open batch
                dim.ClearField("dim_value")
