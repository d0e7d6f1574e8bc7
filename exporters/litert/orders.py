"""Orders of axes: how a tensor of the graph lies in the file, and what moving its axes costs.

The order of a tensor is a permutation: axis ``j`` of the array in the file is axis ``order[j]`` of the tensor in the
graph. (0, 2, 3, 1) is an image (N, C, H, W) that is stored with its channels last.
"""

from collections.abc import Sequence
from math import prod
from typing import TypeAlias

from dfq_deploy.errors import ModelError

__all__ = [
    "CHANNELS_LAST",
    "Order",
    "Shape",
    "axis_in",
    "channels_last",
    "natural",
    "permuted",
    "reshaped",
    "same_bytes",
    "steps_between",
    "without_axes",
]

Order: TypeAlias = tuple[int, ...]
Shape: TypeAlias = tuple[int, ...]

CHANNELS_LAST: Order = (0, 2, 3, 1)
"""Images: (N, C, H, W) stored as (N, H, W, C)."""


def natural(rank: int) -> Order:
    """Return the order of the graph itself."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """Return the order with the channels, axis 1, behind all others."""
    return (0, *range(2, rank), 1) if rank > 2 else natural(rank)


def permuted(shape: Sequence[int], order: Order) -> Shape:
    """Return the shape in the file of a tensor with ``shape`` in the graph.

    Raises:
        ModelError: it has another number of axes.
    """
    _check_rank(shape, order)
    return tuple(shape[axis] for axis in order)


def axis_in(order: Order, axis: int) -> int:
    """Return the position in the file of ``axis`` of the graph, which may be negative."""
    return order.index(axis % len(order))


def steps_between(first: Order, second: Order) -> Order:
    """Return the permutation that a Transpose needs to bring an array from one order to another."""
    return tuple(first.index(axis) for axis in second)


def same_bytes(shape: Sequence[int], first: Order, second: Order) -> bool:
    """Return True if both orders store the same bytes, since they differ in axes of size 1 only.

    Raises:
        ModelError: the tensor has another number of axes than one of them.
    """
    _check_rank(shape, first)
    _check_rank(shape, second)
    return [axis for axis in first if shape[axis] != 1] == [axis for axis in second if shape[axis] != 1]


def _check_rank(shape: Sequence[int], order: Order) -> None:
    if len(shape) != len(order):
        raise ModelError(
            f"the file states the shape {tuple(shape)} for a tensor that its operator takes for one of {len(order)} "
            "axes; export the model again"
        )


def without_axes(order: Order, axes: Sequence[int]) -> Order:
    """Return the order of what is left after ``axes`` of the graph are removed."""
    kept = [axis for axis in sorted(order) if axis not in axes]
    return tuple(kept.index(axis) for axis in order if axis not in axes)


def reshaped(source: Shape, target: Shape, order: Order) -> tuple[Order, Order]:
    """Return the orders before and after a reshape that needs the fewest moves.

    Axes that the reshape merges must lie behind one another in the file, in the order of the graph; axes that it splits
    or leaves may lie anywhere.

    Args:
        source, target: shapes in the graph, with the same number of elements.
        order: how the array lies now.

    Returns:
        the order that it has to be brought to (``order`` itself if possible), and that of the reshaped array.
    """
    groups = _groups(source, target)
    of_axis = {axis: index for index, (axes, _) in enumerate(groups) for axis in axes}
    sequence = list(dict.fromkeys(of_axis[axis] for axis in order if source[axis] != 1))
    sequence += [index for index in range(len(groups)) if index not in sequence]
    merged = tuple(axis for index in sequence for axis in groups[index][0])
    before = order if same_bytes(source, order, merged) else merged
    return before, tuple(axis for index in sequence for axis in groups[index][1])


def _groups(source: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """Return runs of axes of both shapes with the same number of elements, as short as possible."""
    groups: list[tuple[list[int], list[int]]] = []
    first = second = 0
    while first < len(source) or second < len(target):
        mine, yours = [first] if first < len(source) else [], [second] if second < len(target) else []
        first, second = first + len(mine), second + len(yours)
        while _size(source, mine) != _size(target, yours):
            if (_size(source, mine) < _size(target, yours) and first < len(source)) or second == len(target):
                mine.append(first)
                first += 1
            else:
                yours.append(second)
                second += 1
        groups.append((mine, yours))
    return groups


def _size(shape: Shape, axes: Sequence[int]) -> int:
    return prod(shape[axis] for axis in axes)
