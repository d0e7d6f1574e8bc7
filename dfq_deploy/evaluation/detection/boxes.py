"""Overlap of boxes, and non-maximum suppression."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Detections", "Floats", "overlaps", "paired_overlaps", "suppress"]

Floats: TypeAlias = NDArray[np.floating[Any]]
"""Numbers of any precision."""

CANDIDATES = 3000
"""Most candidates of one image that suppression looks at, the best first."""

KEPT = 100
"""Most detections of one image, as COCO counts them."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects that were found in one image, the best first.

    Args:
        boxes: (n, 4), corners x1, y1, x2, y2 in pixels of the input.
        scores: (n,), 0 to 1.
        classes: (n,), from 0.
    """

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> "Detections":
        """Those with at least this score."""
        chosen = self.scores >= score
        return Detections(self.boxes[chosen], self.scores[chosen], self.classes[chosen])


def overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of all pairs of boxes (n, 4) and (m, 4): (n, m), 0 to 1."""
    return _overlap(first[:, None], second[None])


def paired_overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of the boxes (..., 4) of one row: (...)."""
    return _overlap(first, second)


def _overlap(first: Floats, second: Floats) -> Floats:
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    union = _area(first) + _area(second) - common
    found: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return found


def _area(boxes: Floats) -> Floats:
    area: Floats = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(axis=-1)
    return area


def suppress(boxes: Floats, scores: Floats, *, least_score: float, overlap: float) -> Detections:
    """Greedy non-maximum suppression, class by class.

    Args:
        boxes: (n, 4), corners in pixels.
        scores: (n, classes); a box may be found as several classes.
        least_score: lower ones are no detections.
        overlap: a box that overlaps a better one of its class by more is dropped.

    Returns:
        at most 100 detections, the best first.
    """
    rows, classes = np.nonzero(scores >= least_score)
    found = scores[rows, classes]
    order = np.argsort(-found, kind="stable")[:CANDIDATES]
    rows, classes, found = rows[order], classes[order], found[order]
    candidates = boxes[rows].astype(np.float64)
    alive = np.ones(len(found), np.bool_)
    kept: list[int] = []
    for index in range(len(found)):
        if not alive[index]:
            continue
        kept.append(index)
        if len(kept) == KEPT:
            break
        others = np.flatnonzero(alive[index + 1 :] & (classes[index + 1 :] == classes[index])) + index + 1
        alive[others[paired_overlaps(candidates[index], candidates[others]) > overlap]] = False
    return Detections(candidates[kept], found[kept].astype(np.float64), classes[kept].astype(np.int64))
