"""Tensors made from numbers."""

import torch
from torch import Tensor

from dfq_deploy.twin.dtypes import dtype_of
from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []


@register("ConstantOfShape", since=9, arguments=(0,))
def constant_of_shape(node: Node) -> Operator:
    """One value everywhere, by default float 0."""
    value, dims_of = node.tensor("value"), node.integers_at(0)
    fill = torch.zeros(1) if value is None else value
    number, dtype = fill.item(), fill.dtype
    return lambda shape: torch.full(dims_of(shape), number, dtype=dtype)


@register("Range", since=11, arguments=(0, 1, 2))
def arange(node: Node) -> Operator:
    """start, start + delta, ... below limit."""

    def run(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        first, last, step = start.item(), limit.item(), delta.item()
        count = max(int(-(-(last - first) // step)), 0)
        return (
            torch.arange(count, dtype=torch.float64 if start.is_floating_point() else torch.int64) * step + first
        ).to(start.dtype)

    return run


@register("EyeLike", since=9)
def eye_like(node: Node) -> Operator:
    """Ones on a diagonal, in the shape of the input."""
    offset, code = node.integer("k"), node.integer("dtype")
    dtype = dtype_of(code, str(node)) if code else None

    def run(x: Tensor) -> Tensor:
        ones = torch.ones_like(x, dtype=torch.float32)
        return (ones.tril(offset) * ones.triu(offset)).to(dtype or x.dtype)

    return run
