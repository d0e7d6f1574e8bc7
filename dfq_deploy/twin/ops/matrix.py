"""Matrix products."""

import torch
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []


@register("MatMul")
def matmul(node: Node) -> Operator:
    """numpy's matrix product."""

    def run(a: Tensor, b: Tensor) -> Tensor:
        return torch.matmul(a, b)

    return run


@register("Gemm")
def gemm(node: Node) -> Operator:
    """alpha * A' B' + beta * C."""
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    transpose_a, transpose_b = bool(node.integer("transA")), bool(node.integer("transB"))

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        left, right = a.t() if transpose_a else a, b.t() if transpose_b else b
        if c is not None and alpha == 1.0 and beta == 1.0 and a.is_floating_point():
            return torch.addmm(c, left, right)
        y = left @ right if alpha == 1.0 else alpha * (left @ right)
        y = y if c is None else y + (c if beta == 1.0 else beta * c)
        return y.to(a.dtype) if not a.is_floating_point() else y

    return run
