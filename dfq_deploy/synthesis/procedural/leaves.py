"""Opaque leaves that occlude each other: ellipses and polygons with radii distributed as 1 / r^3."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST", "Owners", "leaves_to_cover", "occlude"]

Owners: TypeAlias = NDArray[np.int32]
"""(H, W): the number of the uppermost leaf of each pixel, from 1; 0 where there is none."""

LARGEST = 1.0
"""Maximum radius, as a fraction of the shorter side of the picture."""

COVERAGE = 3.0
"""Areas of the discs around all leaves, as a multiple of the picture's: a third of it remains background."""

MOST = 1000
"""Maximum number of leaves, for pictures that are much longer than wide."""

POLYGONS = 0.4
"""Fraction of the leaves that are convex polygons; the others are ellipses."""

MOST_SIDES = 6

FLATTEST = 0.4
"""Minimum ratio of the axes of an ellipse."""


def leaves_to_cover(size: tuple[int, int], smallest: float) -> int:
    """Return the number of leaves for a picture of ``size`` (H, W), of which they cover about two thirds.

    Args:
        smallest: minimum radius, as a fraction of the shorter side.
    """
    mean_square = 2 * smallest**2 * np.log(LARGEST / smallest) / (1 - (smallest / LARGEST) ** 2)
    return min(MOST, int(np.ceil(COVERAGE * max(size) / (min(size) * np.pi * mean_square))))


def occlude(
    size: tuple[int, int],
    count: int,
    smallest: float,
    generator: np.random.Generator,
    spread: tuple[float, float, float] | None = None,
) -> Owners:
    """Lay ``count`` leaves on a picture of ``size`` (H, W), each on top of the one before.

    Args:
        smallest: minimum radius, as a fraction of the shorter side.
        spread: row, column and standard deviation of the centres in fractions of the sides, for leaves that together
            make one object; None spreads them evenly over the picture.
    """
    # Inverse of the cumulative distribution of 1 / r^3 between the smallest and the largest radius.
    uniform = generator.random(count)
    ratio = smallest / LARGEST
    radii = min(size) * smallest / np.sqrt(1 - uniform * (1 - ratio**2))
    if spread is None:
        centres = generator.uniform(-0.1, 1.1, (count, 2))
    else:
        centres = generator.normal(spread[:2], spread[2], (count, 2))
    owners = np.zeros(size, np.int32)
    for number, (rows, columns, inside) in enumerate(_masks(size, centres * size, radii, generator), start=1):
        owners[rows, columns][inside] = number
    return owners


def _masks(
    size: tuple[int, int], centres: NDArray[np.float64], radii: NDArray[np.float64], generator: np.random.Generator
) -> Iterator[tuple[slice, slice, NDArray[np.bool_]]]:
    """The window of each leaf, and which of its pixels it covers."""
    polygons = generator.random(len(radii)) < POLYGONS
    angles = generator.uniform(0, np.pi, len(radii))
    aspects = generator.uniform(FLATTEST, 1, len(radii))
    seeds = generator.random((len(radii), 2, MOST_SIDES))
    for centre, radius, polygon, angle, aspect, seed in zip(
        centres, radii, polygons, angles, aspects, seeds, strict=True
    ):
        low = np.maximum(np.floor(centre - radius), 0).astype(int)
        high = np.minimum(np.ceil(centre + radius) + 1, size).astype(int)
        down = np.arange(low[0], max(low[0], high[0])) - centre[0]
        across = np.arange(low[1], max(low[1], high[1])) - centre[1]
        inside = _polygon(down, across, radius, seed) if polygon else _ellipse(down, across, radius, angle, aspect)
        yield slice(low[0], low[0] + len(down)), slice(low[1], low[1] + len(across)), inside


def _ellipse(
    down: NDArray[np.float64], across: NDArray[np.float64], radius: float, angle: float, aspect: float
) -> NDArray[np.bool_]:
    sine, cosine = np.sin(angle), np.cos(angle)
    flat = 1 / aspect**2
    squares = (down**2 * (cosine**2 + flat * sine**2))[:, None] + across**2 * (sine**2 + flat * cosine**2)
    inside: NDArray[np.bool_] = squares + np.outer(down, across * (2 * sine * cosine * (1 - flat))) <= radius**2
    return inside


def _polygon(
    down: NDArray[np.float64], across: NDArray[np.float64], radius: float, seed: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The part of a disc on the inner side of three to six lines around its centre."""
    inside: NDArray[np.bool_] = (down**2)[:, None] + across**2 <= radius**2
    sides = 3 + int(seed[0, 0] * (MOST_SIDES - 2))
    angles = 2 * np.pi * (np.arange(sides) + seed[0, :sides] * 0.8) / sides
    for angle, distance in zip(angles, radius * (0.4 + 0.45 * seed[1, :sides]), strict=True):
        inside &= np.add.outer(down * np.sin(angle), across * np.cos(angle)) <= distance
    return inside
