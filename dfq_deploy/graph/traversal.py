"""Walk a graph forward and backward."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

import onnx_ir as ir

from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op

__all__ = ["after", "before", "walk", "weighted_after"]

Item = TypeVar("Item", bound=Hashable)

Predicate = Callable[[ir.Node], bool]


def walk(start: Iterable[Item], near: Callable[[Item], Iterable[Item]]) -> Iterator[Item]:
    """``start`` and everything that ``near`` leads to from there, each once, the nearest first."""
    waiting = deque(dict.fromkeys(start))
    seen = set(waiting)
    while waiting:
        item = waiting.popleft()
        yield item
        for other in near(item):
            if other not in seen:
                seen.add(other)
                waiting.append(other)


def after(node: ir.Node, through: Predicate = lambda _: True) -> Iterator[ir.Node]:
    """The nodes that read what ``node`` writes, however far down, the nearest first.

    Args:
        through: where the walk goes on. A node for which it is false is yielded, and what reads it is not, unless
            another way leads there.
    """
    return walk(node.successors(), lambda reader: reader.successors() if through(reader) else ())


def before(node: ir.Node, through: Predicate = lambda _: True) -> Iterator[ir.Node]:
    """The nodes that ``node`` is computed from, however far up, the nearest first.

    Args:
        through: as in :func:`after`.
    """
    return walk(node.predecessors(), lambda source: source.predecessors() if through(source) else ())


def weighted_after(node: ir.Node) -> bool:
    """True if a convolution or matrix product reads ``node``'s output, however far down."""
    return any(is_op(reader, WEIGHTED_OPS) for reader in after(node))
