"""Names of bit widths, and the curve."""

import re
from typing import Any

import pytest

from dfq_deploy.report.plots import in_words, tradeoff_curve

POINTS = [
    {"layer": "", "bits": 8, "size": 0.25, "error": 0.0},
    {"layer": "a", "bits": 4, "size": 0.2, "error": 0.25},
    {"layer": "b", "bits": 2, "size": 0.1, "error": 1.0},
]


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        ({}, "INT8"),
        ({"bits": "w8a8"}, "INT8"),
        ({"bits": "w4a4, first and last layer 8"}, "W4A4"),
        ({"bits": "w8a8, 2 layers of their own", "layers": {"a": 4}}, "mixed widths"),
    ],
)
def test_widths_in_words(calibration: dict[str, Any], words: str) -> None:
    assert in_words(calibration) == words


def test_the_curve_rises_as_bits_are_taken_away_and_marks_the_choice() -> None:
    drawing = tradeoff_curve({"tradeoff": POINTS, "chosen": 1})
    line = re.search(r'points="([^"]*)" class="line"', drawing)
    assert line is not None
    places = [tuple(map(float, pair.split(","))) for pair in line[1].split()]
    assert places == sorted(places, reverse=True)  # to the left
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)  # and up, which is down in SVG
    mark = re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)"', drawing)
    assert mark is not None
    assert (float(mark[1]), float(mark[2])) == places[1]
    assert "chosen: 20.0 % of the size in float32, error 0.25" in drawing


def test_nothing_is_drawn_where_there_was_nothing_to_choose() -> None:
    assert tradeoff_curve({"bits": "w4a4"}) == ""
