"""Iterate over the parts of a model, nested ones included."""

from collections.abc import Iterator

import onnx

from dfq_deploy.errors import ModelError

__all__ = ["all_graphs", "all_nodes", "all_tensors", "attribute_graphs"]


def attribute_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs in the attributes of ``node``."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _with_nested(graph: onnx.GraphProto, depth: int) -> Iterator[onnx.GraphProto]:
    if depth < 0:
        raise ModelError("its graphs are nested too deeply; export the model with less nested control flow")
    yield graph
    for node in graph.node:
        for inner in attribute_graphs(node):
            yield from _with_nested(inner, depth - 1)


def all_graphs(model: onnx.ModelProto, depth: int) -> Iterator[onnx.GraphProto]:
    """Yield the main graph and every nested one, those of functions too.

    Args:
        depth: how many levels may be nested.

    Raises:
        ModelError: there are more levels.
    """
    yield from _with_nested(model.graph, depth)
    for function in model.functions:
        for node in function.node:
            for inner in attribute_graphs(node):
                yield from _with_nested(inner, depth - 1)


def all_nodes(model: onnx.ModelProto, depth: int) -> Iterator[onnx.NodeProto]:
    """Yield every node, those of nested graphs and of functions too."""
    for graph in all_graphs(model, depth):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def all_tensors(model: onnx.ModelProto, depth: int) -> Iterator[onnx.TensorProto]:
    """Yield every stored tensor: initializers and attributes, those of nested graphs and of functions too."""
    for graph in all_graphs(model, depth):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in all_nodes(model, depth):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            single = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for sparse in (*single, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
