"""Elements picked by place: slices and gathers."""

import torch
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__ = ["wrapped"]

Ints = tuple[int, ...]


@register("Slice")
def slice_by_attributes(node: Node) -> Operator:
    """Slice with its limits as attributes."""
    starts, ends = node.integers("starts") or (), node.integers("ends") or ()
    axes = node.integers("axes") or tuple(range(len(starts)))
    return lambda x: _slice(x, starts, ends, axes, (1,) * len(starts))


@register("Slice", since=10, arguments=(1, 2, 3, 4))
def slice_(node: Node) -> Operator:
    """Python's slices, negative steps too."""
    starts_of, ends_of, axes_of, steps_of = (node.integers_at(index) for index in (1, 2, 3, 4))

    def run(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
        first = starts_of(starts)
        places = axes_of(axes) if axes is not None else tuple(range(len(first)))
        return _slice(x, first, ends_of(ends), places, steps_of(steps) if steps is not None else (1,) * len(first))

    return run


def _slice(x: Tensor, starts: Ints, ends: Ints, axes: Ints, steps: Ints) -> Tensor:
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        if step > 0:
            first, last, _ = slice(start, end, step).indices(size)
            x = x.narrow(axis, first, max(last - first, 0))
            if step != 1:
                x = x[(slice(None),) * (axis % x.dim()) + (slice(None, None, step),)]
        else:  # torch has no negative steps
            # an end below -size means "down to the first element"; Python's slice reads it the same way
            places = range(*slice(start, end, step).indices(size))
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
    return x


def wrapped(indices: Tensor, size: int) -> Tensor:
    """Indices with negative ones counted from the end."""
    return torch.where(indices < 0, indices + size, indices)


@register("Gather")
def gather(node: Node) -> Operator:
    """Slices of one axis, by index."""
    axis, constant = node.integer("axis"), node.constant(1)
    if constant is not None and constant.dim() == 0:
        place = int(constant.item())
        return lambda x, _: x.select(axis, place)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        dim = axis % x.dim()
        flat = wrapped(indices.reshape(-1), x.shape[dim])
        return x.index_select(dim, flat).reshape(x.shape[:dim] + indices.shape + x.shape[dim + 1 :])

    return run


@register("GatherElements", since=11)
def gather_elements(node: Node) -> Operator:
    """One element for each index, along one axis."""
    axis = node.integer("axis")
    return lambda x, indices: torch.gather(x, axis, wrapped(indices, x.shape[axis]).long())
