"""The range of each channel of a weight."""

import itertools
from collections.abc import Sequence

from markupsafe import Markup

from dfq_deploy.report.charts.axes import label_below, rows, ticks
from dfq_deploy.report.charts.svg import element, path_of, plot, stretched

__all__ = ["channel_ranges"]

HEIGHT, BASE = 150, 122

COLUMNS = 256
"""Of a weight with more channels, a column stands for several, from the smallest to the largest value of them."""

MOST_APART = 100
"""Columns that leave a gap between them."""

THINNEST = 1.5
"""Pixels of height that a channel of zeros has."""


def channel_ranges(name: str, low: Sequence[float], high: Sequence[float]) -> Markup:
    """A bar from the smallest to the largest value of each channel."""
    count = min(COLUMNS, len(low))
    edges = [len(low) * index // count for index in range(count + 1)]
    spans = [(min(low[first:last]), max(high[first:last])) for first, last in itertools.pairwise(edges)]
    bottom, top = min(0.0, *low), max(0.0, *high)
    whole = (top - bottom) or 1.0

    def place(value: float) -> float:
        return 4 + (BASE - 4) * (top - value) / whole

    gap = 0.2 if count <= MOST_APART else 0.0
    bars = [
        (index + gap / 2, place(upper), 1 - gap, max(THINNEST, place(lower) - place(upper)))
        for index, (lower, upper) in enumerate(spans)
    ]
    return plot(
        rows(ticks(bottom, top, 3), place, _value),
        stretched(element("path", class_="bars", d=path_of(bars)), width=count, height=BASE),
        label_below("channel 0", 0, HEIGHT - 8),
        label_below(f"{len(low) - 1}", 1, HEIGHT - 8),
        height=HEIGHT,
        label=f"Smallest and largest value of each of the {len(low)} channels of {name}",
    )


def _value(value: float) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
