"""Conv and ConvTranspose in one, two and three dimensions."""

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.ops.windows import Window, flat_padding, window_of
from dfq_deploy.twin.registry import Operator, register

__all__ = ["convolve"]

CONVOLUTIONS: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED: tuple[Callable[..., Tensor], ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def _weight_lengths(node: Node) -> tuple[int, ...] | None:
    weight = node.constant(1)
    return None if weight is None else tuple(weight.shape[2:])


@register("Conv")
def conv(node: Node) -> Operator:
    """Convolution; symmetric pads go straight to torch."""
    window, groups = window_of(node, _weight_lengths(node)), node.integer("group", 1)
    if window is not None and window.auto_pad == "NOTSET" and all(begin == end for begin, end in window.pads):
        function = CONVOLUTIONS[len(window.kernel) - 1]
        strides, dilations = window.strides, window.dilations
        padding = tuple(begin for begin, _ in window.pads)

        def symmetric(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            return function(x, weight, bias, strides, padding, dilations, groups)

        return symmetric

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        known = window or window_of(node, tuple(weight.shape[2:]))
        assert known is not None
        return convolve(x, weight, bias, known, groups)

    return run


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, groups: int) -> Tensor:
    """Convolve with whatever pads the window asks for at this input size."""
    pads = window.padding(x.shape[2:])
    function = CONVOLUTIONS[x.dim() - 3]
    if all(begin == end for begin, end in pads):
        return function(x, weight, bias, window.strides, [begin for begin, _ in pads], window.dilations, groups)
    return function(F.pad(x, flat_padding(pads)), weight, bias, window.strides, 0, window.dilations, groups)


@register("ConvTranspose")
def conv_transpose(node: Node) -> Operator:
    """Transposed convolution: run without padding, then cut the pads off, which takes any pads and output shape."""
    groups = node.integer("group", 1)
    extra_attribute, shape_attribute = node.integers("output_padding"), node.integers("output_shape")

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        rank = x.dim() - 2
        window = window_of(node, tuple(weight.shape[2:]))
        assert window is not None
        extra = extra_attribute or (0,) * rank
        # without any padding the result is longest; torch refuses output_padding >= stride, so add it by padding
        y = TRANSPOSED[rank - 1](x, weight, bias, window.strides, 0, 0, groups, window.dilations)
        sizes = [size + add for size, add in zip(y.shape[2:], extra, strict=True)]
        pads = _transposed_pads(window, x.shape[2:], sizes, shape_attribute)
        cut = [(-begin, add - end) for (begin, end), add in zip(pads, extra, strict=True)]
        if bias is None or all(end <= 0 for _, end in cut):
            return F.pad(y, flat_padding(tuple(cut)))
        bare = F.pad(y - bias.reshape(-1, *[1] * rank), flat_padding(tuple(cut)))
        return bare + bias.reshape(-1, *[1] * rank)

    return run


def _transposed_pads(
    window: Window, inputs: tuple[int, ...], full: list[int], shape: tuple[int, ...] | None
) -> tuple[tuple[int, int], ...]:
    """(begin, end) to cut off the full result."""
    if shape is None and window.auto_pad not in {"SAME_UPPER", "SAME_LOWER"}:
        return window.pads if window.auto_pad != "VALID" else tuple((0, 0) for _ in full)
    wanted = shape[-len(full) :] if shape else [n * stride for n, stride in zip(inputs, window.strides, strict=True)]
    result = []
    for size, target in zip(full, wanted, strict=True):
        total = size - target
        half = total // 2
        result.append((half, total - half) if window.auto_pad == "SAME_UPPER" else (total - half, half))
    return tuple(result)
