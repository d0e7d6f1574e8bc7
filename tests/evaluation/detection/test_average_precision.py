"""Mean average precision, against figures computed by hand."""

import numpy as np
import pytest

from dfq_deploy.evaluation.detection.average_precision import Truth, average_precision
from dfq_deploy.evaluation.detection.boxes import Detections, overlaps, suppress


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array(rows, np.float64).reshape(-1, 4)


def found(
    *rows: tuple[float, float, float, float], scores: list[float], classes: list[int] | None = None
) -> Detections:
    return Detections(boxes(*rows), np.array(scores), np.array(classes or [0] * len(rows), np.int64))


A, B, FAR = (0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 30.0, 30.0), (50.0, 50.0, 60.0, 60.0)


def test_all_found() -> None:
    result = average_precision([Truth(boxes(A, B), np.array([0, 1]))], [found(A, B, scores=[0.9, 0.8], classes=[0, 1])])
    assert (result.at_50, result.mean, result.objects) == (1.0, 1.0, 2)


def test_a_wrong_box_between_two_right_ones() -> None:
    # recall 0.5 at precision 1 (51 of 101 recalls), recall 1 at precision 2/3 (50)
    result = average_precision([Truth(boxes(A, B), np.array([0, 0]))], [found(A, FAR, B, scores=[0.9, 0.8, 0.7])])
    assert result.at_50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_overlap_decides() -> None:
    moved = (0.0, 0.0, 10.0, 7.4)  # overlaps by 0.74: right at 0.5, 0.55 ... 0.7, five of ten
    result = average_precision([Truth(boxes(A), np.array([0]))], [found(moved, scores=[0.9])])
    assert (result.at_50, result.mean) == (1.0, 0.5)


def test_an_object_is_found_once_and_an_ignored_one_need_not_be() -> None:
    twice = average_precision([Truth(boxes(A), np.array([0]))], [found(A, A, scores=[0.9, 0.8])])
    assert twice.at_50 == 1.0
    first_wrong = average_precision([Truth(boxes(A), np.array([0]))], [found(FAR, A, scores=[0.9, 0.8])])
    assert first_wrong.at_50 == 0.5
    ignored = Truth(boxes(A, FAR), np.array([0, 0]), np.array([False, True]))
    assert average_precision([ignored], [found(FAR, A, scores=[0.9, 0.8])]).at_50 == 1.0


def test_classes_count_alike_and_images_are_apart() -> None:
    truths = [Truth(boxes(A), np.array([0])), Truth(boxes(B), np.array([3]))]
    given = [found(A, B, scores=[0.9, 0.9], classes=[0, 3]), found(scores=[])]
    assert average_precision(truths, given).at_50 == 0.5


def test_suppression_keeps_the_best_of_each_class() -> None:
    shifted = (1.0, 0.0, 11.0, 10.0)
    scores = np.array([[0.9, 0.1], [0.8, 0.0], [0.0, 0.7], [0.3, 0.0]])
    kept = suppress(boxes(A, shifted, A, FAR), scores, least_score=0.2, overlap=0.5)
    assert kept.scores.tolist() == [0.9, 0.7, 0.3]
    assert kept.classes.tolist() == [0, 1, 0]
    assert kept.boxes.tolist() == [list(A), list(A), list(FAR)]


def test_overlaps() -> None:
    result = overlaps(boxes(A, B), boxes((0, 0, 10, 5), (25, 25, 35, 35), (5, 5, 5, 5)))
    assert result == pytest.approx(np.array([[0.5, 0, 0], [0, 25 / 175, 0]]))
