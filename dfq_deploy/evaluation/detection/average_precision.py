"""Mean average precision, as COCO defines it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.evaluation.detection.boxes import Detections, Floats, overlaps

__all__ = ["THRESHOLDS", "AveragePrecision", "Truth", "average_precision"]

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Overlaps from which on a box is right: 0.5, 0.55 ... 0.95."""

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which precision is read."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The objects of one image.

    Args:
        boxes: (n, 4), corners in pixels of the input.
        classes: (n,), from 0.
        ignored: (n,), objects that may be found and need not be (crowds, and what cropping has cut off).
    """

    boxes: Floats
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def __post_init__(self) -> None:
        if len(self.ignored) != len(self.classes):
            object.__setattr__(self, "ignored", np.zeros(len(self.classes), np.bool_))


@dataclass(frozen=True)
class AveragePrecision:
    """Mean over the classes of the average precision, each 0 to 1.

    Args:
        at_50: at an overlap of 0.5.
        mean: mean over the overlaps 0.5 to 0.95.
        objects: how many objects there are to be found.
    """

    at_50: float
    mean: float
    objects: int


def average_precision(truths: Sequence[Truth], found: Sequence[Detections]) -> AveragePrecision:
    """Mean average precision of the detections ``found`` in images whose objects are ``truths``.

    Source: Lin et al. 2014 (COCO); the definition of its evaluation: detections are matched greedily, the best first,
    to the object of their class that they overlap most, each object once; precision is made monotonous and read at 101
    recalls.

    Returns:
        figures over the classes that have an object; 0 where none has.
    """
    present = sorted({int(one) for truth in truths for one in truth.classes[~truth.ignored]})
    table = [_of_class(one, truths, found) for one in present]
    objects = sum(int((~truth.ignored).sum()) for truth in truths)
    if not table:
        return AveragePrecision(0.0, 0.0, objects)
    means = np.mean(table, axis=0)
    return AveragePrecision(float(means[0]), float(means.mean()), objects)


def _of_class(one: int, truths: Sequence[Truth], found: Sequence[Detections]) -> NDArray[np.float64]:
    """Average precision of one class at each threshold."""
    scores, rights, ignored, objects = [], [], [], 0
    for truth, detections in zip(truths, found, strict=True):
        own, mine = truth.classes == one, detections.classes == one
        objects += int((own & ~truth.ignored).sum())
        pairs = overlaps(detections.boxes[mine], truth.boxes[own])
        matched = [_matched(pairs, truth.ignored[own], threshold) for threshold in THRESHOLDS]
        scores.append(detections.scores[mine])
        rights.append(np.stack([right for right, _ in matched]))
        ignored.append(np.stack([left_out for _, left_out in matched]))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    right, left_out = np.concatenate(rights, axis=1)[:, order], np.concatenate(ignored, axis=1)[:, order]
    return np.array([_area(row[~out], objects) for row, out in zip(right, left_out, strict=True)])


def _matched(
    pairs: Floats, ignored: NDArray[np.bool_], threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections (the best first) are right, and which only found what is ignored."""
    right, left_out = np.zeros(len(pairs), np.bool_), np.zeros(len(pairs), np.bool_)
    free = ~ignored
    for index, row in enumerate(pairs):
        candidates = np.where(free, row, -1.0)
        best = int(candidates.argmax()) if len(row) else -1
        if best >= 0 and candidates[best] >= threshold:
            right[index], free[best] = True, False
        else:
            left_out[index] = bool((row[ignored] >= threshold).any())
    return right, left_out


def _area(right: NDArray[np.bool_], objects: int) -> float:
    """Mean precision at 101 recalls of detections in order of their scores."""
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(right) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / objects, RECALLS - 1e-12)
    return float(np.append(precision, 0.0)[np.minimum(places, len(right))].mean())
