"""Poolings over windows."""

from math import prod

import numpy as np

from ..registry import Unsupported, operator
from ..step import Step
from ..tensors import Tensor
from .windows import Window, padded, spatial_image, window_of, write_spatial

__all__ = ["average_pool", "max_pool"]


def _prepared(step: Step) -> tuple[Window, Tensor, tuple[int, int]]:
    if any(size != 1 for size in step.integers("dilations", [1])):
        raise Unsupported("its window is dilated")
    window, image = window_of(step, tuple(step.integers("kernel_shape"))), spatial_image(step)
    sizes = step.shape[2:]
    out = (sizes[0], sizes[1]) if len(sizes) == 2 else (1, sizes[0])
    if step.integer("ceil_mode", 0):
        # The last window may reach beyond the padding: make the padding that large.
        needed = [(out[a] - 1) * window.stride[a] + window.kernel[a] - image.shape[1 + a] - window.begin[a]
                  for a in range(2)]  # fmt: skip
        end = (max(window.end[0], needed[0]), max(window.end[1], needed[1]))
        window = Window(window.kernel, window.stride, window.dilation, window.begin, end)
    return window, image, out


def _options(window: Window, same: bool) -> dict[str, object]:
    return {**window.options(same), "filterHeight": window.kernel[0], "filterWidth": window.kernel[1]}


@operator("MaxPool", kind="same")
def max_pool(step: Step) -> None:
    """MAX_POOL_2D; padding that is not TensorFlow's SAME is written with the lowest value."""
    if len(step.node.outputs) > 1 and step.node.outputs[1].uses():
        raise Unsupported("its indices are read")
    window, image, out = _prepared(step)
    same = window.is_same(image.shape[1:3], out)
    if window.is_padded and not same:
        image = padded(step, image, window, lowest=True)
    write_spatial(step, "MAX_POOL_2D", [image], "Pool2DOptions", _options(window, same))


@operator("AveragePool", kind="same")
def average_pool(step: Step) -> None:
    """AVERAGE_POOL_2D, which leaves the padding of SAME out of its means; MEAN if the window is the whole image.

    Other padding is written as zeros; where it must not count, the means are divided by the share of real values.
    """
    window, image, out = _prepared(step)
    if not window.is_padded and window.kernel == image.shape[1:3]:
        places = step.writer.numbers("axes", [1, 2])
        write_spatial(step, "MEAN", [image, places], "ReducerOptions", {"keepDims": True})
        return
    same = window.is_same(image.shape[1:3], out)
    counted = bool(step.integer("count_include_pad", 0)) and not step.integer("ceil_mode", 0)
    if not window.is_padded or (same and not counted):
        write_spatial(step, "AVERAGE_POOL_2D", [image], "Pool2DOptions", _options(window, same))
        return
    if counted:
        zeros = padded(step, image, window)
        write_spatial(step, "AVERAGE_POOL_2D", [zeros], "Pool2DOptions", _options(window, False))
        return
    if len(step.shape) != 4:
        raise Unsupported("its padding does not count, and is not TensorFlow's SAME")
    _corrected(step, image, window, out)


def _corrected(step: Step, image: Tensor, window: Window, out: tuple[int, int]) -> None:
    """Write a float pooling of the padded image, times kernel size / number of values that count."""
    if image.encoding is not None:
        step.use_floats()
        image = spatial_image(step)
    include = bool(step.integer("count_include_pad", 0))
    pads = step.integers("pads", [0, 0, 0, 0])
    counts = [
        [
            sum(
                (-pads[axis] if include else 0) <= position < size + (pads[axis + 2] if include else 0)
                for position in range(
                    index * window.stride[axis] - window.begin[axis],
                    index * window.stride[axis] - window.begin[axis] + window.kernel[axis],
                )
            )
            for index in range(out[axis])
        ]
        for axis, size in enumerate(image.shape[1:3])
    ]
    share = prod(window.kernel) / np.outer(counts[0], counts[1]).astype(np.float32)
    zeros = padded(step, image, window)
    pooled = step.temporary((image.shape[0], *out, image.shape[3]))
    step.writer.emit("AVERAGE_POOL_2D", [zeros], pooled, "Pool2DOptions", _options(window, False))
    factor = step.writer.constant(f"{step.node.name}_share", share.astype(np.float32)[None, :, :, None])
    step.write("MUL", [pooled, factor], (0, 2, 3, 1), "MulOptions")
