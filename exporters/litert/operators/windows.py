"""Padding and strides of convolutions and poolings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..orders import channels_last
from ..registry import Unsupported
from ..step import Step, static_shape
from ..tensors import Tensor

__all__ = ["Window", "padded", "spatial_image", "window_of", "write_spatial"]


@dataclass(frozen=True)
class Window:
    """The window of a convolution or pooling over two axes (H, W); with one axis, H is 1.

    Args:
        begin, end: padding.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    begin: tuple[int, int]
    end: tuple[int, int]

    @property
    def is_padded(self) -> bool:
        """True if there is padding."""
        return any((*self.begin, *self.end))

    def is_same(self, size: Sequence[int], output: Sequence[int]) -> bool:
        """Return True if the padding is that of TensorFlow's SAME: as little as possible, the odd one at the end."""
        for axis in range(2):
            if output[axis] != -(-size[axis] // self.stride[axis]):
                return False
            reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1
            total = max((output[axis] - 1) * self.stride[axis] + reach - size[axis], 0)
            # What lies behind the last window is never read.
            if self.begin[axis] != total // 2 or self.end[axis] < total - total // 2:
                return False
        return True

    def options(self, same: bool) -> dict[str, Any]:
        """Return the options that convolutions and poolings have in common."""
        return {"padding": "SAME" if same else "VALID", "strideH": self.stride[0], "strideW": self.stride[1]}


def window_of(step: Step, kernel: tuple[int, ...]) -> Window:
    """Return the window of a node over the axes of ``kernel``.

    Raises:
        Unsupported: the node has three axes or more.
    """
    axes = len(kernel)
    if axes not in (1, 2):
        raise Unsupported(f"its window has {axes} dimensions")
    strides, dilations = step.integers("strides", [1] * axes), step.integers("dilations", [1] * axes)
    size = static_shape(step.node.inputs[0])[2:] if step.node.inputs[0] is not None else ()
    begin, end = _padding(step, kernel, strides, dilations, size)
    pairs = [tuple(values) if axes == 2 else (fill, values[0]) for values, fill in
             ((kernel, 1), (strides, 1), (dilations, 1), (begin, 0), (end, 0))]  # fmt: skip
    return Window(*pairs)  # type: ignore[arg-type]


def _padding(
    step: Step, kernel: tuple[int, ...], strides: list[int], dilations: list[int], size: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    axes, auto = len(kernel), step.text("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = step.integers("pads", [0] * 2 * axes) if auto == "NOTSET" else [0] * 2 * axes
        return pads[:axes], pads[axes:]
    begin, end = [], []
    for axis in range(axes):
        reach, stride = (kernel[axis] - 1) * dilations[axis] + 1, strides[axis]
        total = max((-(-size[axis] // stride) - 1) * stride + reach - size[axis], 0)
        first = total // 2 if auto == "SAME_UPPER" else total - total // 2
        begin.append(first)
        end.append(total - first)
    return begin, end


def spatial_image(step: Step) -> Tensor:
    """Return input 0 with the channels last and two spatial axes."""
    rank = len(static_shape(step.inputs[0]))
    stored = step.input(0, channels_last(rank))
    batch, *sizes, channels = stored.tensor.shape
    return step.writer.reshape(stored.tensor, (batch, 1, *sizes, channels)) if rank == 3 else stored.tensor


def write_spatial(step: Step, code: str, inputs: list[Tensor | None], table: str, options: dict[str, Any]) -> None:
    """Write an operation on two spatial axes; an output with one loses the other."""
    rank = len(step.shape)
    if rank == 4:
        step.write(code, inputs, channels_last(rank), table, options)
        return
    output = step.output(channels_last(rank))
    batch, size, channels = output.shape
    image = step.writer.like(f"{output.name}_image", output, (batch, 1, size, channels))
    if step.activation != "NONE":
        options = {**options, "fusedActivationFunction": step.activation}
    step.writer.emit(code, inputs, image, table, options)
    target = step.writer.numbers("shape", list(output.shape))
    step.writer.emit("RESHAPE", [image, target], output, "ReshapeOptions", {"newShape": list(output.shape)})
    step.store(output, channels_last(rank))


def padded(step: Step, image: Tensor, window: Window, lowest: bool = False) -> Tensor:
    """Return ``image`` (N, H, W, C) with its padding: zeros, or the lowest value of its type."""
    amounts = [[0, 0], *([window.begin[axis], window.end[axis]] for axis in range(2)), [0, 0]]
    shape = [size + sum(pair) for size, pair in zip(image.shape, amounts, strict=True)]
    output = step.writer.like(f"{image.name}_pad", image, shape)
    inputs = [image, step.writer.numbers("padding", np.asarray(amounts))]
    if lowest and not (image.encoding is not None and int(image.encoding.zero_point) == image.encoding.qtype.qmin):
        bottom = np.finfo(np.float32).min if image.encoding is None else image.encoding.qtype.qmin
        inputs.append(step.writer.constant("lowest", np.asarray([bottom], image.dtype), image.encoding))
        step.writer.emit("PADV2", inputs, output, "PadV2Options")
    else:
        step.writer.emit("PAD", inputs, output, "PadOptions")
    return output
