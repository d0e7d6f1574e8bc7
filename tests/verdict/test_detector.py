"""What boxes and scores of a detector mean."""

import math

import pytest

from dfq_deploy.evaluation.detection.head_errors import HeadErrors
from dfq_deploy.evaluation.detection.map_metric import DetectionFigures
from dfq_deploy.verdict.detector import detector_decibels, detector_finding, precision_finding


def head(overlap: float | None, best: tuple[float, float], shift: float | None, snr: float = 30.0) -> HeadErrors:
    return HeadErrors(snr, snr, overlap, *best, shift)


@pytest.mark.parametrize(
    ("errors", "level"),
    [
        (head(0.96, (0.68, 0.67), 0.01), "OK"),
        (head(0.96, (0.68, 0.41), 0.04), "BAD"),
        (head(0.85, (0.68, 0.67), 0.01), "CHECK"),
        (head(0.70, (0.68, 0.67), 0.01), "BAD"),
        (head(0.96, (0.30, 0.35), 0.1), "CHECK"),
        (head(0.96, (0.004, 0.004), None), "CHECK"),
        (head(None, (math.nan, math.nan), None), "OK"),
        (head(None, (math.nan, math.nan), None, 11.0), "BAD"),
    ],
)
def test_levels(errors: HeadErrors, level: str) -> None:
    assert detector_finding(errors, 16, "photographs").level == level


@pytest.mark.parametrize(
    ("errors", "decibels"),
    [
        (head(0.9, (0.68, 0.67), 0.01), 20.0),
        (head(0.95, (0.68, 0.67), 0.05), 20.0),
        (head(0.95, (0.68, 0.67), 0.01), 20 + 20 * math.log10(2)),
        (head(0.95, (0.68, 0.48), 0.01), 20 - 20 * math.log10(4)),
        (head(0.95, (0.004, 0.004), None), 20 + 20 * math.log10(2)),
        (head(None, (math.nan, math.nan), None, 23.0), 23.0),
        (head(1.0, (0.68, 0.68), 0.0), math.inf),
    ],
)
def test_the_figure_is_20_decibels_where_the_largest_error_is_just_ok(errors: HeadErrors, decibels: float) -> None:
    assert detector_decibels(errors) == pytest.approx(decibels)


def test_the_sentence_names_both() -> None:
    message = detector_finding(head(0.96, (0.68, 0.41), 0.21), 16, "data").message
    assert message == (
        "boxes overlap float's by 96.0 %, a score of 0.5 moves by 0.210, the highest of 0.68 becomes 0.41 on 16 inputs "
        "(data)"
    )


def figures(of_float: float, of_quantized: float, against: str) -> DetectionFigures:
    return DetectionFigures(
        "mAP", of_float, of_quantized, float_50=of_float, quantized_50=of_quantized, objects=9, against=against,
        kind="centers",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "level"),
    [
        (figures(0.5, 0.495, "annotations"), "OK"),
        (figures(0.5, 0.47, "annotations"), "CHECK"),
        (figures(0.5, 0.4, "annotations"), "BAD"),
        (figures(1.0, 0.96, "float"), "OK"),
        (figures(1.0, 0.7, "float"), "BAD"),
        (figures(0.0, 0.0, "annotations"), "CHECK"),
    ],
)
def test_precision(given: DetectionFigures, level: str) -> None:
    assert [one.level for one in precision_finding(given)] == [level]
