"""Charts: what they draw is where the figures are, and text is escaped."""

import math
import re

import pytest

from dfq_deploy.report.charts.axes import ticks
from dfq_deploy.report.charts.bars import bar, box, meter, parts
from dfq_deploy.report.charts.channels import channel_ranges
from dfq_deploy.report.charts.histogram import histogram, integers_per_tick
from dfq_deploy.report.charts.noise import NoisePoint, kind_of, noise_lines
from dfq_deploy.report.charts.svg import element, path_of
from dfq_deploy.report.charts.tradeoff import tradeoff

DRAWN = {
    "tensor": "<x>", "type": "u8", "unit": "value", "low": -1.0, "high": 3.0, "counts": [2, 0, 7, 1], "clip_low": 0.0,
    "clip_high": 1.28, "step": 0.01, "outside": 0.25,
}  # fmt: skip


def test_elements_escape_text_and_attributes() -> None:
    drawn = element("text", "a<b", x=1.0, text_anchor="end", class_='"', hidden=None)
    assert drawn == '<text x="1" text-anchor="end" class="&#34;">a&lt;b</text>'
    assert path_of([(0, 1, 2.5, 3)]) == "M0 1h2.5v3h-2.5z"


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((0, 50), [0, 10, 20, 30, 40, 50]), ((-0.3, 0.3), [-0.2, 0, 0.2]), ((2, 2), [2])],
)
def test_ticks_are_round(ends: tuple[float, float], expected: list[float]) -> None:
    assert ticks(*ends, 5 if ends[1] > 1 else 3) == pytest.approx(expected)


def test_a_histogram_marks_what_is_clipped() -> None:
    drawn = histogram(DRAWN)
    inside, outside = (re.search(rf'class="{kind}" d="([^"]*)"', drawn) for kind in ("bars", "clipped"))
    assert inside is not None
    assert outside is not None
    # Bins of width 1 from -1 on; the integers reach from 0 to 1.28, so the middle of the third, 1.5, lies outside.
    assert inside[1] == ""
    assert [part.split()[0] for part in outside[1].split("M")[1:]] == ["0.04", "2.04", "3.04"]
    assert drawn.count('class="integer"') == 65  # both ends of 64 steps of two integers
    assert integers_per_tick(DRAWN) == 2
    assert re.findall(r'class="clip" x1="([^"]*)"', drawn) == ["25%", "57%"]
    assert "&lt;x&gt;" in drawn


def test_every_integer_has_a_tick_where_they_are_few() -> None:
    few = {**DRAWN, "clip_low": -1.0, "clip_high": 3.0, "step": 0.5}
    assert integers_per_tick(few) == 1
    assert histogram(few).count('class="integer"') == 9


def test_noise_is_drawn_at_its_height_and_breaks_where_it_is_unknown() -> None:
    points = [
        NoisePoint("a", 40.0, math.inf, "text <a>", "#layer-0"),
        NoisePoint("b", None, 20.0, "text b", "#layer-1"),
        NoisePoint("c", 0.0, 10.0, "text c", "#layer-2"),
    ]
    drawn = noise_lines(points)
    lines = dict(re.findall(r'class="line (\w+)" d="([^"]*)"', drawn))
    assert lines["accumulated"].count("M") == 2
    assert lines["own"].count("M") == 1
    heights = [float(pair.split()[1]) for pair in re.split("[ML]", lines["own"])[1:]]
    assert heights == sorted(heights)  # less signal to noise is lower
    assert drawn.count("<a ") == 3
    assert 'data-tip="text &lt;a&gt;"' in drawn
    assert {"band good", "band fair", "band poor"} <= set(re.findall(r'rect class="([^"]*)"', drawn))


@pytest.mark.parametrize(
    ("snr", "kind"), [(None, "good"), (20.0, "good"), (19.9, "fair"), (9.9, "poor"), (-5.0, "poor")]
)
def test_bands(snr: float | None, kind: str) -> None:
    assert kind_of(snr) == kind


def test_channels_beyond_the_columns_are_joined_with_their_extremes() -> None:
    low, high = [-1.0] * 1000, [1.0] * 1000
    high[500] = 3.0
    drawn = channel_ranges("w", low, high)
    path = re.search(r'class="bars" d="([^"]*)"', drawn)
    assert path is not None
    bars = path[1].split("M")[1:]
    assert len(bars) == 256
    assert [index for index, bar in enumerate(bars) if " 4h" in bar] == [128]
    assert "1000 channels of w" in drawn


def test_bars_are_as_long_as_their_part() -> None:
    assert 'width="50%"' in meter(0.5, "good")
    assert 'width="25%"' in bar(0.25, "eight", "a <b>")
    drawn = parts({"int8": 30.0, "rest": 10.0}, 80.0, {"int8": "eight", "rest": "other"}, "size")
    assert re.findall(r'x="([^"]*)" width="([^"]*)"', drawn) == [("0%", "37.5%"), ("37.5%", "12.5%")]
    assert 'x1="0%" x2="100%"' in box([1.0, 2.0, 10.0, 50.0, 100.0], 1.0, 100.0)


def test_the_curve_rises_as_bits_are_taken_away_and_marks_the_choice() -> None:
    points = [
        {"layer": "", "bits": 8, "size": 0.25, "error": 0.0},
        {"layer": "a", "bits": 4, "size": 0.2, "error": 0.25},
        {"layer": "b", "bits": 2, "size": 0.1, "error": 1.0},
    ]
    drawn = tradeoff(points, 1)
    line = re.search(r'class="line accumulated" d="([^"]*)"', drawn)
    assert line is not None
    places = [tuple(map(float, pair.split())) for pair in re.split("[ML]", line[1])[1:]]
    assert places == sorted(places, reverse=True)  # to the left
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)  # and up, which is down in SVG
    mark = re.search(r'class="chosen" cx="([\d.]+)%" cy="([\d.]+)"', drawn)
    assert mark is not None
    assert (float(mark[1]), float(mark[2])) == pytest.approx(places[1], abs=0.01)
    assert "chosen: 20.0 % of the float file, error 0.25" in drawn
