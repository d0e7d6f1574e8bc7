"""Concats that join an Expand of open size with what a convolution computes."""

from collections.abc import Iterator

import onnx_ir as ir

from dfq_deploy.graph.operators import QDQ_OPS, is_op
from dfq_deploy.graph.traversal import before

__all__ = ["expanded_concats"]


def expanded_concats(graph: ir.Graph) -> Iterator[ir.Node]:
    """Yield each Concat that joins what is expanded to an open size with what depends on a Conv with a bias.

    An example is the class token of a vision transformer with an open batch.
    """
    for node in graph:
        joins = is_op(node, "Concat") and any(_is_expanded(value) for value in node.inputs)
        if joins and any(is_op(source, "Conv") and len(source.inputs) > 2 for source in before(node)):
            yield node


def _is_expanded(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    while producer is not None and is_op(producer, QDQ_OPS):
        value = producer.inputs[0]
        producer = None if value is None else value.producer()
    if value is None or producer is None or not is_op(producer, ("Expand", "Tile")):
        return False
    return value.shape is None or not all(isinstance(dim, int) for dim in value.shape)
