"""Bars: a figure beside its number, a whole in parts, quartiles."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from dfq_deploy.report.charts.svg import element, percent, plot

__all__ = ["bar", "box", "meter", "parts"]


def meter(part: float, kind: str) -> Markup:
    """A small bar, ``part`` of it filled (0 to 1); the number stands beside it."""
    filled = max(0.02, min(1.0, part))
    return element(
        "svg",
        element("rect", class_="track", width="100%", height=8, rx=2),
        element("rect", class_=kind, width=percent(filled), height=8, rx=2),
        class_="meter", width=72, height=8, aria_hidden="true",
    )  # fmt: skip


def parts(sizes: Mapping[str, float], whole: float, kinds: Mapping[str, str], label: str) -> Markup:
    """One bar, of which each size takes its part of ``whole``.

    Args:
        kinds: class of each part.
    """
    drawn, left = [], 0.0
    for name, size in sizes.items():
        drawn.append(
            element("rect", class_=kinds[name], x=percent(left / whole), width=percent(size / whole), height=22)
        )
        left += size
    return plot(*drawn, height=22, label=label, class_="parts")


def bar(part: float, kind: str, label: str) -> Markup:
    """One bar, ``part`` of the width long (0 to 1)."""
    drawn = element("rect", class_=kind, width=percent(max(0.005, min(1.0, part))), height=22)
    return plot(drawn, height=22, label=label, class_="parts")


def box(quartiles: Sequence[float], low: float, high: float) -> Markup:
    """Smallest, quartiles and largest of positive numbers, on a logarithmic axis from ``low`` to ``high``."""
    span = math.log(high / low) if high > low > 0 else 1.0

    def place(value: float) -> float:
        return math.log(max(value, low) / low) / span if low > 0 else 0.0

    first, lower, middle, upper, last = (min(1.0, place(value)) for value in quartiles)
    return element(
        "svg",
        element("line", class_="whisker", x1=percent(first), x2=percent(last), y1=7, y2=7),
        element("rect", class_="accumulated", x=percent(lower), width=percent(max(0.01, upper - lower)), y=3, height=8),
        element("line", class_="middle", x1=percent(middle), x2=percent(middle), y1=1, y2=13),
        class_="meter", width=120, height=14, aria_hidden="true",
    )  # fmt: skip
