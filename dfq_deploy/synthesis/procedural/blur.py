"""Gaussian blur of a picture, with reflected borders."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["gaussian_blur"]

Pixels = NDArray[np.float32]

STEP = 0.05
"""Standard deviations are rounded to multiples of this number of pixels, so that their matrices are made once."""


def gaussian_blur(picture: Pixels, sigma: float) -> Pixels:
    """Blur the last two axes of ``picture``, float32 (..., H, W).

    Args:
        sigma: standard deviation in pixels, rounded to a multiple of 0.05; 0 returns ``picture`` itself.
    """
    steps = round(sigma / STEP)
    if steps <= 0:
        return picture
    rows, columns = (_matrix(size, steps) for size in picture.shape[-2:])
    return np.asarray(rows @ picture @ columns.T, np.float32)


@lru_cache(maxsize=64)
def _matrix(size: int, steps: int) -> Pixels:
    """(size, size): row i has the weights of all pixels of an axis in the blurred pixel i."""
    sigma = steps * STEP
    reach = max(1, int(np.ceil(3 * sigma)))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-((offsets / sigma) ** 2) / 2)
    places = (np.arange(size)[:, None] + offsets) % (2 * size)  # a reflected axis repeats after twice its length
    places = np.minimum(places, 2 * size - 1 - places)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], places), weights / weights.sum())
    return matrix.astype(np.float32)
