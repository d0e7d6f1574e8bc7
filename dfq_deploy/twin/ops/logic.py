"""Comparison, logic, bits, choice."""

import torch
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.ops.arithmetic import aligned
from dfq_deploy.twin.registry import Operator, register

__all__ = ["BINARY"]

BINARY: dict[str, Operator] = {
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "Less": torch.lt,
    "GreaterOrEqual": torch.ge,
    "LessOrEqual": torch.le,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}
"""Two tensors in, no attributes."""


@register(*BINARY)
def legacy_binary(node: Node) -> Operator:
    """Elementwise with the ``axis`` attribute of the first opsets."""
    axis = node.attributes.get("axis")
    return aligned(BINARY[node.op_type], None if axis is None else axis.as_int())


@register(*BINARY, since=7)
def binary(node: Node) -> Operator:
    """Elementwise."""
    return BINARY[node.op_type]


@register("Not")
def logical_not(node: Node) -> Operator:
    """True where false."""
    return torch.logical_not


@register("BitwiseNot", since=18)
def bitwise_not(node: Node) -> Operator:
    """Every bit turned."""
    return torch.bitwise_not


@register("Where", since=9)
def where(node: Node) -> Operator:
    """Elementwise choice."""

    def run(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.where(condition, a, b)

    return run
