"""Shapes: told and changed; no value is computed."""

import math

import torch
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []


@register("Identity")
def identity(node: Node) -> Operator:
    """The input itself."""
    return lambda x: x


@register("Shape", on_host=True)
def shape(node: Node) -> Operator:
    """The shape, or a slice of it, as int64."""
    start, end = node.integer("start"), node.attributes.get("end")
    stop = None if end is None else end.as_int()
    return lambda x: torch.tensor(x.shape[start:stop], dtype=torch.int64)


@register("Size", on_host=True)
def size(node: Node) -> Operator:
    """The number of elements as int64."""
    return lambda x: torch.tensor(x.numel(), dtype=torch.int64)


@register("Reshape")
def reshape_by_attribute(node: Node) -> Operator:
    """Reshape with its shape as attribute."""
    dims = node.integers("shape") or ()
    return lambda x: _reshape(x, dims, False)


@register("Reshape", since=5, arguments=(1,))
def reshape(node: Node) -> Operator:
    """To a shape: 0 copies the input's length (unless allowzero), -1 takes what is left."""
    dims_of, literal = node.integers_at(1), bool(node.integer("allowzero"))
    known = node.constant(1)
    if known is not None and 0 not in known:
        dims = dims_of(None)
        return lambda x, _: x.reshape(dims)
    return lambda x, shape: _reshape(x, dims_of(shape), literal)


def _reshape(x: Tensor, dims: tuple[int, ...], literal: bool) -> Tensor:
    if literal:
        return x.reshape(dims)
    wanted = [x.shape[axis] if dim == 0 else dim for axis, dim in enumerate(dims)]
    if -1 in wanted and x.numel() == 0:  # torch cannot infer a length beside a zero
        rest = math.prod(dim for dim in wanted if dim != -1)
        wanted[wanted.index(-1)] = 0 if rest == 0 else x.numel() // rest
    return x.reshape(wanted)


@register("Flatten")
def flatten(node: Node) -> Operator:
    """To a matrix, the rows over the axes before ``axis``."""
    axis = node.integer("axis", 1)

    def run(x: Tensor) -> Tensor:
        split = axis + x.dim() if axis < 0 else axis
        return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))

    return run


@register("Transpose")
def transpose(node: Node) -> Operator:
    """Axes in another order, by default reversed."""
    order = node.integers("perm")
    if order is None:
        return lambda x: x.permute(*range(x.dim() - 1, -1, -1))
    return lambda x: x.permute(order)


def _squeezed(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.squeeze(axes) if axes else x.squeeze()


def _unsqueezed(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@register("Squeeze")
def squeeze_by_attribute(node: Node) -> Operator:
    """Drop axes of length 1, the axes as attribute."""
    axes = node.integers("axes") or ()
    return lambda x: _squeezed(x, axes)


@register("Squeeze", since=13, arguments=(1,))
def squeeze(node: Node) -> Operator:
    """Drop axes of length 1."""
    axes_of = node.integers_at(1)
    return lambda x, axes=None: _squeezed(x, axes_of(axes))


@register("Unsqueeze")
def unsqueeze_by_attribute(node: Node) -> Operator:
    """Insert axes of length 1, the axes as attribute."""
    axes = node.integers("axes") or ()
    return lambda x: _unsqueezed(x, axes)


@register("Unsqueeze", since=13, arguments=(1,))
def unsqueeze(node: Node) -> Operator:
    """Insert axes of length 1."""
    axes_of = node.integers_at(1)
    return lambda x, axes: _unsqueezed(x, axes_of(axes))


@register("Expand", since=8, arguments=(1,))
def expand(node: Node) -> Operator:
    """Broadcast to a shape; a 1 in it keeps the input's length."""
    dims_of = node.integers_at(1)

    def run(x: Tensor, shape: Tensor) -> Tensor:
        dims = list(dims_of(shape))
        missing = x.dim() - len(dims)
        wanted = [1] * missing + dims
        return x.expand([-1 if dim == 1 and axis >= -missing else dim for axis, dim in enumerate(wanted)])

    return run


@register("Tile", since=6, arguments=(1,))
def tile(node: Node) -> Operator:
    """Repeat along each axis."""
    repeats_of = node.integers_at(1)
    return lambda x, repeats: x.repeat(repeats_of(repeats))


@register("DepthToSpace")
def depth_to_space(node: Node) -> Operator:
    """Blocks of channels become blocks of pixels."""
    block, across = node.integer("blocksize"), node.text("mode", "DCR") == "DCR"

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        small = c // block**2
        split = (n, block, block, small, h, w) if across else (n, small, block, block, h, w)
        order = (0, 3, 4, 1, 5, 2) if across else (0, 1, 4, 2, 5, 3)
        return x.reshape(split).permute(order).reshape(n, small, h * block, w * block)

    return run


@register("SpaceToDepth")
def space_to_depth(node: Node) -> Operator:
    """Blocks of pixels become channels."""
    block = node.integer("blocksize")
    across = node.text("mode", "DCR") == "DCR"

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        split = x.reshape(n, c, h // block, block, w // block, block)
        order = (0, 3, 5, 1, 2, 4) if across else (0, 1, 3, 5, 2, 4)
        return split.permute(order).reshape(n, c * block**2, h // block, w // block)

    return run
