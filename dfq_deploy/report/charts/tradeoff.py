"""Size against error of mixed bit widths."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from dfq_deploy.report.charts.axes import label_below, ticks
from dfq_deploy.report.charts.svg import element, percent, plot, stretched

__all__ = ["tradeoff"]

HEIGHT, BASE = 240, 206


def tradeoff(points: Sequence[Mapping[str, Any]], chosen: int) -> Markup:
    """The curve of at least two points (``size`` as a part of the float file, ``error``), with the chosen one."""
    sizes, errors = [float(point["size"]) for point in points], [float(point["error"]) for point in points]
    widest, highest = max(sizes) * 1.02 or 1.0, max(errors) or 1.0

    def place(error: float) -> float:
        # The square root keeps the flat part of the curve, where the choice lies, off the axis.
        return BASE - (BASE - 10) * math.sqrt(max(0.0, error / highest))

    path = "".join(
        f"{'L' if index else 'M'}{100 * size / widest:.2f} {place(error):.1f}"
        for index, (size, error) in enumerate(zip(sizes, errors, strict=True))
    )
    at = min(chosen, len(points) - 1)
    said = f"chosen: {100 * sizes[at]:.1f} % of the float file, error {errors[at]:.2g}"
    right = sizes[at] > widest / 2
    return plot(
        *(
            element("line", class_="grid", x1="0", x2="100%", y1=place(part * highest), y2=place(part * highest))
            + element("text", f"{part * highest:.2g}", x=-8, y=place(part * highest) + 4, text_anchor="end")
            for part in (0, 0.25, 1)
        ),
        stretched(element("path", class_="line accumulated", d=path), width=100, height=BASE),
        element("circle", class_="chosen", cx=percent(sizes[at] / widest), cy=place(errors[at]), r=5),
        element(
            "text", said, class_="strong", x=percent(sizes[at] / widest), dx=-10 if right else 10,
            y=max(14.0, place(errors[at]) - 12), text_anchor="end" if right else "start",
        ),
        *(label_below(f"{100 * tick:.0f} %", tick / widest, HEIGHT - 12) for tick in ticks(0, widest, 4)),
        height=HEIGHT,
        label=f"Size against error; {said}",
    )  # fmt: skip
