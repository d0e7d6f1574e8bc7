"""Allocate an array, on disk if large."""

import math
import tempfile

import numpy as np
from numpy.typing import NDArray

__all__ = ["IN_MEMORY", "allocate"]

IN_MEMORY = 1 << 28
"""Size in bytes above which an array is stored in an unnamed temporary file instead of in memory."""


def allocate(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Allocate an uninitialised float32 array; a large one is a memory-mapped file that is deleted with the array."""
    if math.prod(shape) * 4 <= IN_MEMORY:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as stream:
        return np.memmap(stream, np.float32, "w+", shape=shape)
