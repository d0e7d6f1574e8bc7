"""Numbers, sizes, durations and names as the report shows them."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

__all__ = ["FORMATS", "breakable", "decibel", "in_words", "number", "prose", "scale", "share", "shortened"]

MINUS = "\N{MINUS SIGN}"

COMMAND = "dfq-deploy "
"""How a remedy that is a command begins."""

NAME, SENTENCE = 96, 900
"""Longest name and longest sentence in characters; of longer ones the middle, and the end, are left out."""


def in_words(calibration: Mapping[str, Any]) -> str:
    """``INT8``, ``W4A4``, or ``mixed widths``, from the report's ``calibration``."""
    bits = str(calibration.get("bits", "w8a8"))
    if calibration.get("layers"):
        return "mixed widths"
    return "INT8" if bits == "w8a8" else bits.split(",", maxsplit=1)[0].upper()


def shortened(text: object, longest: int = NAME) -> str:
    """``text`` with its middle left out where it is longer than ``longest``."""
    whole = str(text)
    if len(whole) <= longest:
        return whole
    part = (longest - 1) // 2
    return f"{whole[:part]}\N{HORIZONTAL ELLIPSIS}{whole[-part:]}"


def breakable(text: object, longest: int = NAME) -> Markup:
    """A name, shortened, that a line may break behind its separators."""
    return Markup("<wbr>").join(part for part in re.split(r"(?<=[/_.:])(?=[^/_.:])", shortened(text, longest)))


def prose(text: object) -> Markup:
    """A sentence in which options stay on one line, and quoted names break behind their separators; or a command."""
    if str(text).startswith(COMMAND):
        return Markup("<code>{}</code>").format(str(text)[:SENTENCE])
    parts = re.split(r"(?<![\w-])(--[a-z][a-z-]*|'[^' ]+')", _sentence(text))
    return Markup("").join(_part(part) for part in parts)


def _part(text: str) -> Markup:
    if text.startswith("--"):
        return Markup('<code class="option">{}</code>').format(text)
    return breakable(text, SENTENCE) if text.startswith("'") else Markup.escape(text)


def _sentence(text: object) -> str:
    """With a capital, and an end; cut where it is very long."""
    whole = str(text).strip().rstrip(".")
    whole = whole if len(whole) <= SENTENCE else f"{whole[:SENTENCE].rstrip()}\N{HORIZONTAL ELLIPSIS}"
    start = whole if whole.startswith("--") else f"{whole[:1].upper()}{whole[1:]}"
    return f"{start}." if whole else ""


def number(value: float | None) -> str:
    """Four significant figures; empty for None."""
    return "" if value is None else f"{value:.4g}".replace("-", MINUS)


def size(value: float | None) -> str:
    """Bytes in kB or MB."""
    if value is None:
        return ""
    if value < 1000:
        return f"{value:.0f} bytes"
    if value >= 1e6:
        return f"{value / 1e6:.2f} MB"
    return f"{value / 1e3:.0f} kB" if value >= 1e5 else f"{value / 1e3:.1f} kB"


def decibel(value: float | None) -> str:
    """Signal to noise; JSON has no infinite one, which None stands for."""
    return "exact" if value is None else f"{value:.1f} dB".replace("-", MINUS)


def percent(value: float | None) -> str:
    """Of a figure in percent."""
    return "" if value is None else f"{value:.1f} %"


def share(value: float | None) -> str:
    """Of a part, 0 to 1, in percent."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    return "< 0.01 %" if value < 1e-4 else f"{100 * value:.2f} %" if value < 0.1 else f"{100 * value:.0f} %"


def factor(value: float | None) -> str:
    """``4.0×``."""
    if value is None:
        return ""
    return f"{value:.2f}\N{MULTIPLICATION SIGN}" if value < 10 else f"{value:.0f}\N{MULTIPLICATION SIGN}"


def milliseconds(value: float | None) -> str:
    """Three significant figures."""
    return "" if value is None else f"{value:.3g} ms"


def signed(value: float | None) -> str:
    """A difference with its sign and one decimal."""
    return "" if value is None else f"{value:+.1f}".replace("-", MINUS)


def command(text: object) -> Markup:
    """A command line, of which options stay on one line each."""
    return Markup(" ").join(
        Markup('<span class="option">{}</span>').format(word) if word.startswith("-") else word
        for word in str(text).split(" ")
    )


def duration(seconds: float | None) -> str:
    """Seconds, or minutes and seconds, or hours and minutes."""
    if seconds is None:
        return ""
    if seconds < 99.5:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def two_figures(value: float | None) -> str:
    """Two significant figures."""
    return "" if value is None else f"{value:.2g}"


def nats(value: float | None) -> str:
    """Two significant figures."""
    return "" if value is None else f"{value:.2g} nats"


def scale(value: float | Sequence[float] | None) -> str:
    """One scale, or the smallest and the largest of the channels."""
    if isinstance(value, Sequence):
        return f"{min(value):.3g} to {max(value):.3g}"
    return number(value)


def confidence(value: float | None) -> str:
    """A probability in whole percent."""
    return "" if value is None or not math.isfinite(value) else f"{100 * value:.0f} %"


def plain(value: object) -> str:
    """As it is."""
    return "" if value is None else str(value)


FORMATS: dict[str, Callable[[Any], str]] = {
    entry.__name__: entry
    for entry in (
        number, size, decibel, percent, share, factor, milliseconds, duration, nats, two_figures,
        signed, command, scale, confidence, plain, prose, breakable, shortened,
    )
}  # fmt: skip
"""By name, for the templates."""
