"""Pad in all modes."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []

Pairs = list[tuple[int, int]]


@register("Pad")
def pad_by_attributes(node: Node) -> Operator:
    """Pad with its amounts as attribute."""
    flat, mode, value = node.integers("pads") or (), node.text("mode", "constant"), node.number("value")
    rank = len(flat) // 2
    return lambda x: _pad(x, list(zip(flat[:rank], flat[rank:], strict=True)), mode, value)


@register("Pad", since=11, arguments=(1, 2, 3))
def pad(node: Node) -> Operator:
    """Pad by (begin, end) of each axis, or of the axes named; negative amounts cut."""
    pads_of, axes_of, mode = node.integers_at(1), node.integers_at(3), node.text("mode", "constant")
    constant = node.constant(2)
    known = None if constant is None else constant.item()

    def run(x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
        flat = pads_of(pads)
        chosen = axes_of(axes) if axes is not None else tuple(range(x.dim()))
        pairs = [(0, 0)] * x.dim()
        for position, axis in enumerate(chosen):
            pairs[axis] = (flat[position], flat[position + len(chosen)])
        fill = known if known is not None else 0 if value is None or value.numel() == 0 else value.item()
        return _pad(x, pairs, mode, fill)

    return run


def _pad(x: Tensor, pairs: Pairs, mode: str, value: float) -> Tensor:
    if mode == "constant":
        if all(pair == (0, 0) for pair in pairs):
            return x
        if x.dtype is torch.bool:
            return _pad(x.to(torch.uint8), pairs, mode, value).to(torch.bool)
        return F.pad(x, [amount for pair in reversed(pairs) for amount in pair], value=value)
    for axis, (begin, end) in enumerate(pairs):
        if begin or end:
            x = x.index_select(axis, _places(x.shape[axis], begin, end, mode).to(x.device))
    return x


def _places(size: int, begin: int, end: int, mode: str) -> Tensor:
    """Which element of an axis of ``size`` stands at each place of the padded one."""
    places = torch.arange(-begin, size + end)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    if size == 1:
        return torch.zeros_like(places)
    period = 2 * (size - 1)
    folded = places % period
    return torch.where(folded < size, folded, period - folded)
