"""Geometry of sliding windows: what convolutions and pooling share."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dfq_deploy.twin.node import Node

__all__ = ["Window", "flat_padding", "output_length", "window_of", "windows"]

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial axes, one entry for each.

    Attributes:
        kernel: lengths, () where the weight says them.
        pads: (begin, end) of each axis; what ``auto_pad`` asks for is worked out from the input's size.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    auto_pad: str
    ceil: bool = False

    def padding(self, sizes: Sequence[int]) -> Pads:
        """(begin, end) for an input of these spatial sizes."""
        if self.auto_pad in {"NOTSET", ""}:
            return self.pads
        if self.auto_pad == "VALID":
            return tuple((0, 0) for _ in sizes)
        result = []
        for size, kernel, stride, dilation in zip(sizes, self.kernel, self.strides, self.dilations, strict=True):
            total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            small = total // 2
            result.append((small, total - small) if self.auto_pad == "SAME_UPPER" else (total - small, small))
        return tuple(result)


def window_of(node: Node, kernel: tuple[int, ...] | None = None, rank: int | None = None) -> Window | None:
    """The window of a node's attributes; None if the number of spatial axes is not known at import.

    Args:
        kernel: the weight's spatial lengths, where it is known.
        rank: number of spatial axes, where nothing else tells.
    """
    kernel = node.integers("kernel_shape") or kernel
    strides, dilations, pads = node.integers("strides"), node.integers("dilations"), node.integers("pads")
    if kernel is not None:
        rank = len(kernel)
    if rank is None:
        return None
    flat = pads or (0,) * (2 * rank)
    return Window(
        kernel=kernel or (),
        strides=strides or (1,) * rank,
        dilations=dilations or (1,) * rank,
        pads=tuple(zip(flat[:rank], flat[rank:], strict=True)),
        auto_pad=node.text("auto_pad", "NOTSET"),
        ceil=bool(node.integer("ceil_mode")),
    )


def flat_padding(pads: Pads) -> list[int]:
    """Pads in the order of ``torch.nn.functional.pad``: last axis first."""
    return [amount for pair in reversed(pads) for amount in pair]


def output_length(padded: tuple[int, int, int], kernel: int, stride: int, dilation: int, ceil: bool) -> int:
    """Number of windows on one axis; one that would start in the end padding is left out.

    Args:
        padded: lengths of the begin padding, the input and the end padding.
    """
    span = sum(padded) - ((kernel - 1) * dilation + 1)
    count = (-(-span // stride) if ceil else span // stride) + 1
    if ceil and (count - 1) * stride >= padded[0] + padded[1]:
        count -= 1
    return count


def windows(x: Tensor, window: Window, lengths: Sequence[int]) -> Tensor:
    """All windows of a padded input: (N, C, *lengths, elements of the kernel)."""
    rank = len(lengths)
    for axis, (length, kernel, stride, dilation) in enumerate(
        zip(lengths, window.kernel, window.strides, window.dilations, strict=True)
    ):
        extent = (kernel - 1) * dilation + 1
        x = x.narrow(2 + axis, 0, (length - 1) * stride + extent)
        x = x.unfold(2 + axis, extent, stride)[..., ::dilation]
    return x.flatten(start_dim=2 + rank)
