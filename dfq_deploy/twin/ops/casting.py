"""Between element types."""

import torch
from torch import Tensor

from dfq_deploy.twin.dtypes import dtype_of
from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []


@register("Cast")
def cast(node: Node) -> Operator:
    """To the type of an attribute; gradients pass between float types."""
    dtype = dtype_of(node.integer("to"), str(node))
    return lambda x: _cast(x, dtype)


@register("CastLike", since=15)
def cast_like(node: Node) -> Operator:
    """To the type of another tensor."""
    return lambda x, like: _cast(x, like.dtype)


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype)
