"""Tensors joined and parted."""

import torch
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []


@register("Concat")
def concat(node: Node) -> Operator:
    """Along one axis."""
    axis = node.integer("axis", 1)
    return lambda *inputs: torch.cat(inputs, axis)


@register("Split")
def split_by_attribute(node: Node) -> Operator:
    """Split with its lengths as attribute, or into equal parts."""
    axis, lengths, count = node.integer("axis"), node.integers("split"), len(node.outputs)
    return lambda x: _split(x, lengths, count, axis)


@register("Split", since=13, arguments=(1,))
def split(node: Node) -> Operator:
    """Into parts of given lengths, or into equal parts, the last one shorter."""
    axis, lengths_of = node.integer("axis"), node.integers_at(1)
    count, given = len(node.outputs), node.has(1)
    stated = node.integer("num_outputs") or count
    if stated != count:
        raise node.refuse(f"num_outputs is {stated}, and it has {count} outputs; export the model again")
    return lambda x, lengths=None: _split(x, lengths_of(lengths) if given else None, count, axis)


def _split(x: Tensor, lengths: tuple[int, ...] | None, count: int, axis: int) -> tuple[Tensor, ...]:
    if lengths is None:
        size = x.shape[axis]
        each = -(-size // count)
        lengths = tuple(max(min(each, size - each * index), 0) for index in range(count))
    return tuple(torch.split(x, list(lengths), axis))
