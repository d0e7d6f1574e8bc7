"""Signal to noise along the graph: accumulated, and of each layer alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from markupsafe import Markup

from dfq_deploy.report.charts.axes import label_below, rows, ticks
from dfq_deploy.report.charts.svg import element, percent, plot, stretched

__all__ = ["FAIR", "GOOD", "NoisePoint", "kind_of", "noise_lines"]

HEIGHT, BASE = 320, 290
"""Pixels of the drawing, and of its plane."""

GOOD, FAIR = 20.0, 10.0
"""Above 20 dB less than a hundredth of the energy is noise; below 10 dB more than a tenth."""

HIGHEST = 80.0
"""Of the axis; whatever is higher, or exact, is drawn there."""


Place: TypeAlias = Callable[[float], float]
"""The height of a figure: from dB to pixels."""


@dataclass(frozen=True)
class NoisePoint:
    """One layer.

    Args:
        accumulated, own: signal to noise in dB; infinite where nothing changes, None where it is unknown.
        text: what is shown where the pointer rests.
        link: where a click leads.
    """

    name: str
    accumulated: float | None
    own: float | None
    text: str
    link: str


def kind_of(snr: float | None) -> str:
    """``good``, ``fair`` or ``poor``; None, an exact result, is good."""
    return "good" if snr is None or snr >= GOOD else "fair" if snr >= FAIR else "poor"


def noise_lines(points: Sequence[NoisePoint]) -> Markup:
    """Two lines over bands of quality; each layer is a link."""
    known = [value for point in points for value in (point.accumulated, point.own) if value is not None]
    finite = [value for value in known if math.isfinite(value)] or [GOOD]
    top = min(HIGHEST, 10.0 * math.ceil(max(*finite, GOOD) / 10 + 0.2))
    bottom = min(0.0, 10.0 * math.floor(max(min(finite), -20.0) / 10))

    def place(value: float) -> float:
        return BASE * (1 - (min(top, max(bottom, value)) - bottom) / (top - bottom))

    lines = [_line([getattr(point, name) for point in points], name, place) for name in ("own", "accumulated")]
    return plot(
        *_bands(bottom, top, place),
        rows(ticks(bottom, top), place, lambda value: f"{value:.0f}"),
        stretched(*lines, width=len(points), height=BASE),
        *(_point(index, point, len(points), place) for index, point in enumerate(points)),
        element("line", class_="axis", x1="0", x2="100%", y1=BASE, y2=BASE),
        label_below("first layer", 0, HEIGHT - 8),
        label_below("last layer", 1, HEIGHT - 8),
        height=HEIGHT,
        label=f"Signal to noise in dB of {len(points)} layers, in the graph's order",
        role="group",
    )


def _bands(bottom: float, top: float, place: Place) -> list[Markup]:
    ends = (("good", GOOD, top), ("fair", FAIR, GOOD), ("poor", bottom, FAIR))
    drawn = [
        element("rect", class_=f"band {kind}", width="100%", y=place(high), height=place(low) - place(high))
        for kind, low, high in ends
        if high > low
    ]
    return drawn + [
        element("text", text, class_=f"band-name {kind}", x="100%", dx=-6, y=place(high) + 14, text_anchor="end")
        for (kind, low, high), text in zip(ends, ("good", "fair", "poor"), strict=True)
        if place(low) - place(high) >= 16
    ]


def _line(values: Sequence[float | None], name: str, place: Place) -> Markup:
    """A line that breaks where a figure is missing."""
    steps, drawing = [], False
    for index, value in enumerate(values):
        if value is not None:
            steps.append(f"{'L' if drawing else 'M'}{index + 0.5:g} {place(value):.1f}")
        drawing = value is not None
    return element("path", class_=f"line {name}", d="".join(steps))


def _point(index: int, point: NoisePoint, count: int, place: Place) -> Markup:
    middle = percent((index + 0.5) / count)
    dots = [
        element("circle", class_=f"dot {name}", cx=middle, cy=place(value), r=2.5 if count <= 80 else 1.5)
        for name in ("own", "accumulated")
        if (value := getattr(point, name)) is not None
    ]
    column = element("rect", class_="column", x=percent(index / count), width=percent(1 / count), height=BASE)
    return element(
        "a", column, *dots, href=point.link, tabindex=-1, aria_label=f"{point.name}: {point.text}", data_tip=point.text,
        data_head=point.name,
    )  # fmt: skip
