"""Reductions, the axes as attribute or as input."""

from collections.abc import Callable

import torch
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__ = ["REDUCTIONS"]

Axes = tuple[int, ...]


def _product(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    for axis in sorted((axis % max(x.dim(), 1) for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _extreme(function: Callable[..., Tensor], x: Tensor, axes: Axes, keep: bool) -> Tensor:
    if x.dtype is torch.bool:
        return function(x.to(torch.uint8), axes, keepdim=keep).to(torch.bool)
    return function(x, axes, keepdim=keep)


def _maximum(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    if x.numel() == 0:  # the least value stands for the maximum of nothing
        least = -torch.inf if x.is_floating_point() else False if x.dtype is torch.bool else torch.iinfo(x.dtype).min
        return torch.full_like(x.sum(axes, keepdim=keep), least, dtype=x.dtype)
    return _extreme(torch.amax, x, axes, keep)


def _minimum(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    if x.numel() == 0:
        most = torch.inf if x.is_floating_point() else True if x.dtype is torch.bool else torch.iinfo(x.dtype).max
        return torch.full_like(x.sum(axes, keepdim=keep), most, dtype=x.dtype)
    return _extreme(torch.amin, x, axes, keep)


def _mean(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    return x.to(torch.float64).mean(axes, keepdim=keep).to(x.dtype)


REDUCTIONS: dict[str, Callable[[Tensor, Axes, bool], Tensor]] = {
    "ReduceMean": _mean,
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceMax": _maximum,
    "ReduceMin": _minimum,
    "ReduceProd": lambda x, axes, keep: _product(x, axes, keep).to(x.dtype),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceL2": lambda x, axes, keep: (
        torch.linalg.vector_norm(x, 2, axes, keepdim=keep)
        if x.is_floating_point()
        else x.square().sum(axes, keepdim=keep).to(torch.float64).sqrt().to(x.dtype)
    ),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep, dtype=x.dtype),
}
"""Reduction of x over axes (never empty), keeping them as length 1 or not."""


def _by_attribute(node: Node) -> Operator:
    function, axes, keep = REDUCTIONS[node.op_type], node.integers("axes"), bool(node.integer("keepdims", 1))
    return lambda x, *_: function(x, axes or tuple(range(x.dim())), keep)


@register(*REDUCTIONS)
def reduce_by_attribute(node: Node) -> Operator:
    """Over the axes of an attribute, all by default."""
    return _by_attribute(node)


def _by_input(node: Node) -> Operator:
    function, axes_of = REDUCTIONS[node.op_type], node.integers_at(1)
    keep, idle = bool(node.integer("keepdims", 1)), bool(node.integer("noop_with_empty_axes"))
    if not node.has(1):
        return (lambda x, *_: function(x, (), keep)) if idle else _by_attribute(node)

    def run(x: Tensor, axes: Tensor) -> Tensor:
        chosen = axes_of(axes)
        if not chosen and idle:
            return x
        return function(x, chosen or tuple(range(x.dim())), keep)

    return run


@register("ReduceSum", since=13, arguments=(1,))
def reduce_sum(node: Node) -> Operator:
    """Over the axes of an input; ReduceSum took them so first."""
    return _by_input(node)


@register(*(name for name in REDUCTIONS if name != "ReduceSum"), since=18, arguments=(1,))
def reduce_by_input(node: Node) -> Operator:
    """Over the axes of an input, all by default."""
    return _by_input(node)


@register("ArgMax", "ArgMin")
def arg_extreme(node: Node) -> Operator:
    """Place of the largest or smallest value, the first or the last of equals."""
    axis, keep = node.integer("axis"), bool(node.integer("keepdims", 1))
    last, function = node.integer("select_last_index"), torch.argmax if node.op_type == "ArgMax" else torch.argmin

    def run(x: Tensor) -> Tensor:
        if last:
            return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=keep)
        return function(x, axis, keepdim=keep)

    return run
