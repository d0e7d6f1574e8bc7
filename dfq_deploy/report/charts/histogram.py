"""Histogram of a tensor with its clipping points and its integers."""

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from dfq_deploy.report.charts.axes import label_below
from dfq_deploy.report.charts.svg import Rectangle, element, path_of, percent, plot, stretched

__all__ = ["histogram", "integers_per_tick"]

HEIGHT, AXIS, BASE = 150, 120, 128
"""Pixels: of the drawing, of the bars, and where the ticks of the integers end."""

MOST_TICKS = 64


def integers_per_tick(drawn: Mapping[str, Any]) -> int:
    """Each tick of the grid stands for so many integers: a power of two, so that at most 64 ticks are drawn."""
    steps = (drawn["clip_high"] - drawn["clip_low"]) / drawn["step"]
    return int(2 ** max(0, math.ceil(math.log2(max(1.0, steps) / MOST_TICKS))))


def histogram(drawn: Mapping[str, Any]) -> Markup:
    """A histogram as report.json holds it; bars are logarithmic, those of values that are clipped stand out."""
    low, high, counts = float(drawn["low"]), float(drawn["high"]), drawn["counts"]
    span = (high - low) or 1.0
    clips = float(drawn["clip_low"]), float(drawn["clip_high"])
    width = span / len(counts)
    inside: list[Rectangle] = []
    outside: list[Rectangle] = []
    most = math.log1p(max(counts, default=0)) or 1.0
    for place, count in enumerate(counts):
        tall = AXIS * math.log1p(count) / most
        center = low + (place + 0.5) * width
        bars = inside if clips[0] <= center <= clips[1] else outside
        if count:
            bars.append((place + 0.04, AXIS - tall, 0.92, tall))
    bars_drawn = stretched(
        element("path", class_="bars", d=path_of(inside)),
        element("path", class_="clipped", d=path_of(outside)),
        width=len(counts),
        height=AXIS,
    )
    label = (
        f"Histogram of {drawn['tensor']}: values from {_value(low)} to {_value(high)}, integers from "
        f"{_value(clips[0])} to {_value(clips[1])}"
    )
    return plot(
        bars_drawn,
        element("line", class_="axis", x1="0", x2="100%", y1=AXIS, y2=AXIS),
        _grid(drawn, low, span),
        *(_clip(value, (value - low) / span) for value in clips),
        _zero(low, span, clips),
        height=HEIGHT,
        label=label,
        class_="plot bare",
    )


def _grid(drawn: Mapping[str, Any], low: float, span: float) -> Markup:
    step = float(drawn["step"]) * integers_per_tick(drawn)
    first, last = float(drawn["clip_low"]), float(drawn["clip_high"])
    count = min(MOST_TICKS, round((last - first) / step))
    places = [(first + index * step - low) / span for index in range(count + 1)]
    return Markup("").join(
        element("line", class_="integer", x1=percent(part), x2=percent(part), y1=AXIS, y2=BASE) for part in places
    )


def _clip(value: float, part: float) -> Markup:
    part = min(1.0, max(0.0, part))
    line = element("line", class_="clip", x1=percent(part), x2=percent(part), y1=0, y2=BASE)
    return line + label_below(_value(value), part, BASE + 16, class_="strong")


def _zero(low: float, span: float, clips: tuple[float, float]) -> Markup:
    part = -low / span
    near = min(abs(part - (clip - low) / span) for clip in clips)
    return label_below("0", part, BASE + 16) if 0 < part < 1 and near > 0.2 else Markup("")


def _value(value: float) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
