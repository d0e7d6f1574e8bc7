"""Allocate an array, on disk if large."""

import math
import tempfile

import numpy as np
from numpy.typing import NDArray

__all__ = ["IN_MEMORY", "allocate"]

IN_MEMORY = 1 << 28
"""Bytes above which an array lies in an unnamed temporary file instead of in memory."""


def allocate(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A float32 array to fill; a large one is a mapped file that goes when the array does."""
    if math.prod(shape) * 4 <= IN_MEMORY:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as stream:
        return np.memmap(stream, np.float32, "w+", shape=shape)
