"""Choose one width for each weight such that all fit into a number of bits.

The sum of the errors is the smallest there is (multiple-choice knapsack, by dynamic programming over the size).
"""

from collections.abc import Mapping

import numpy as np

__all__ = ["widths_within"]

CELLS = 20_000
"""Resolution of the size. Each weight is rounded up to whole cells; what that leaves over is filled afterwards."""


def widths_within(
    errors: Mapping[str, Mapping[int, float]], parameters: Mapping[str, int], bits: float
) -> dict[str, int] | None:
    """Choose the widths by dynamic programming over the size (multiple-choice knapsack).

    Args:
        errors: weight -> width in bits -> error.
        parameters: weight -> number of values.
        bits: the values of all weights may take so many bits together.

    Returns:
        weight -> width; None if not even the smallest widths fit.
    """
    narrowest = {name: min(by_bits) for name, by_bits in errors.items()}
    spare = bits - sum(narrowest[name] * parameters[name] for name in errors)
    if spare < 0:
        return None
    cell = max(spare / CELLS, 1e-9)
    best = np.zeros(CELLS + 1)
    choices = []
    for name, by_bits in errors.items():
        options = sorted(by_bits)
        tried = np.full((len(options), CELLS + 1), np.inf)
        for index, width in enumerate(options):
            cost = int(np.ceil((width - narrowest[name]) * parameters[name] / cell))
            if cost <= CELLS:
                tried[index, cost:] = best[: CELLS + 1 - cost] + by_bits[width]
        choices.append(tried.argmin(0).astype(np.int8))
        best = tried.min(0)
    widths, left = {}, CELLS
    for (name, by_bits), chosen in zip(reversed(list(errors.items())), reversed(choices), strict=True):
        widths[name] = sorted(by_bits)[chosen[left]]
        left -= int(np.ceil((widths[name] - narrowest[name]) * parameters[name] / cell))
    return _filled({name: widths[name] for name in errors}, errors, parameters, bits)


def _filled(
    widths: dict[str, int], errors: Mapping[str, Mapping[int, float]], parameters: Mapping[str, int], bits: float
) -> dict[str, int]:
    """Widen what still fits, the largest gain first; bits that are left over are of no use to anyone."""
    left = bits - sum(widths[name] * parameters[name] for name in widths)
    wider = [
        (by_bits[width] - by_bits[widths[name]], -parameters[name], name, width)
        for name, by_bits in errors.items()
        for width in by_bits
        if width > widths[name]
    ]
    for _, _, name, width in sorted(wider):
        cost = (width - widths[name]) * parameters[name]
        if 0 < cost <= left:
            widths[name], left = width, left - cost
    return widths
