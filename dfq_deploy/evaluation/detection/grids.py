"""Find the grid of a detector's anchors from their number."""

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

__all__ = ["anchor_points", "grid_of"]

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32), (8, 16), (8, 16, 32, 64, 128), (4, 8, 16, 32), (4, 8, 16))
"""Strides of a head's levels, in the order to try them."""

UNEQUAL = ((8, 16), (16, 32), (8, 16, 32))
"""Strides of a head whose levels have different numbers of anchors in a cell."""

SINGLE = (8, 16, 32, 64, 4, 128)
"""Strides of a head with one level, or of one output of several."""

MOST = 6
"""Most anchors of one cell."""

Level = tuple[int, int]


def grid_of(rows: int, size: tuple[int, int], *, single: bool = False, uniform: bool = True) -> tuple[Level, ...]:
    """Stride and anchors in a cell of each level, the finest first; empty where no grid has ``rows`` anchors.

    Args:
        size: height and width of the input.
        single: one level only.
        uniform: all levels have the same number of anchors in a cell.
    """
    alone = [(stride,) for stride in SINGLE]
    sets = alone if single else [*(STRIDES if uniform else UNEQUAL), *alone]
    return next((found for strides in sets for found in _filled(rows, size, strides, uniform)), ())


def _filled(rows: int, size: tuple[int, int], strides: Sequence[int], uniform: bool) -> Iterator[tuple[Level, ...]]:
    cells = [math.prod(_cells(size, stride)) for stride in strides]
    for counts in product(range(1, MOST + 1), repeat=1 if uniform else len(strides)):
        each = counts * len(strides) if uniform else counts
        if sum(cell * count for cell, count in zip(cells, each, strict=True)) == rows:
            yield tuple(zip(strides, each, strict=True))


def _cells(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return math.ceil(size[0] / stride), math.ceil(size[1] / stride)


def anchor_points(
    levels: Sequence[Level], size: tuple[int, int], offset: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points x, y of the anchors in pixels (rows, 2), and their strides (rows, 1); cells row by row.

    Args:
        offset: of a point from its cell's corner, in cells.
    """
    points, strides = [], []
    for stride, count in levels:
        height, width = _cells(size, stride)
        y, x = np.mgrid[:height, :width]
        corners = np.stack([x, y], axis=-1).reshape(-1, 2).repeat(count, axis=0)
        points.append((corners + offset) * stride)
        strides.append(np.full((len(corners), 1), float(stride)))
    return np.concatenate(points), np.concatenate(strides)
