"""Decide which images are large or a line of text, and the default number of samples."""

import math

from dfq_deploy.graph.inputs import looks_channels_last

__all__ = ["default_count", "is_large", "is_text_line", "within_memory"]

SMALL_PIXELS = 64 * 64
"""Number of pixels of the largest small image."""

SYNTHESIZED = (256, 64)
"""Default number of small and of large samples for calibration: a CPU inverts the latter in a few minutes."""

MOST_VALUES = 2**27
"""Values that a default number of samples holds at most, 512 MB in float32: 8 volumes of 256 x 256 x 256."""

FEWEST = 8
"""Default number of samples however large they are."""

TRAINING = (1024, 256)
"""Default number of small and of large samples for training: a CPU makes them in the time that training takes."""

LINE_HEIGHTS = (16, 64)
"""Minimum and maximum height of an image that holds one line of text, in pixels: recognizers take 24 to 64."""

WIDTH_OF_LINE = 2.0
"""Minimum width of such an image, as a multiple of its height."""


def is_large(shape: tuple[int, ...]) -> bool:
    """Return True for images (C, H, W) or (H, W, C) of more than 64 x 64 pixels; False for anything else.

    Large images get defaults that suit ImageNet, others those that suit CIFAR-10.
    """
    if len(shape) != 3:
        return False
    height, width = shape[:2] if looks_channels_last(shape) else shape[1:]
    return height * width > SMALL_PIXELS


def default_count(shape: tuple[int, ...], *, training: bool = False) -> int:
    """Return the default number of synthesized samples of ``shape``: fewer of very large ones, which fill the memory.

    Args:
        training: samples for fine-tuning, which needs more than calibration.
    """
    return within_memory((TRAINING if training else SYNTHESIZED)[is_large(shape)], shape)


def within_memory(count: int, shape: tuple[int, ...]) -> int:
    """Return ``count``, or as many samples of ``shape`` as :data:`MOST_VALUES` allows, but :data:`FEWEST` at least."""
    return min(count, max(FEWEST, MOST_VALUES // max(1, math.prod(shape))))


def is_text_line(height: int, width: int) -> bool:
    """Return True for the size of an image that is likely to be read as one line of text."""
    lowest, tallest = LINE_HEIGHTS
    return lowest <= height <= tallest and width >= WIDTH_OF_LINE * height
