"""Bring files that ONNX Runtime reads into the form that the ONNX checker accepts."""

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from dfq_deploy.errors import ModelError

__all__ = ["to_standard_form"]

UNNAMED = frozenset({"None", "?", "-1"})
"""What converters write as the name of a dimension that has none."""

LARGEST_SPARSE = 2**31
"""Bytes that a sparse initializer may take once it is dense."""


def to_standard_form(proto: onnx.ModelProto, place: str) -> None:
    """Rewrite ``proto`` in place; the function that it computes stays the same.

    Rules, for the graph and all graphs within: (1) the domain ``ai.onnx`` is spelled ``""``; (2) a sparse initializer
    becomes a dense one; (3) nodes are sorted, so that each stands behind those whose outputs it reads; (4) a dimension
    named ``None`` or ``?`` has no name, so that two of them may differ.

    Raises:
        ModelError: a sparse initializer is damaged or too large, or the nodes form a cycle.
    """
    known = {entry.domain for entry in proto.opset_import}
    for entry in list(proto.opset_import):
        if entry.domain == "ai.onnx" and "" not in known:
            entry.domain = ""
        elif entry.domain == "ai.onnx":
            proto.opset_import.remove(entry)
    for graph in _graphs(proto.graph):
        for node in graph.node:
            node.domain = "" if node.domain == "ai.onnx" else node.domain
        _densify(graph, place)
        _sort(graph, place)
        _unname(graph)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """``graph`` and every graph within, the inner ones first."""
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
                f"{place}: sparse initializer '{name}' of shape {dims} is too large to be made dense; export it dense"
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


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the values that a node needs, those that its graphs take from around them included."""
    yield from (name for name in node.input if name)
    for inner in _inner(node):
        own = {value.name for value in (*inner.input, *inner.initializer)}
        own |= {name for each in inner.node for name in each.output}
        for each in inner.node:
            yield from (name for name in _reads(each) if name not in own)
        yield from (value.name for value in inner.output if value.name not in own)


def _sort(graph: onnx.GraphProto, place: str) -> None:
    """Kahn's algorithm; of the nodes that are ready, the one that stood first comes first."""
    nodes = list(graph.node)
    writer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{writer[name] for name in _reads(node) if name in writer} for node in nodes]
    if all(max(need, default=-1) < index for index, need in enumerate(needs)):
        return
    readers: list[list[int]] = [[] for _ in nodes]
    for index, need in enumerate(needs):
        for other in need:
            readers[other].append(index)
    left = [len(need) for need in needs]
    ready = [index for index, count in enumerate(left) if count == 0]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in readers[index]:
            left[reader] -= 1
            if left[reader] == 0:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        stuck = next(node for index, node in enumerate(nodes) if left[index])
        raise ModelError(f"{place}: {stuck.op_type} '{stuck.name}' depends on its own output; export the model again")
    _reorder(graph, [nodes[index] for index in order])


def _reorder(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def _unname(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
            if dim.dim_param in UNNAMED:
                dim.ClearField("dim_param")
