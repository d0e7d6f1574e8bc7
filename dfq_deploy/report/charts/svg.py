"""Build SVG elements; text and attributes are escaped."""

from collections.abc import Iterable
from typing import TypeAlias

from markupsafe import Markup

__all__ = ["Rectangle", "element", "path_of", "percent", "plot", "stretched"]

Rectangle: TypeAlias = tuple[float, float, float, float]
"""Left, top, width, height."""


def element(tag: str, *children: Markup | str, **attributes: str | float | None) -> Markup:
    """One element: ``element("text", "1 dB", x=5, text_anchor="end", class_="soft")``.

    A trailing underscore of an attribute's name is dropped and the others become hyphens; None leaves it out.
    """
    named = (
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _text(value))
        for name, value in attributes.items()
        if value is not None
    )
    content = Markup("").join(children)
    head = Markup(f"<{tag}") + Markup("").join(named)
    return head + Markup(">") + content + Markup(f"</{tag}>") if content else head + Markup("/>")


def plot(*children: Markup, height: int, label: str, class_: str = "plot", role: str = "img") -> Markup:
    """A drawing as wide as its place and ``height`` pixels high; what lies left of 0 stands in its margin."""
    return element("svg", *children, class_=class_, height=height, role=role, aria_label=label)


def stretched(*children: Markup, width: float, height: int) -> Markup:
    """Children in a system of ``width`` by ``height`` units that is stretched over the whole drawing."""
    return element(
        "svg", *children, width="100%", height=height, viewBox=f"0 0 {_text(width)} {height}",
        preserveAspectRatio="none",
    )  # fmt: skip


def percent(part: float) -> str:
    """A position or length as part of the width, 0 to 1."""
    return f"{_text(100 * part)}%"


def path_of(rectangles: Iterable[Rectangle]) -> str:
    """A path of rectangles."""
    return "".join(
        f"M{_text(left)} {_text(top)}h{_text(width)}v{_text(height)}h{_text(-width)}z"
        for left, top, width, height in rectangles
    )


def _text(value: str | float) -> str:
    """A number with two decimals at most."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
