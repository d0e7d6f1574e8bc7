"""Ticks, grid lines and labels of a chart."""

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from dfq_deploy.report.charts.svg import element, percent

__all__ = ["label_below", "rows", "ticks"]

EDGE = 0.12
"""Labels closer to an end of the axis, as part of it, are aligned with that end."""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers from ``low`` to ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * index for index in range(first, math.floor(high / step + 1e-9) + 1)]


def rows(values: Sequence[float], place: Callable[[float], float], text: Callable[[float], str]) -> Markup:
    """A grid line for each value, with its label in the left margin."""
    return Markup("").join(
        element("line", class_="grid", x1="0", x2="100%", y1=place(value), y2=place(value))
        + element("text", text(value), x=-8, y=place(value) + 4, text_anchor="end")
        for value in values
    )


def label_below(text: str, part: float, y: float, **attributes: str) -> Markup:
    """A label under the axis at ``part`` of its length, inside the drawing."""
    anchor = "start" if part < EDGE else "end" if part > 1 - EDGE else "middle"
    return element("text", text, x=percent(part), y=y, text_anchor=anchor, **attributes)
