"""The trade-off between the size of the file and the error of its outputs.

Errors of several weights are assumed to add up (Cai et al., "ZeroQ", CVPR 2020, arXiv 2001.00281, section 3.2, on
distilled data). Bits are removed where a saved byte costs least, which follows the Pareto frontier of the layers'
convex hulls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["FileSize", "Point", "frontier"]


@dataclass(frozen=True)
class FileSize:
    """How large the quantized file is, in bytes.

    Args:
        in_float: size of the float file.
        widest: size of the quantized file with all weights at the largest width, 8 bits.
        saved: bytes that each bit of a weight's value takes, zero points included.
    """

    in_float: int
    widest: float
    saved: float

    def part(self, saved_bits: float) -> float:
        """Size of the file without ``saved_bits`` bits of its values, as a fraction of the float file."""
        return (self.widest - self.saved * saved_bits) / self.in_float


@dataclass(frozen=True)
class Point:
    """One point of the frontier.

    Args:
        layer: the weight that gets fewer bits at this point; empty at the start, and where several weights change.
        bits: its new width.
        size: size of the file, as a fraction of the float file.
        error: predicted error of the outputs: KL divergence in nats if there are class scores, else squared error
            relative to the signal.
    """

    layer: str
    bits: int
    size: float
    error: float


def frontier(errors: Mapping[str, Mapping[int, float]], parameters: Mapping[str, int], file: FileSize) -> list[Point]:
    """Return the points from 8 bits down to the smallest width for all weights; the cheapest byte is saved first.

    Args:
        errors: weight -> bits -> error of the outputs with this weight alone at that width.
        parameters: weight -> number of values.
    """
    steps = []
    for name, by_bits in errors.items():
        hull = _hull([(bits, by_bits[bits]) for bits in sorted(by_bits, reverse=True)])
        for (wider, before), (narrower, after) in pairwise(hull):
            saved_bits = (wider - narrower) * parameters[name]
            steps.append(((after - before) / saved_bits, -wider, name, narrower, saved_bits, after - before))
    saved, error = 0, sum(by_bits[8] for by_bits in errors.values())
    points = [Point("", 8, file.part(0), error)]
    for _, _, name, narrower, saved_bits, added_error in sorted(steps):
        saved, error = saved + saved_bits, error + added_error
        points.append(Point(name, narrower, file.part(saved), error))
    return points


def _hull(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the lower convex hull of (bits, error), widest first: the slopes along it never fall."""
    hull: list[tuple[int, float]] = []
    for bits, error in points:
        while len(hull) > 1:
            (first, low), (second, middle) = hull[-2:]
            if (middle - low) * (second - bits) < (error - middle) * (first - second):
                break
            hull.pop()
        hull.append((bits, error))
    return hull
