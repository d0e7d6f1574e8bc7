"""Selections whose result depends on values: sorting, sets, boxes. No gradient passes the choice itself."""

import torch
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []


@register("TopK")
def top_k_by_attribute(node: Node) -> Operator:
    """TopK with k as attribute."""
    k, axis = node.integer("k"), node.integer("axis", -1)
    return lambda x: _top(x, k, axis, largest=True)


@register("TopK", since=10, arguments=(1,))
def top_k(node: Node) -> Operator:
    """The k largest or smallest values and their places; of equals the first comes first."""
    count_of, axis, largest = node.integer_at(1), node.integer("axis", -1), bool(node.integer("largest", 1))
    return lambda x, k: _top(x, count_of(k), axis, largest=largest)


def _top(x: Tensor, k: int, axis: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    values, places = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), places.narrow(axis, 0, k)


@register("NonZero", since=9)
def non_zero(node: Node) -> Operator:
    """Coordinates of the non-zero elements, one column for each."""
    return lambda x: x.nonzero().t()


@register("OneHot", since=9, arguments=(1,))
def one_hot(node: Node) -> Operator:
    """On where the index is, off elsewhere, along a new axis; an index out of range gives none."""
    axis, depth_of = node.integer("axis", -1), node.integer_at(1)

    def run(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = depth_of(depth)
        places = indices.long()
        places = torch.where(places < 0, places + count, places)
        dim = axis % (indices.dim() + 1)
        classes = torch.arange(count, device=indices.device).reshape(-1, *[1] * (indices.dim() - dim))
        return torch.where(places.unsqueeze(dim) == classes, values[1], values[0])

    return run


@register("Unique", since=11)
def unique(node: Node) -> Operator:
    """Distinct slices: values, first places, inverse, counts; sorted or in order of occurrence."""
    axis, sort = node.attributes.get("axis"), bool(node.integer("sorted", 1))
    dim = None if axis is None else axis.as_int()

    def run(x: Tensor) -> tuple[Tensor, ...]:
        flat, along = (x.reshape(-1), 0) if dim is None else (x, dim % x.dim())
        values, inverse, counts = torch.unique(flat, return_inverse=True, return_counts=True, dim=along)
        places = torch.arange(inverse.numel(), device=x.device)
        first = torch.full_like(counts, inverse.numel()).scatter_reduce(0, inverse, places, "amin")
        if not sort:
            order = torch.argsort(first)
            values, first, counts = values.index_select(along, order), first[order], counts[order]
            inverse = torch.argsort(order)[inverse]
        return values, first, inverse, counts

    return run


@register("Trilu", since=14, arguments=(1,))
def trilu(node: Node) -> Operator:
    """The upper or lower triangle; zero elsewhere."""
    upper, offset_of = bool(node.integer("upper", 1)), node.integer_at(1)

    def run(x: Tensor, k: Tensor | None = None) -> Tensor:
        return torch.triu(x, offset_of(k)) if upper else torch.tril(x, offset_of(k))

    return run


@register("NonMaxSuppression", since=10, arguments=(2, 3, 4))
def non_max_suppression(node: Node) -> Operator:
    """Greedy choice of boxes by score; rows (batch, class, box)."""
    centered = bool(node.integer("center_point_box"))

    def run(
        boxes: Tensor,
        scores: Tensor,
        most: Tensor | None = None,
        overlap: Tensor | None = None,
        least: Tensor | None = None,
    ) -> Tensor:
        count = 0 if most is None else int(most.item())
        limit = 0.0 if overlap is None else float(overlap.item())
        threshold = None if least is None else float(least.item())
        corners = _corners(boxes.detach().cpu(), centered)
        chosen = [
            (batch, label, box)
            for batch in range(scores.shape[0])
            for label in range(scores.shape[1])
            for box in _greedy(corners[batch], scores[batch, label].detach().cpu(), count, limit, threshold)
        ]
        return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)

    return run


def _corners(boxes: Tensor, centered: bool) -> Tensor:
    """Boxes as (low, low, high, high)."""
    if centered:
        middle, half = boxes[..., :2], boxes[..., 2:] / 2
        return torch.cat([middle - half, middle + half], -1)
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([torch.minimum(low, high), torch.maximum(low, high)], -1)


def _greedy(boxes: Tensor, scores: Tensor, count: int, limit: float, threshold: float | None) -> list[int]:
    order = torch.argsort(scores, descending=True, stable=True)
    if threshold is not None:
        order = order[scores[order] > threshold]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    chosen: list[int] = []
    while order.numel() and len(chosen) < count:
        best, order = int(order[0]), order[1:]
        chosen.append(best)
        shared = torch.minimum(boxes[best, 2:], boxes[order, 2:]) - torch.maximum(boxes[best, :2], boxes[order, :2])
        common = shared.clamp(min=0).prod(-1)
        union = areas[best] + areas[order] - common
        order = order[common <= limit * union]
    return chosen
