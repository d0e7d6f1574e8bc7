"""Traverse a graph forward and backward."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

import onnx_ir as ir

from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op

__all__ = ["after", "before", "walk", "weighted_after"]

Item = TypeVar("Item", bound=Hashable)

Predicate = Callable[[ir.Node], bool]


def walk(start: Iterable[Item], neighbors: Callable[[Item], Iterable[Item]]) -> Iterator[Item]:
    """Traverse breadth-first: yield ``start`` and everything reachable through ``neighbors``, each once."""
    queue = deque(dict.fromkeys(start))
    visited = set(queue)
    while queue:
        item = queue.popleft()
        yield item
        for other in neighbors(item):
            if other not in visited:
                visited.add(other)
                queue.append(other)


def after(node: ir.Node, through: Predicate = lambda _: True) -> Iterator[ir.Node]:
    """Yield all nodes that depend on ``node``, the nearest first.

    Args:
        through: whether to continue after a node. A node for which it is False is yielded, but its successors are not,
            unless another path leads to them.
    """
    return walk(node.successors(), lambda reader: reader.successors() if through(reader) else ())


def before(node: ir.Node, through: Predicate = lambda _: True) -> Iterator[ir.Node]:
    """Yield all nodes on which ``node`` depends, the nearest first.

    Args:
        through: as in :func:`after`.
    """
    return walk(node.predecessors(), lambda source: source.predecessors() if through(source) else ())


def weighted_after(node: ir.Node) -> bool:
    """Return True if a convolution or matrix product depends on ``node``."""
    return any(is_op(reader, WEIGHTED_OPS) for reader in after(node))
