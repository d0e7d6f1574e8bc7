"""Charts and labels of the report: the name of the bit width, and the curve of size against error."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["in_words", "tradeoff_curve"]

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 240, 64, 34
"""Size of the drawing in pixels, and the margins for the axis labels."""


def in_words(calibration: Mapping[str, Any]) -> str:
    """``INT8``, ``W4A4``, or ``mixed widths``, from the report's ``calibration``."""
    bits = str(calibration.get("bits", "w8a8"))
    if calibration.get("layers"):
        return "mixed widths"
    return "INT8" if bits == "w8a8" else bits.split(",", maxsplit=1)[0].upper()


def tradeoff_curve(calibration: Mapping[str, Any]) -> str:
    """The trade-off as an SVG, size to the right and error upwards; empty if there were fewer than two points."""
    points: Sequence[Mapping[str, Any]] = calibration.get("tradeoff", ())
    if len(points) < 2:
        return ""
    sizes, errors = [float(point["size"]) for point in points], [float(point["error"]) for point in points]
    widest, highest = max(sizes) * 1.02, max(errors) or 1.0

    def place(size: float, error: float) -> tuple[float, float]:
        # The square root keeps the flat part of the curve, where the choice lies, off the axis.
        return LEFT + (WIDTH - LEFT - 10) * size / widest, 10 + (HEIGHT - BOTTOM - 10) * (1 - (error / highest) ** 0.5)

    line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in zip(sizes, errors, strict=True))
    at = min(int(calibration.get("chosen", 0)), len(points) - 1)
    x, y = place(sizes[at], errors[at])
    ticks = [0.25 * index * widest for index in range(5)]
    labels = [
        f'<text x="{place(tick, 0)[0]:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{100 * tick:.0f} %</text>'
        for tick in ticks
    ]
    labels += [
        f'<text x="{LEFT - 8}" y="{place(0, part * highest)[1] + 4:.1f}" text-anchor="end">{part * highest:.2g}</text>'
        for part in (0, 0.25, 1)
    ]
    chosen = escape(f"chosen: {100 * sizes[at]:.1f} % of the size in float32, error {errors[at]:.2g}")
    anchor = "end" if x > WIDTH / 2 else "start"
    return (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{chosen}">'
        f'<polyline points="{LEFT},10 {LEFT},{HEIGHT - BOTTOM} {WIDTH - 10},{HEIGHT - BOTTOM}" class="axis"/>'
        f'<polyline points="{line}" class="line"/><circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        f'<text x="{x + (-8 if anchor == "end" else 8):.1f}" y="{y - 10:.1f}" text-anchor="{anchor}">{chosen}</text>'
        f"{''.join(labels)}</svg>"
    )
